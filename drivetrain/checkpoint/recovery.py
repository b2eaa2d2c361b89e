"""Which checkpoint to continue from when some of them may be damaged."""

from __future__ import annotations

import logging

from drivetrain.checkpoint.folder import CheckpointFolder
from drivetrain.errors import CheckpointError, CorruptCheckpointError

__all__ = ["newest_whole"]

_logger = logging.getLogger(__name__)


def newest_whole(folder: CheckpointFolder, *, may_rename: bool) -> str:
    """The newest checkpoint of a folder that is whole.

    Damaged files before it are set aside (renamed to ``*.corrupt``), with a message that says how many
    iterations are lost.

    Args:
        folder: where to look.
        may_rename: whether damaged files are renamed, or only passed over.

    Returns:
        The file's name, or ``""`` where there never was a checkpoint.

    Raises:
        CheckpointError: there were checkpoints, but none can be used.
    """
    passed: list[str] = []
    newest: int | None = None
    for name in list(folder.candidates()):
        iteration = folder.iteration(name)
        problem = _problem(folder, name)
        if problem is None:
            if passed:
                lost = "" if newest is None or iteration is None else f": {newest - iteration} iterations are lost"
                _logger.warning("Falling back from %s to %s%s", ", ".join(passed), name, lost)
            else:
                _tell_if_behind(folder, name, iteration)
            return name
        aside = may_rename and isinstance(problem, CorruptCheckpointError)
        _logger.error("Passed over %s%s: %s", name, f" ({folder.set_aside(name)})" if aside else "", problem)
        newest = iteration if newest is None else newest
        passed.append(name)
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


def _tell_if_behind(folder: CheckpointFolder, name: str, iteration: int | None) -> None:
    """Say that ``last_checkpoint`` names an older file than the newest one: by hand, or by damage to it."""
    last = folder.manifest().role("last")
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
