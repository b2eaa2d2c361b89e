"""Saving at regular intervals, and deleting what is no longer wanted."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from drivetrain.checkpoint.background import alarm
from drivetrain.checkpoint.checkpointer import Checkpointer
from drivetrain.errors import UserInputError

__all__ = ["PeriodicCheckpointer", "save_beside_training"]


def save_beside_training(
    checkpointer: Any, name: str, done: Callable[[Exception | None], None], *, overlap: bool = False, **extra: Any
) -> None:
    """Save in the background, unless ``save`` is the user's own, which may count on the file when it returns.

    Args:
        checkpointer: a `Checkpointer`, or anything with ``save(name, **extra)``.
        name: the file's name without ``.pth``.
        done: called when the file is on the disk, with None, or with the error, perhaps in another thread.
        overlap: as for `Checkpointer.save_in_background`.
        extra: for ``save``.
    """
    if getattr(checkpointer.save, "__func__", None) is Checkpointer.save:
        checkpointer.save_in_background(name, done=done, overlap=overlap, **extra)
        return
    try:
        checkpointer.save(name, **extra)
    except OSError as error:
        done(error)
    else:
        done(None)


class PeriodicCheckpointer:
    """Saves ``model_0004999`` and the like each ``period`` iterations, and ``model_final`` at the end.

    The periodic ones are copied and written beside the training (see `Checkpointer.save_in_background`, ``overlap``);
    the final one is on the disk when `step` returns.

    Args:
        checkpointer: what saves.
        period: saves after each iteration i (from 0) for which ``(i + 1) % period == 0``; 0 saves at the end
            only.
        max_iter: the number of iterations; with it, the last one also saves ``<file_prefix>_final``.
        max_to_keep: how many periodic files stay; all by default. An older file is deleted only after the new
            one is saved and verified, and never if it is the best, the final or the last one. The count
            includes the files of earlier runs in the folder.
        file_prefix: how names begin; files with other prefixes are left alone.

    Raises:
        UserInputError: ``period`` or ``max_to_keep`` is no sensible number.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        period: int,
        max_iter: int | None = None,
        max_to_keep: int | None = None,
        file_prefix: str = "model",
    ) -> None:
        if int(period) < 0:
            raise UserInputError(f"the checkpoint period is {period!r}: give a number of iterations, or 0 for none")
        if max_to_keep is not None and int(max_to_keep) < 1:
            raise UserInputError(f"max_to_keep is {max_to_keep!r}: give 1 or more, or None to keep all files")
        self.checkpointer = checkpointer
        self.period = int(period)
        self.max_iter = max_iter
        self.max_to_keep = max_to_keep
        self.file_prefix = file_prefix

    def step(self, iteration: int, **kwargs: Any) -> None:
        """Save if it is time to; call it after each iteration, from 0.

        A periodic save that fails for want of disk space or the like is an alarm in the log and no reason to
        end the training; a final one that fails is an error.

        Raises:
            OutputError: the final checkpoint cannot be written.
        """
        iteration = int(iteration)
        if self.period and (iteration + 1) % self.period == 0:
            name, then = f"{self.file_prefix}_{iteration:07d}", partial(self._saved, iteration)
            save_beside_training(self.checkpointer, name, then, overlap=True, iteration=iteration, **kwargs)
        if self.max_iter is not None and iteration >= self.max_iter - 1:
            self.save(f"{self.file_prefix}_final", iteration=iteration, **kwargs)

    def save(self, name: str, **kwargs: Any) -> None:
        """Save now, under any name."""
        self.checkpointer.save(name, **kwargs)

    def _saved(self, iteration: int, error: Exception | None) -> None:
        """When a periodic save is through: delete what is too many."""
        if error is not None:
            alarm(f"after iteration {iteration}", error)
        elif self.max_to_keep is not None and self.checkpointer.save_to_disk and self.checkpointer.save_dir:
            try:
                self._delete_old(self.max_to_keep)
            except Exception as problem:
                alarm(f"to delete older files after iteration {iteration}", problem)

    def _delete_old(self, keep: int) -> None:
        """Delete the periodic files that were saved first, beyond ``keep``; entries without a file do not count."""
        own = re.compile(re.escape(self.file_prefix) + r"_\d{7,}\.pth")
        folder = self.checkpointer.folder
        entries = folder.manifest().entries
        listed = list(dict.fromkeys(e.file for e in reversed(entries) if own.fullmatch(e.file)))  # the last one first
        present = set(folder.files())
        spared = {*[file for file in listed if file in present][:keep], *(e.file for e in entries if e.roles)}
        folder.remove(file for file in listed if file not in spared)
