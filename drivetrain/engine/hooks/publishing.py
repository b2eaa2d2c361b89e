"""Results that hooks publish, the newest ones kept beside the checkpoints for a training that goes on from there."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drivetrain.checkpoint.files import atomic_write
from drivetrain.errors import OutputError
from drivetrain.runtime import comm

from .schedule import PeriodicHook

__all__ = ["FILE_NAME", "PublishingHook"]

FILE_NAME = "last_evaluation.json"

logger = logging.getLogger(__name__)


class PublishingHook(PeriodicHook):
    """A periodic hook whose results, flat names to numbers, go to the storage and to every hook's ``after_evaluation``.

    A checkpoint may be written before the results of its iteration are there; that of the last iteration always is. A
    training that goes on from it, resumed or made longer, takes the results from ``last_evaluation.json`` in the folder
    of the trainer's ``checkpointer``, if they are there, rather than compute them again.
    """

    _on_all_ranks = False  # whether hooks get the results on all ranks, rather than on rank 0

    def before_train(self) -> None:
        """Forget results of iterations that are to be made again, or of another training; then as the base class."""
        entry = self._entries().get(self._name()) if comm.is_main_process() else None
        if entry is not None and not (self._restored and entry["iteration"] < self.trainer.start_iter):
            self._keep(None)
        super().before_train()

    def publish(self, iteration: int, results: Mapping[str, float]) -> None:
        """Keep the results and tell them to all hooks, which may save checkpoints then."""
        self._done = iteration
        if comm.is_main_process():
            self._keep({"iteration": iteration, "results": {name: _plain(value) for name, value in results.items()}})
        self.trainer.after_evaluation(results)

    def _put(self, iteration: int, results: Mapping[str, float]) -> None:
        for name, value in results.items():
            self.trainer.storage.put_scalar(name, value, smoothing_hint=False, cur_iter=iteration)

    def _make_up(self, iteration: int) -> None:
        goes_on = iteration + 1 < self.trainer.max_iter  # else it comes in after_train, as without an interruption
        kept = comm.all_gather(self._kept(iteration))[0] if goes_on else None
        if kept is None:
            super()._make_up(iteration)
            return
        logger.info("%s has the results of iteration %d from before", type(self).__name__, iteration)
        results = kept if self._on_all_ranks or comm.is_main_process() else {}

        def publish() -> None:
            self._put(iteration, results)
            self.publish(iteration, results)

        self._as_after(iteration, publish)

    # The file

    def _kept(self, iteration: int) -> dict[str, float] | None:
        """The results of an iteration; None if they are not kept, or not on this rank."""
        entry = self._entries().get(self._name()) if comm.is_main_process() else None
        if entry is None or entry["iteration"] != iteration:
            return None
        return {name: float(value) for name, value in entry["results"].items()}

    def _keep(self, entry: dict[str, Any] | None) -> None:
        """Write this hook's entry, or take it away. A full disk ends no training: results are computed again then."""
        if (path := self._path()) is None:
            return
        entries = {name: other for name, other in self._entries().items() if name != self._name()}
        if entry is not None:
            entries[self._name()] = entry
        text = json.dumps(entries, indent=1) + "\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, lambda file: file.write(text.encode()))
        except (OSError, OutputError) as error:
            logger.warning("%s cannot be written: %s", path, error)
            with contextlib.suppress(OSError):
                path.unlink()  # what it says may be of an iteration that is made again

    def _entries(self) -> dict[str, Any]:
        """What the file holds, by hook; what cannot be read is left out."""
        try:
            entries = json.loads(path.read_bytes()) if (path := self._path()) is not None else {}
        except (OSError, ValueError, RecursionError):
            return {}
        return {k: v for k, v in entries.items() if _is_entry(v)} if isinstance(entries, dict) else {}

    def _path(self) -> Path | None:
        folder = getattr(getattr(self.trainer, "checkpointer", None), "save_dir", "")
        return Path(folder) / FILE_NAME if folder else None

    def _name(self) -> str:
        """The same as that of the hook's state in checkpoints."""
        names = (name for name, hook in self.trainer._hooks._keyed() if hook is self)
        return next(names, type(self).__qualname__)


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)  # JSON has no such numbers


def _is_entry(entry: Any) -> bool:
    if not (isinstance(entry, dict) and type(entry.get("iteration")) is int and isinstance(entry.get("results"), dict)):
        return False
    return all(_is_number(value) for value in entry["results"].values())


def _is_number(value: Any) -> bool:
    return type(value) is float or value in ("nan", "inf", "-inf")
