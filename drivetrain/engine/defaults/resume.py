"""What a resume is going to do, said before it does it; and whether anything is left to do."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from .trainer import DefaultTrainer

__all__ = ["EndMark", "ResumePlan", "config_differences"]

logger = logging.getLogger(__name__)

_PARTS = {
    "data_loader": "data position",
    "events": "recent metrics",
    "grad_scaler": "gradient scaler",
    "non_finite": "count of steps left out",
    "rng": "random generators",
}


@dataclass(frozen=True)
class ResumePlan:
    """The plan of a resume.

    Attributes:
        file: the checkpoint.
        start_iter: the first iteration to run.
        max_iter: where training ends.
        restored: what goes on as if there had been no interruption.
        missing: what starts anew, for the checkpoint does not hold it.
        differences: config keys whose values changed, as ``KEY: old -> new``.
    """

    file: str
    start_iter: int
    max_iter: int
    restored: tuple[str, ...]
    missing: tuple[str, ...]
    differences: tuple[str, ...]

    @classmethod
    def of(cls, trainer: DefaultTrainer, file: str, metadata: Mapping[str, Any]) -> ResumePlan:
        """The plan for a trainer that has just been restored.

        Args:
            trainer: the trainer.
            file: the checkpoint's path.
            metadata: the checkpoint's metadata.
        """
        restored = [_PARTS.get(part, part) for part in ("model", *trainer.restored_parts)]
        current = trainer.state_dict()
        wanted = [*current["_trainer"], *(f"hook {key}" for key in current.get("hooks", {}))]
        missing = [_PARTS.get(part, part) for part in wanted if part not in trainer.restored_parts]
        saved = yaml.safe_load(metadata.get("config", "") or "{}")
        changes = config_differences(saved, yaml.safe_load(trainer.cfg.dump())) if saved else ()
        return cls(file, trainer.start_iter, trainer.max_iter, tuple(restored), tuple(missing), tuple(changes))

    def log(self) -> None:
        """Write the plan to the log."""
        left = max(0, self.max_iter - self.start_iter)
        lines = [
            f"Continues at iteration {self.start_iter} of {self.max_iter}, {left} left, from {self.file}",
            f"  restored: {', '.join(self.restored)}",
        ]
        if self.missing:
            lines.append(f"  not in the checkpoint, starts anew: {', '.join(self.missing)}")
        lines += [f"  config differs: {difference}" for difference in self.differences]
        logger.info("%s", "\n".join(lines))


def config_differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Keys with different values in two nested dicts, each as ``KEY: old -> new``."""
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key, "(none)"), new.get(key, "(none)")
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from config_differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key}: {before!r} -> {after!r}"


class EndMark:
    """A file in the output folder which says that a training is over, its last evaluation and final work included.

    The last checkpoint cannot say so, for it is written before them.

    Args:
        folder: the output folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self._path = Path(folder) / "finished.json"

    @property
    def iteration(self) -> int | None:
        """The last iteration of the training that is over; None if there is none."""
        try:
            found = json.loads(self._path.read_text())["iteration"]
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return found if isinstance(found, int) else None

    def set(self, iteration: int) -> None:
        """Write it, if there is such a folder. A full disk ends no training: a resume would evaluate once more."""
        if not self._path.parent.is_dir():
            return
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        try:
            temporary.write_text(json.dumps({"iteration": iteration}) + "\n")
            os.replace(temporary, self._path)
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._path, error)

    def remove(self) -> None:
        """Take it away: a training begins."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("%s cannot be removed: %s", self._path, error)
