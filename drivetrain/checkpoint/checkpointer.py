"""Saving and restoring a model together with everything else that a training consists of."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from drivetrain._version import __version__
from drivetrain.checkpoint.background import Saving, alarm, wait_for_saves
from drivetrain.checkpoint.files import FileLayer, check_file_name
from drivetrain.checkpoint.folder import CheckpointFolder
from drivetrain.checkpoint.formats import check_whole, map_checkpoint, metadata_problem, storable
from drivetrain.checkpoint.manifest import Entry
from drivetrain.checkpoint.overlap import StepCopies, check_unchanged, optimizers_of
from drivetrain.checkpoint.recovery import newest_whole
from drivetrain.checkpoint.restore import restore
from drivetrain.checkpoint.snapshot import HostCopy
from drivetrain.errors import CheckpointError, DrivetrainError
from drivetrain.runtime import comm

__all__ = ["Checkpointer", "DetectionCheckpointer", "unwrap_model"]

_RESERVED = ("model", "metadata")


def unwrap_model(model: nn.Module) -> nn.Module:
    """The user's model inside DistributedDataParallel, DataParallel and ``torch.compile`` wrappers."""
    while True:
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


class Checkpointer:
    """Saves and restores a model and any objects with ``state_dict`` and ``load_state_dict``.

    A file ``<name>.pth`` holds ``{"model": ..., <key>: ... for each checkpointable, "metadata": ...,
    **extra}``, tensors and plain values only; ``torch.load(file, weights_only=True)`` reads it.

    Args:
        model: the model; wrappers around it are looked through.
        save_dir: where to save; nothing is saved with ``""``.
        save_to_disk: whether this process writes; by default only rank 0 does.
        checkpointables: the other objects by key, e.g. ``optimizer=...``.

    Attributes:
        model, save_dir, save_to_disk, checkpointables, logger: as given, the model without its wrappers.
        layer: the file operations that saving uses.
        metadata: plain values stored under ``"metadata"`` in every file.

    Raises:
        CheckpointError: a key is reserved, or an object has no ``state_dict``.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        **checkpointables: Any,
    ) -> None:
        self.model = unwrap_model(model)
        self.save_dir = str(save_dir)
        self.save_to_disk = comm.is_main_process() if save_to_disk is None else save_to_disk
        self.checkpointables: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.logger = logging.getLogger(__name__)
        self.layer = FileLayer()
        self._folder = CheckpointFolder(self.save_dir, self.layer)
        self._copies = StepCopies()
        for key, value in checkpointables.items():
            self.add_checkpointable(key, value)
        if self.save_dir and self.save_to_disk:
            self.folder.clean()

    @property
    def folder(self) -> CheckpointFolder:
        """The folder ``save_dir``, with its manifest."""
        if (self._folder.path, self._folder.layer) != (Path(self.save_dir), self.layer):
            self._folder = CheckpointFolder(self.save_dir, self.layer)
        return self._folder

    def add_checkpointable(self, key: str, checkpointable: Any) -> None:
        """Add an object to what is saved and restored.

        Raises:
            CheckpointError: the key is taken, or the object lacks ``state_dict`` or ``load_state_dict``.
        """
        if key in self.checkpointables or key in _RESERVED:
            raise CheckpointError(f"the checkpoint key {key!r} is taken: choose another")
        for method in ("state_dict", "load_state_dict"):
            if not callable(getattr(checkpointable, method, None)):
                raise CheckpointError(
                    f"{key!r} ({type(checkpointable).__name__}) cannot be saved: it has no {method}()"
                )
        self.checkpointables[key] = checkpointable

    def save(self, name: str, *, role: str = "", **extra: Any) -> None:
        """Save everything to ``<save_dir>/<name>.pth``, whole or not at all; it is on the disk on return.

        Args:
            name: the file's name without ``.pth``.
            role: what it is used as, in the manifest: by default ``"best"`` if the name ends in ``_best``,
                else the ``"last"`` state of the training, which a resume takes first (and ``"final"`` too if
                the name ends in ``_final``). Only the last two move ``last_checkpoint``.
            extra: plain values stored beside the states, such as ``iteration=...`` (the last finished one,
                from 0) and ``metric={name: value}``, which also go into the manifest.

        Raises:
            CheckpointError: a value could not be loaded again; the message names its key.
            OutputError: the file cannot be written (full disk, ...); older files are untouched.
        """
        if self.save_dir and self.save_to_disk:
            entry, data = self._gather(name, role, extra)
            self.folder.save(entry, partial(torch.save, data))

    def save_in_background(
        self,
        name: str,
        *,
        role: str = "",
        done: Callable[[Exception | None], None] | None = None,
        overlap: bool = False,
        **extra: Any,
    ) -> None:
        """As `save`, but return when everything is copied to host memory; a thread writes the copy.

        One save is in flight at a time: the next one waits for it, and so do reading checkpoints and the end of the
        process. The copy's memory is kept for the next save.

        Args:
            name, role, extra: as for `save`.
            done: called in that thread when the file is on the disk, with None, or with what went wrong. By default
                an error is an alarm in the log.
            overlap: return before that: what optimizers among the checkpointables (or their attribute ``optimizer``)
                change is copied beside the next forward and backward pass, and their next ``step`` waits for it. For
                the end of an iteration; what else changes weights or optimizer state calls `wait_for_copies` first.
                A training that was not seen to keep to this is copied at once all the same.

        Raises:
            CheckpointError: a value could not be loaded again; the message names its key.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        done = done or partial(_alarm_if_failed, name)
        entry, data = self._gather(name, role, extra)
        try:
            optimizers = optimizers_of(self.checkpointables.values()) if overlap else []
            copy = self._copies.copy(data, self.model, optimizers)
        except (MemoryError, RuntimeError) as error:  # what PyTorch raises when there is no memory left
            self.logger.warning("The state is not copied but written at once, while the step waits: %s", error)
            Saving(partial(self.folder.save, entry, partial(torch.save, data)), done).run()
        else:
            Saving(partial(self._write_copy, entry, copy), done, copy.wait).start()

    def wait(self) -> None:
        """Return once no save is in flight in this process."""
        wait_for_saves()

    def load(self, path: str, checkpointables: Iterable[str] | None = None) -> dict[str, Any]:
        """Restore from a file, all of it or nothing.

        Args:
            path: a checkpoint, bare weights (``.pth``), or ``.safetensors``; ``""`` loads nothing. The
                manifest beside it, if there is one, has its digest.
            checkpointables: the keys to restore beside the model: all by default, none with ``[]``.

        Returns:
            What else the file holds: extra values such as ``"iteration"``, ``"metadata"``, and the states of
            objects that were not restored.

        Raises:
            CorruptCheckpointError: the file is damaged.
            IncompatibleWeightsError: it is for another model.
            CheckpointError: it is missing, unsafe, or an object cannot take its state. Nothing was changed
                then.
        """
        wait_for_saves()
        if not path:
            self.logger.info("No weights given: the model keeps the ones that it was built with")
            return {}
        wanted = list(self.checkpointables if checkpointables is None else checkpointables)
        if unknown := [key for key in wanted if key not in self.checkpointables]:
            known = ", ".join(sorted(self.checkpointables)) or "none"
            raise CheckpointError(f"{unknown[0]!r} is none of the objects to restore ({known})")
        self.logger.info("Loading from %s", path)
        source = Path(path)
        if source.parent.is_dir() and "://" not in str(path):
            CheckpointFolder(source.parent).check(source.name)
        else:
            check_whole(path)
        return restore(self.model, {key: self.checkpointables[key] for key in wanted}, map_checkpoint(path), str(path))

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Continue from the newest whole checkpoint in ``save_dir``, or else start from weights.

        With ``resume``, a damaged file is set aside (``*.corrupt``) and the next older one is taken. Where
        there never was a checkpoint, or without ``resume``, only the model's weights are loaded, from
        ``path``. With several processes all must call it; they take the file that rank 0 chose.

        Returns:
            As `load`; a dict with ``"iteration"`` if a training is continued.

        Raises:
            CheckpointError: the folder had checkpoints, but none can be used. Nothing starts from 0 silently.
        """
        wait_for_saves()
        if resume and self.save_dir and (found := self._choose_together()):
            self.logger.info("Resuming from %s", found)
            if not comm.is_main_process():
                return self.load(str(found))
            return restore(self.model, self.checkpointables, map_checkpoint(found), str(found))  # it is checked
        return self.load(path, checkpointables=[])

    def has_checkpoint(self) -> bool:
        """Whether ``save_dir`` has a checkpoint to continue from."""
        return bool(self.get_checkpoint_file())

    def get_checkpoint_file(self) -> str:
        """The path of the checkpoint that a resume tries first, or ``""``."""
        wait_for_saves()
        if not self.save_dir:
            return ""
        name = next(iter(self.folder.candidates()), "")
        return str(self.folder.path / name) if name else ""

    def get_all_checkpoint_files(self) -> list[str]:
        """The paths of all ``.pth`` files in ``save_dir``, sorted."""
        wait_for_saves()
        return [str(self.folder.path / name) for name in self.folder.files()] if self.save_dir else []

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Make a file in ``save_dir`` the one that a resume takes first."""
        wait_for_saves()
        self.folder.make()
        self.folder.tag_last(last_filename_basename)

    # ---- parts

    def _gather(self, name: str, role: str, extra: Mapping[str, Any]) -> tuple[Entry, dict[str, Any]]:
        """The state of now and its entry in the manifest, once no save is in flight."""
        wait_for_saves()
        file = check_file_name(f"{name}.pth", "save()")
        data: dict[str, Any] = {"model": self._model_state()}
        data |= {key: obj.state_dict() for key, obj in self.checkpointables.items()}
        if taken := [key for key in extra if key in data or key == "metadata"]:
            raise CheckpointError(f"the checkpoint key {taken[0]!r} is taken: choose another for the extra value")
        versions = {"drivetrain": __version__, "torch": str(torch.__version__)}
        data["metadata"] = {**self.metadata, "versions": versions}
        data = {key: storable(value, key) for key, value in {**data, **extra}.items()}
        if problem := metadata_problem(data["metadata"]):
            raise CheckpointError(f"the checkpointer's metadata {problem}, since nothing else is read again")
        self.logger.info("Saving checkpoint to %s", self.folder.path / file)
        return self._entry(file, _roles(name, role), {key: data[key] for key in extra}, versions), data

    def _write_copy(self, entry: Entry, copy: HostCopy) -> None:
        """Finish a copy and save it; runs beside the training."""
        copy.finish()

        def write(stream: Any) -> None:
            torch.save(copy.value, stream)
            check_unchanged(copy)

        self.folder.save(entry, write)

    def _model_state(self) -> dict[str, Any]:
        """The model's state; names do not show whether parts of it are compiled."""
        state = self.model.state_dict()
        for name in [name for name in state if "_orig_mod." in name]:
            state[name.replace("_orig_mod.", "")] = state.pop(name)
        return state

    def _entry(self, file: str, roles: Sequence[str], extra: Mapping[str, Any], versions: dict[str, str]) -> Entry:
        """What the manifest says about a save; size and digest are filled in while writing."""
        iteration, metric = extra.get("iteration"), extra.get("metric")
        config = self.metadata.get("config", "")
        named = metric if isinstance(metric, Mapping) else {} if metric is None else {"metric": metric}
        return Entry(
            file=file,
            bytes=0,
            sha256="",
            roles=tuple(roles),
            iteration=iteration if type(iteration) is int else None,
            metric={str(k): float(v) for k, v in named.items() if type(v) in (int, float)},
            time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions=versions,
            class_names=tuple(self.metadata.get("class_names", ())),
            channel_order=self.metadata.get("channel_order", ""),
            config_sha256=hashlib.sha256(config.encode()).hexdigest() if config else "",
        )

    def _choose_together(self) -> Path | None:
        """The file to resume from, chosen and checked by rank 0 for all ranks; its error is raised on all."""
        choice: tuple[str, str] = ("", "")
        if comm.is_main_process():
            try:
                choice = (newest_whole(self.folder, may_rename=self.save_to_disk), "")
            except (DrivetrainError, OSError) as error:
                choice = ("", str(error))
        name, problem = comm.all_gather(list(choice))[0]
        if problem:
            raise CheckpointError(problem)
        return self.folder.path / name if name else None


class DetectionCheckpointer(Checkpointer):
    """A `Checkpointer` whose files also tell the model's classes, channel order and config.

    Args:
        model, save_dir, save_to_disk, checkpointables: as for `Checkpointer`.
        class_names: the classes in the order of their indices.
        channel_order: ``"RGB"`` or ``"BGR"``, what the model's input is.
        config: the config as text (YAML).
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        class_names: Sequence[str] = (),
        channel_order: str = "",
        config: str = "",
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.metadata = {"class_names": list(class_names), "channel_order": channel_order, "config": config}


def _alarm_if_failed(name: str, error: Exception | None) -> None:
    if error is not None:
        alarm(f"({name})", error)


def _roles(name: str, role: str) -> tuple[str, ...]:
    """The roles that a save claims."""
    if role:
        return ("final", "last") if role == "final" else (role,)
    if name.endswith("_best"):
        return ("best",)
    return ("final", "last") if name.endswith("_final") else ("last",)
