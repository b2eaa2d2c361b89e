"""What a signal does before the training begins, when there is nothing to save yet. Imports nothing that takes time."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["EXIT_RESUMABLE", "asked_at_startup", "before_startup", "resumable_startup"]

EXIT_RESUMABLE = 75  # EX_TEMPFAIL: run me again
_AGAIN = "before the first step: there is nothing new to save or to resume, run the same command again"
_SIGNALS = tuple(s for name in ("SIGTERM", "SIGUSR1") if (s := getattr(signal, name, None)) is not None)


@contextmanager
def resumable_startup(sentence: str = _AGAIN) -> Iterator[None]:
    """Within the block, SIGTERM and SIGUSR1 end the process at once by ``SystemExit(75)``, with a sentence.

    Nothing was trained, so nothing has to be saved: what was asked for can be asked for again, which the exit code
    tells a cluster and the sentence a person. The exception cleans up on its way. A :class:`PreemptionCheckpointer`
    takes over when the training begins; after the training the handlers are again those of before the block. SIGINT
    keeps raising KeyboardInterrupt; a signal that is ignored or has a handler of the user's keeps that. The same end
    have started processes that such a signal ended before they came here themselves (``SystemExit(128 + signal)``, as
    :func:`drivetrain.engine.launch` raises it). Blocks may be nested. Signals need the main thread: elsewhere the
    block changes nothing.

    Args:
        sentence: what is said after the signal's name: that nothing is lost, and the command that goes on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    handlers = {number: _AtStartup(sentence, previous) for number, previous in before.items()}
    for number, handler in handlers.items():
        signal.signal(number, handler)
    try:
        yield
    except SystemExit as error:
        number = error.code - 128 if isinstance(error.code, int) else 0
        if number not in _SIGNALS:
            raise
        _say(number, sentence)
        raise SystemExit(EXIT_RESUMABLE) from None
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, _settable(before[number]))


def before_startup(handler: Any) -> Any:
    """The handler that a handler of :func:`resumable_startup` replaced; any other one as it is."""
    return handler.before if isinstance(handler, _AtStartup) else handler


def asked_at_startup(handler: Any) -> bool:
    """Whether a signal came to a handler of :func:`resumable_startup` and something kept it from ending the process.

    An exception that a signal handler raises is lost where the interpreter cannot hand it on, as in a ``__del__``.
    """
    return isinstance(handler, _AtStartup) and handler.asked


class _AtStartup:
    """A signal handler.

    Args:
        sentence: as above.
        previous: the handler that it replaces.
    """

    def __init__(self, sentence: str, previous: Any) -> None:
        self.before = before_startup(previous)
        self.asked = asked_at_startup(previous)
        self._sentence = sentence
        self._process = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Runs between any two instructions, while modules are being imported too: it imports nothing."""
        if os.getpid() != self._process:  # a forked worker of a loader
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif callable(self.before):
            self.before(number, frame)
        elif self.before is not signal.SIG_IGN:
            self.asked = True
            _say(number, self._sentence)
            raise SystemExit(EXIT_RESUMABLE)


def _say(number: int, sentence: str) -> None:
    """By rank 0, and past Python's buffers, which the signal may have come into the middle of."""
    if os.environ.get("RANK", "0") == "0":
        os.write(2, f"\n{signal.Signals(number).name} {sentence}\n".encode())


def _settable(handler: Any) -> Any:
    """What ``signal.signal`` takes for what ``signal.getsignal`` gave: None is a handler that is not Python's."""
    return signal.SIG_DFL if handler is None else handler
