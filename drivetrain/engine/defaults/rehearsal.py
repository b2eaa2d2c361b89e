"""Trying everything that a training will do, before iteration 0: an error an hour later costs the hour.

One step, one evaluation batch, one checkpoint written and read, one flush of the writers. Then everything is as it was,
bit for bit: the training that follows is the one that would have been without it.
"""

from __future__ import annotations

import copy
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from drivetrain.checkpoint import Checkpointer, read_checkpoint, unwrap_model
from drivetrain.engine.finite import FiniteGuard
from drivetrain.engine.hook_base import HookList
from drivetrain.engine.hooks import EvalHook
from drivetrain.engine.losses import LossRecorder
from drivetrain.engine.precision import device_of
from drivetrain.engine.train_loop import SimpleTrainer
from drivetrain.errors import DrivetrainError, OutputError
from drivetrain.events.storage import EventStorage
from drivetrain.runtime import comm
from drivetrain.runtime.seeding import preserve_rng

from .data import as_names
from .setup import default_writers, make_output_dir

if TYPE_CHECKING:
    from .trainer import DefaultTrainer

__all__ = ["rehearse"]

logger = logging.getLogger(__name__)
_quiet = logging.getLogger(f"{__name__}.checkpoint")
_quiet.setLevel(logging.WARNING)


def rehearse(trainer: DefaultTrainer) -> None:
    """Try one of everything, on each rank by itself, and put everything back.

    Hooks are not called. What could not be put back is not tried: a ``run_step`` or a ``test`` of a subclass,
    evaluators, writers that are not the default ones, and batches of a loader that is neither this package's, nor a
    ``DataLoader`` over a dataset with a length, nor a list.

    Args:
        trainer: a trainer about to train.

    Raises:
        Exception: as the step, the evaluation, the checkpoint or a writer raised it; what was being tried is logged.
    """
    start = perf_counter()
    tried: list[str] = []

    def attempt(what: str, action: Callable[[], bool]) -> None:
        try:
            if action():
                tried.append(what)
        except Exception:
            logger.error("The rehearsal before iteration %d failed at: %s", trainer.start_iter, what)
            raise

    with ExitStack() as undone:
        storage = undone.enter_context(EventStorage(trainer.start_iter))
        undone.enter_context(_everything_put_back(trainer))
        attempt("a step", lambda: _step(trainer, storage))
        attempt("an evaluation batch", lambda: _evaluation(trainer))
        if comm.is_main_process():
            with _scratch_folder(trainer.cfg.OUTPUT_DIR) as folder:
                attempt("a checkpoint", lambda: _checkpoint(trainer, folder))
                attempt("the writers", lambda: _writers(trainer, folder))
    logger.info("Rehearsed in %.1f s: %s", perf_counter() - start, ", ".join(tried) or "nothing")


# What is tried


def _step(trainer: DefaultTrainer, storage: EventStorage) -> bool:
    """Forward, backward and optimizer step, without hooks, other ranks and the judgement of the loss."""
    inner = trainer._step_trainer
    if not trainer._keeps("run_step") or (inner is not None and type(inner).run_step is not SimpleTrainer.run_step):
        return False
    step = trainer if inner is None else inner
    batches = _first_batches(step)
    if batches is None:
        return False
    device = device_of(step.model)
    guard = FiniteGuard("skip", budget=len(batches) + 1, device=device)
    changes = {
        "iter": trainer.start_iter,
        "max_iter": trainer.max_iter,
        "storage": storage,
        "_hook_list": HookList(),
        "_data_loader_iter": iter(batches),
        "_guard": guard,
        "_recorder": LossRecorder(guard, 1),
        "bad_batches": None,
    }
    with _set(step, changes), _unwrapped(step):
        step.model.train()
        SimpleTrainer.run_step(step)
    return True


def _evaluation(trainer: DefaultTrainer) -> bool:
    """The model in evaluation mode, on the first batch of each test loader."""
    if not (trainer._keeps("test") and any(isinstance(hook, EvalHook) for hook in trainer._hooks)):
        return False
    loaders = trainer._test_loaders
    if loaders is None:
        loaders = [trainer.build_test_loader(trainer.cfg, name) for name in as_names(trainer.cfg.DATASETS.TEST)]
    model = unwrap_model(trainer.model)
    model.eval()
    tried = False
    with torch.no_grad():
        for loader in loaders:
            batch = _batch(loader)
            if batch is not None:
                model(batch)
                tried = True
    return tried


def _checkpoint(trainer: DefaultTrainer, folder: Path) -> bool:
    """A checkpoint with all states, written, verified and read; says when the disk has no room for the real ones."""
    if not isinstance(trainer.checkpointer, Checkpointer):
        return False
    checkpointer = copy.copy(trainer.checkpointer)
    checkpointer.save_dir = str(folder)
    checkpointer.logger = _quiet
    checkpointer.save("rehearsal", iteration=trainer.start_iter)
    path = folder / "rehearsal.pth"
    read_checkpoint(path)
    size, free = path.stat().st_size, shutil.disk_usage(folder).free
    if free < 2 * size:  # a new file is whole before an old one goes
        logger.warning(
            "A checkpoint takes %.0f MB, and the disk of %s has %.0f MB left: make room, or choose another OUTPUT_DIR",
            size / 1e6,
            trainer.cfg.OUTPUT_DIR,
            free / 1e6,
        )
    return True


def _writers(trainer: DefaultTrainer, folder: Path) -> bool:
    """The files of the default writers, with the scalars of the step."""
    if not (trainer._keeps("build_writers") and trainer._given_writers is None):
        return False
    for writer in default_writers(str(folder), trainer.max_iter)[1:]:  # without the console
        writer.write()
        writer.close()
    return True


# Batches that are not taken away from the training


def _first_batches(step: SimpleTrainer) -> list[Any] | None:
    """The first iteration's batches; None where the loader would not be as it was after giving them."""
    batches = [_batch(step.data_loader, index) for index in range(step.accumulate)]
    return None if any(batch is None for batch in batches) else batches


def _batch(loader: Any, index: int = 0) -> Any:
    """The batch ``index`` places from here, made without iterating; None where that cannot be, or there is none."""
    if callable(make := getattr(loader, "batch", None)):
        try:
            return make(getattr(loader, "position", 0) + index)
        except IndexError:
            return None
    if isinstance(loader, (list, tuple)):
        return copy.deepcopy(loader[index]) if index < len(loader) else None
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return None  # its iterator may draw from a generator of its own
    dataset: Any = loader.dataset
    size = getattr(loader.batch_sampler, "batch_size", loader.batch_size)
    indices = list(range(min(size or 1, len(dataset))))  # the size of a batch, if not its samples
    if not indices:
        return None
    fetch = getattr(dataset, "__getitems__", None)
    samples = fetch(indices) if callable(fetch) else [dataset[index] for index in indices]
    return loader.collate_fn(samples if size else samples[0])


# Putting everything back


@contextmanager
def _everything_put_back(trainer: DefaultTrainer) -> Iterator[None]:
    """Weights, buffers, gradients, plain attributes, optimizer, scaler, random generators: as they are now."""
    model, optimizer, numerics = unwrap_model(trainer.model), trainer.optimizer, trainer._trainer._numerics
    kept = [_Kept(tensor) for tensor in (*model.parameters(), *model.buffers())]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    kept += [_Kept(gradient) for _, gradient in gradients if gradient is not None]
    state = {key: dict(entries) for key, entries in optimizer.state.items()}
    kept += [_Kept(value) for entries in state.values() for value in entries.values() if torch.is_tensor(value)]
    groups = [dict(group) for group in optimizer.param_groups]
    kept += [_Kept(value) for group in groups for value in group.values() if torch.is_tensor(value)]
    notes = [_Notes(holder) for holder in (trainer, trainer._trainer, optimizer, *model.modules())]
    scale = copy.deepcopy(numerics.state_dict())
    with preserve_rng():
        try:
            yield
        finally:
            for note in notes:
                note.put_back()
            for tensor in kept:
                tensor.put_back()
            for parameter, gradient in gradients:
                parameter.grad = gradient
            optimizer.state.clear()
            optimizer.state.update(state)
            for group, content in zip(optimizer.param_groups, groups, strict=True):
                group.update(content)
            if scale:
                numerics.load_state_dict(scale)


class _Kept:
    """A tensor and its content, which waits in host memory: an accelerator's is for the training."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor
        self._content = tensor.detach().to("cpu", copy=True)

    @torch.no_grad()
    def put_back(self) -> None:
        self._tensor.copy_(self._content)


class _Notes:
    """What an object keeps in attributes of its own: plain values (a module's ``training`` is one), tensors and hooks.

    A model may put hooks on its parts in its first call and note that it has: one without the other would be worse
    than both.
    """

    def __init__(self, holder: Any) -> None:
        self._holder = holder
        self._values = {name: value for name, value in vars(holder).items() if _is_note(value)}
        self._tensors = [_Kept(value) for value in self._values.values() if torch.is_tensor(value)]
        self._hooks = [(value, dict(value)) for name, value in vars(holder).items() if _is_hooks(name, value)]

    def put_back(self) -> None:
        attributes = vars(self._holder)
        for name in [name for name, value in attributes.items() if _is_note(value) and name not in self._values]:
            del attributes[name]
        attributes.update(self._values)
        for tensor in self._tensors:
            tensor.put_back()
        for hooks, before in self._hooks:  # in place: the handles that remove hooks refer to these dicts
            hooks.clear()
            hooks.update(before)


def _is_hooks(name: str, value: Any) -> bool:
    """Whether an attribute is one of the dicts in which a module has its hooks."""
    return "_hooks" in name and isinstance(value, dict)


def _is_note(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str, type(None))) or torch.is_tensor(value)


@contextmanager
def _set(holder: Any, values: dict[str, Any]) -> Iterator[None]:
    """Give an object attributes for the block."""
    before = {name: holder.__dict__[name] for name in values if name in holder.__dict__}
    holder.__dict__.update(values)
    try:
        yield
    finally:
        for name in values:
            holder.__dict__.pop(name, None)
        holder.__dict__.update(before)


@contextmanager
def _unwrapped(step: SimpleTrainer) -> Iterator[None]:
    """The step's model without DistributedDataParallel, whose first backward fixes the order of its sums."""
    wrapped = step.model
    step.model = unwrap_model(wrapped) if hasattr(wrapped, "no_sync") else wrapped
    try:
        yield
    finally:
        step.model = wrapped


@contextmanager
def _scratch_folder(output_dir: str) -> Iterator[Path]:
    """A folder inside the output folder, on the same disk; nothing of it stays."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=".rehearsal-", dir=make_output_dir(output_dir)))
    except OSError as error:
        if isinstance(error, DrivetrainError):
            raise
        raise OutputError(f"OUTPUT_DIR={output_dir!r} cannot be written ({error}): choose another") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
