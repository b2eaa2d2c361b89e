"""Log lines on the console and in a file for each rank."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from drivetrain.errors import OutputError

__all__ = ["log_every_n", "log_every_n_seconds", "log_first_n", "setup_logger"]

# C0 and C1 controls except tab and newline, and the characters that reorder text: a file name must not be
# able to move the cursor, change colours or hide a line.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_GREEN, _YELLOW, _RED, _RESET = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"


def setup_logger(
    output: str | os.PathLike[str] | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "drivetrain",
    abbrev_name: str | None = None,
) -> logging.Logger:
    """Show a logger's lines on the console (rank 0 only) and write them to a file for each rank.

    A line reads ``[11/22 20:30:01 drivetrain.engine]: message``, with the level in front of the message from
    WARNING up. Calling it again reconfigures: the console handler is renewed, and the file is exchanged if an
    ``output`` is given (and stays if none is), so no line is ever shown twice.

    Records go on to the root logger, so that an application's handlers and pytest's ``caplog`` see them,
    except where the root logger already prints to the console: then each line would appear twice, and
    records stay here.

    Args:
        output: a folder, which gets ``log.txt``, or a file name that ends in ``.txt`` or ``.log``. Rank r > 0
            writes to the same name with ``.rank<r>`` added. Missing folders are made; an existing file is
            appended to.
        distributed_rank: this process' rank.
        color: colour the console where it is a terminal and ``NO_COLOR`` is not set.
        name: the logger, including all those below it (``name.x.y``).
        abbrev_name: what is printed in place of ``name``.

    Raises:
        OutputError: the log file cannot be opened.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    shown = (name, abbrev_name if abbrev_name is not None else name)
    file_handler = None if output is None else _open_file(output, distributed_rank, shown)
    for handler in list(logger.handlers):
        if isinstance(handler, _ConsoleHandler) or (file_handler and isinstance(handler, _LogFileHandler)):
            logger.removeHandler(handler)
            handler.close()
    if distributed_rank == 0:
        console = _ConsoleHandler()
        console.setFormatter(_Formatter(*shown, color=color))
        logger.addHandler(console)
    if file_handler:
        logger.addHandler(file_handler)
    logger.propagate = not any(_prints_to_console(h) for h in logging.getLogger().handlers)
    return logger


def log_first_n(
    lvl: int, msg: str, n: int = 1, *, name: str | None = None, key: str | tuple[str, ...] = "caller"
) -> None:
    """Log a message only the first ``n`` times.

    Args:
        lvl: a level of the ``logging`` module.
        msg: the message.
        n: how many times.
        name: the logger's name; the calling module's by default.
        key: what counts as the same: ``"caller"`` (the calling line), ``"message"``, or a tuple of both.
    """
    logger, caller = _caller(name)
    parts = (key,) if isinstance(key, str) else key
    identity = tuple(caller if part == "caller" else msg for part in parts)
    if _count(logger, ("first", *identity)) <= n:
        logger.log(lvl, msg, stacklevel=2)


def log_every_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None) -> None:
    """Log a message the first time the calling line is reached and then every ``n``-th time."""
    logger, caller = _caller(name)
    if n == 1 or _count(logger, ("every", caller)) % n == 1:
        logger.log(lvl, msg, stacklevel=2)


def log_every_n_seconds(lvl: int, msg: str, n: float = 1, *, name: str | None = None) -> None:
    """Log a message unless the same calling line logged one less than ``n`` seconds ago."""
    logger, caller = _caller(name)
    times: dict[Any, float] = logger.__dict__.setdefault("_drivetrain_times", {})
    now = time.monotonic()
    if caller not in times or now - times[caller] >= n:
        times[caller] = now
        logger.log(lvl, msg, stacklevel=2)


class _Formatter(logging.Formatter):
    """``[time name]: message`` with control characters escaped, and coloured on request."""

    def __init__(self, name: str, shown: str, *, color: bool) -> None:
        super().__init__(datefmt="%m/%d %H:%M:%S")
        self._name, self._shown, self._color = name, shown, color

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        name = record.name
        if name == self._name or name.startswith(self._name + "."):
            name = (self._shown + name[len(self._name) :]).lstrip(".")
        level = f"{record.levelname} " if record.levelno >= logging.WARNING else ""
        lines = [record.message]
        if record.exc_info:
            lines.append(self.formatException(record.exc_info))
        if record.stack_info:
            lines.append(self.formatStack(record.stack_info))
        head = f"[{self.formatTime(record, self.datefmt)} {name}]:"
        body = "\n".join(lines)
        if not body.isprintable():
            body = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", body)
        if self._color and _is_terminal(sys.stdout):
            head = f"{_GREEN}{head}{_RESET}"
            shade = _RED if record.levelno >= logging.ERROR else _YELLOW
            level = f"{shade}{level}{_RESET}" if level else ""
        return f"{head} {level}{body}"


class _ConsoleHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever ``sys.stdout`` is at that moment (progress bars and tests exchange it)."""

    def __init__(self) -> None:
        logging.Handler.__init__(self, logging.DEBUG)
        self._failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once that the console is gone (a closed pipe), instead of a traceback for each line."""
        if not self._failed:
            self._failed = True
            with contextlib.suppress(OSError, ValueError):
                print(f"cannot write log lines to the console: {sys.exc_info()[1]}", file=sys.stderr)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stdout


class _LogFileHandler(logging.FileHandler):
    """A log file whose failures (a full disk) are told once and never end a run."""

    _failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self._failed:
            self._failed = True
            print(f"cannot write to the log file {self.baseFilename}: {sys.exc_info()[1]}", file=sys.stderr)


def _open_file(output: str | os.PathLike[str], rank: int, shown: tuple[str, str]) -> _LogFileHandler:
    """The handler of this rank's log file."""
    path = Path(output)
    if path.suffix not in (".txt", ".log"):
        path = path / "log.txt"
    if rank > 0:
        path = path.with_name(f"{path.name}.rank{rank}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _LogFileHandler(path, mode="a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(
            f"the log file {path} cannot be written ({error.strerror or error}): choose another OUTPUT_DIR"
        ) from error
    handler.setFormatter(_Formatter(*shown, color=False))
    return handler


def _prints_to_console(handler: logging.Handler) -> bool:
    """Whether a handler writes to this process' console."""
    stream = getattr(handler, "stream", None)
    return stream is not None and any(stream is s for s in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__))


def _is_terminal(stream: Any) -> bool:
    """Whether colours make sense on a stream."""
    isatty = getattr(stream, "isatty", None)
    return "NO_COLOR" not in os.environ and isatty is not None and bool(isatty())


def _caller(name: str | None) -> tuple[logging.Logger, tuple[str, int]]:
    """The logger to use and the (file, line) that called the public function which calls this."""
    frame: FrameType = sys._getframe(2)
    module = frame.f_globals.get("__name__", "drivetrain")
    return logging.getLogger(name or str(module)), (frame.f_code.co_filename, frame.f_lineno)


def _count(logger: logging.Logger, key: tuple[Any, ...]) -> int:
    """How often a key was seen, this time included. The count lives on the logger, which is global anyway."""
    counts: Counter[Any] = logger.__dict__.setdefault("_drivetrain_counts", Counter())
    counts[key] += 1
    return counts[key]
