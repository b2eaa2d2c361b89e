"""A progress display at the bottom of a terminal."""

from __future__ import annotations

import datetime
import errno
import logging
import math
import random
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from drivetrain.events.storage import EventStorage

from .base import FailSafeWriter
from .console import peak_gpu_memory

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

__all__ = ["ProgressBar"]


class ProgressBar(FailSafeWriter):
    """Shows iteration, losses, learning rate, speed, time left, share of data wait, and GPU memory.

    On a terminal two lines stay at the bottom, and log lines scroll above them; elsewhere (files, pipes,
    notebooks) nothing is shown. There is no thread: the display changes only in :meth:`write`, which may be
    called every iteration, since it returns at once until ``interval`` seconds have passed. If drawing fails
    the display is given up and training goes on.

    Args:
        max_iter: the iteration at which training ends.
        window_size: losses and times are medians over this many iterations.
        interval: seconds between two refreshes.
        console: where to draw; standard output by default.
    """

    def __init__(
        self, max_iter: int, window_size: int = 20, *, interval: float = 0.5, console: Console | None = None
    ) -> None:
        super().__init__()
        with _python_random_kept():
            from rich.console import Console

            self._console = console or Console()
        # rich would end the process with SystemExit when the terminal is gone.
        vars(self._console)["on_broken_pipe"] = _raise_broken_pipe
        self._max_iter = max_iter
        self._window_size = window_size
        self._interval = interval
        # FORCE_COLOR makes rich take a pipe for a terminal; only a console that was given may do that.
        terminal = self._console.is_terminal and (console is not None or self._console.file.isatty())
        self._enabled = terminal and not self._console.is_dumb_terminal
        self._live: Live | None = None
        self._release: weakref.finalize[Any, Any] | None = None
        self._speed = _Speed()
        self._drawn_at = -math.inf

    def write_events(self, storage: EventStorage) -> None:
        """Refresh the display, if it is time to."""
        now = time.perf_counter()
        last = storage.iter >= self._max_iter - 1
        if not self._enabled or (now - self._drawn_at < self._interval and not last):
            return
        self._drawn_at = now
        try:
            self._speed.update(min(storage.iter + 1, self._max_iter), now)
            with _python_random_kept():
                self._draw(self._display(storage))
        except Exception:
            self._enabled = False
            with suppress(Exception):  # the error above is the one to tell
                self._give_back()
            raise

    def _draw(self, display: RenderableType) -> None:
        if self._live is None:
            self._start()
        if self._live is not None:
            self._live.update(display, refresh=True)

    def close(self) -> None:
        """Leave the last state on the terminal and give the terminal back."""
        try:
            self._give_back()
        except Exception as error:
            self.note_failure(error)

    def _give_back(self) -> None:
        self._live = None
        release, self._release = self._release, None
        if release is not None:
            release()

    def _start(self) -> None:
        from rich.live import Live

        outer = sys.stdout, sys.stderr
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        redirected: list[tuple[logging.StreamHandler[TextIO], TextIO]] = []
        # At the latest when the interpreter ends, so that the cursor never stays hidden.
        self._release = weakref.finalize(self, _stop, self._live, redirected)
        self._live.start()
        redirected += _redirect_handlers(outer)

    def _display(self, storage: EventStorage) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar as Bar
        from rich.table import Table
        from rich.text import Text

        done = min(storage.iter + 1, self._max_iter)
        line = Table.grid(padding=(0, 1), expand=True)
        line.add_column(no_wrap=True)
        line.add_column(ratio=1)
        for _ in range(3):
            line.add_column(no_wrap=True, justify="right")
        line.add_row(
            Text(f"{done / max(self._max_iter, 1):4.0%}", style="bold"),
            Bar(total=max(self._max_iter, 1), completed=done),
            Text(f"{done}/{self._max_iter}", style="cyan"),
            Text(self._speed.text()),
            Text(f"eta {self._speed.eta(self._max_iter - done)}", style="green"),
        )
        details = Text("  ".join(self._details(storage)), no_wrap=True, overflow="ellipsis", style="dim")
        return Group(line, details)

    def _details(self, storage: EventStorage) -> list[str]:
        """Total loss first, then the other losses, learning rate, data wait, memory."""
        latest = storage.latest_with_smoothing_hint(self._window_size)
        losses = sorted((n for n in latest if "loss" in n), key=lambda name: name != "total_loss")
        parts = [f"{name} {latest[name][0]:.4g}" for name in losses]
        if "lr" in latest:
            parts.append(f"lr {latest['lr'][0]:.3g}")
        if "data_time" in latest and self._speed.seconds:
            share = min(latest["data_time"][0] / self._speed.seconds, 1.0)
            parts.append(f"data wait {share:.0%}")
        if peak := peak_gpu_memory():
            parts.append(f"mem {peak / 2**30:.1f} GiB")
        return parts


class _Speed:
    """Seconds per iteration, averaged over the last refreshes so that the numbers do not flicker."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last: tuple[int, float] | None = None

    def update(self, done: int, now: float) -> None:
        """Note that ``done`` iterations were finished at the time ``now``."""
        if self._last is not None and done > self._last[0]:
            newest = (now - self._last[1]) / (done - self._last[0])
            self.seconds = 0.7 * self.seconds + 0.3 * newest if self.seconds else newest
        if self._last is None or done > self._last[0]:
            self._last = (done, now)

    def text(self) -> str:
        """Iterations per second, or seconds per iteration when it is slow."""
        if not self.seconds:
            return ""
        return f"{1 / self.seconds:.1f} it/s" if self.seconds < 1 else f"{self.seconds:.1f} s/it"

    def eta(self, left: int) -> str:
        """H:MM:SS until ``left`` more iterations are done."""
        if left <= 0:
            return "0:00:00"
        return str(datetime.timedelta(seconds=int(self.seconds * left))) if self.seconds else "-:--:--"


@contextmanager
def _python_random_kept() -> Iterator[None]:
    """rich draws from Python's generator (``Style`` numbers links by it, already when imported); take it back."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def _raise_broken_pipe() -> NoReturn:
    raise BrokenPipeError(errno.EPIPE, "the terminal is gone")


def _redirect_handlers(
    outer: tuple[TextIO, TextIO],
) -> list[tuple[logging.StreamHandler[TextIO], TextIO]]:
    """Point root log handlers that hold the terminal's own streams to those that print above the display.

    Handlers that look up ``sys.stdout`` for each line need nothing. Returns the handlers changed and their
    streams.
    """
    changed: list[tuple[logging.StreamHandler[TextIO], TextIO]] = []
    for handler in [*logging.getLogger().handlers, *logging.getLogger("drivetrain").handlers]:
        if not isinstance(handler, logging.StreamHandler) or "stream" not in vars(handler):
            continue
        for before, now in zip(outer, (sys.stdout, sys.stderr), strict=True):
            if handler.stream is before and before is not now:
                handler.setStream(now)
                changed.append((handler, before))
                break
    return changed


def _stop(live: Live, redirected: list[tuple[logging.StreamHandler[TextIO], TextIO]]) -> None:
    """End the display and give log handlers their streams back."""
    try:
        live.stop()
    finally:
        for handler, stream in redirected:
            handler.setStream(stream)
