"""What a signal does before the training begins, when there is nothing to save yet. Imports nothing that takes time."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["EXIT_RESUMABLE", "before_startup", "resumable_startup"]

EXIT_RESUMABLE = 75  # EX_TEMPFAIL: run me again
_SIGNALS = tuple(s for name in ("SIGTERM", "SIGUSR1") if (s := getattr(signal, name, None)) is not None)


@contextmanager
def resumable_startup(folder: str) -> Iterator[None]:
    """Within the block, SIGTERM and SIGUSR1 end the process at once, and truthfully.

    With a checkpoint in the folder, that is by ``SystemExit(75)``, which tells a cluster to run it again and cleans up
    on its way; without one by the signal itself, as any process that has done nothing yet. A
    :class:`PreemptionCheckpointer` takes over when the training begins; after the training the handlers are again
    those of before the block. SIGINT keeps raising KeyboardInterrupt. Signals need the main thread: elsewhere the
    block changes nothing.

    Args:
        folder: where the training has its checkpoints.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    handlers = {number: _AtStartup(folder, previous) for number, previous in before.items()}
    for number, handler in handlers.items():
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, _settable(before[number]))


def before_startup(handler: Any) -> Any:
    """The handler that a handler of :func:`resumable_startup` replaced; any other one as it is."""
    return handler.before if isinstance(handler, _AtStartup) else handler


class _AtStartup:
    """A signal handler.

    Args:
        folder: where checkpoints are.
        before: the handler that it replaces.
    """

    def __init__(self, folder: str, before: Any) -> None:
        self.before = before
        self._pointer = os.path.join(folder, "last_checkpoint")
        self._process = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Runs between any two instructions, while modules are being imported too: it imports nothing."""
        if os.getpid() == self._process and os.path.exists(self._pointer):
            raise SystemExit(EXIT_RESUMABLE)
        signal.signal(number, _settable(self.before))
        os.kill(os.getpid(), number)


def _settable(handler: Any) -> Any:
    """What ``signal.signal`` takes for what ``signal.getsignal`` gave: None is a handler that is not Python's."""
    return signal.SIG_DFL if handler is None else handler
