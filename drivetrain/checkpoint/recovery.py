"""Which checkpoint to continue from when some of them may be damaged."""

from __future__ import annotations

import logging

from drivetrain.checkpoint.folder import CheckpointFolder
from drivetrain.errors import CheckpointError, CorruptCheckpointError

__all__ = ["newest_whole"]

_logger = logging.getLogger(__name__)


def newest_whole(folder: CheckpointFolder, *, may_rename: bool) -> str:
    """The newest checkpoint of a folder that is whole.

    Files before it that are damaged, or hold what no training saves, are set aside (renamed to ``*.corrupt``), with a
    message that says how many iterations are lost. Where none can be used, all stay.

    Args:
        folder: where to look.
        may_rename: whether files are renamed, or only passed over.

    Returns:
        The file's name, or ``""`` where there never was a checkpoint.

    Raises:
        CheckpointError: there were checkpoints, but none can be used.
    """
    passed: dict[str, CheckpointError] = {}
    for name in list(folder.candidates()):
        problem = _problem(folder, name)
        if problem is None:
            if passed:
                _fall_back(folder, passed, name, may_rename)
            else:
                _tell_if_behind(folder, name)
            return name
        _logger.error("Passed over %s: %s", name, problem)
        passed[name] = problem
    if traces := folder.was_used():
        raise CheckpointError(
            f"{folder.path} had checkpoints ({', '.join(traces[:5])}), but none of them can be used: restore one, "
            "choose another OUTPUT_DIR, or start anew without --resume"
        )
    return ""


def _problem(folder: CheckpointFolder, name: str) -> CheckpointError | None:
    """What is wrong with a file, or None."""
    try:
        folder.verify(name)
    except CheckpointError as error:
        return error
    return None


def _fall_back(folder: CheckpointFolder, passed: dict[str, CheckpointError], name: str, may_rename: bool) -> None:
    """Set damaged files aside, now that another one could be read, and say what is lost."""
    newest, iteration = folder.iteration(next(iter(passed))), folder.iteration(name)
    lost = "" if newest is None or iteration is None else f": {newest - iteration} iterations are lost"
    damaged = [file for file, problem in passed.items() if isinstance(problem, CorruptCheckpointError)]
    told = "".join(f"; {file} {folder.set_aside(file)}" for file in damaged if may_rename)
    _logger.warning("Falling back from %s to %s%s%s", ", ".join(passed), name, lost, told)


def _tell_if_behind(folder: CheckpointFolder, name: str) -> None:
    """Say that ``last_checkpoint`` names an older file than the newest one: by hand, or by damage to it."""
    last, iteration = folder.manifest().role("last"), folder.iteration(name)
    if last is None or last.file not in folder.files() or None in (iteration, last.iteration):
        return
    if (behind := (last.iteration or 0) - (iteration or 0)) > 0:
        _logger.warning(
            "last_checkpoint names %s, which is %d iterations before %s, the newest: change that file if this is not "
            "what you want",
            name,
            behind,
            last.file,
        )
