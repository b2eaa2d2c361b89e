"""Which process failed first, and the error to raise for it."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from drivetrain import errors
from drivetrain.errors import TrainingError, UserInputError

__all__ = ["failure"]


class _WorkerTraceback(Exception):
    """The traceback of another process, as text; shown as the cause of an error."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


def failure(folder: Path, attempt: int, exit_codes: dict[int, int | None]) -> BaseException:
    """The error for a launch whose processes failed.

    A process that was killed, or ended without a word, comes first, since those that report only lost the
    connection to it. Otherwise the first that reported an error did. One that was ended (SIGTERM) after that
    is no cause.

    Args:
        folder: has the reports ``error-<attempt>-<rank>.json``.
        attempt: the attempt that failed.
        exit_codes: global rank -> exit code, negative for a signal.

    Returns:
        The same kind of UserInputError as the process raised; SystemExit with the process' code if it asked
        to exit; otherwise a TrainingError with the process' traceback.
    """
    reports = sorted((_read(p) for p in folder.glob(f"error-{attempt}-*.json")), key=lambda r: float(r["time"]))
    reported = {report["rank"] for report in reports}
    signals = {rank: -code for rank, code in exit_codes.items() if code and code < 0 and rank not in reported}
    killed = sorted(rank for rank, number in signals.items() if number != signal.SIGTERM)
    silent = {rank: code for rank, code in exit_codes.items() if code and code > 0 and rank not in reported}
    if reports and not killed and not (silent and all(map(_lost_connection, reports))):
        return _reported(reports[0])
    if killed or (signals and not silent):
        rank = killed[0] if killed else min(signals)
        return TrainingError(_killed(rank, signals[rank]))
    if not silent:
        return TrainingError("a process failed on another machine; the log there has the reason")
    rank, code = min(silent.items())
    return TrainingError(
        f"the process of rank {rank} ended with exit code {code} and left no error; see the output above"
    )


def _killed(rank: int, number: int) -> str:
    """The message for a process that a signal ended."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = {
        "SIGKILL": "; the system does so when memory runs out (see dmesg): use smaller batches or fewer workers",
        "SIGSEGV": "; a native library crashed: see the output above",
        "SIGBUS": "; often shared memory is full: use fewer loader workers or a larger /dev/shm",
    }.get(name, "")
    return f"the process of rank {rank} was killed by {name}, and all others were ended{hint}"


def _lost_connection(report: dict[str, Any]) -> bool:
    """Whether all that a process knew was that another one is gone."""
    text = f"{report['type']} {report['message']}".lower()
    return any(sign in text for sign in ("connection", "peer", "distbackenderror", "distnetworkerror"))


def _reported(report: dict[str, Any]) -> BaseException:
    """The error for what a process reported."""
    if report["exit_code"] is not None:
        return SystemExit(report["exit_code"])
    message, text = str(report["message"]), str(report["traceback"])
    kind = getattr(errors, report["type"], None) if report["module"] == errors.__name__ else None
    if isinstance(kind, type) and issubclass(kind, UserInputError):
        error = kind(message)
        error.__cause__ = _WorkerTraceback(text)
        return error
    return TrainingError(f"rank {report['rank']} failed with {report['type']}: {message}\n\n{text}")


def _read(path: Path) -> dict[str, Any]:
    """One report."""
    data: dict[str, Any] = json.loads(path.read_text())
    return data
