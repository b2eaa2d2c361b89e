"""Making a step that went wrong again, from the file that :class:`drivetrain.engine.bad_batch.BadBatchWriter` wrote."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from drivetrain import structures
from drivetrain.checkpoint import read_checkpoint
from drivetrain.engine.precision import build_precision, device_of
from drivetrain.errors import CheckpointError
from drivetrain.modeling import build_model
from drivetrain.modeling.weights import load_weights

from .config import get_cfg
from .weights import config_from_text

__all__ = ["Replay", "from_plain", "replay"]

_KEYS = ("iteration", "losses", "batches", "model", "config", "rng", "precision", "weights_iteration")


@dataclass(frozen=True)
class Replay:
    """A step made again.

    Attributes:
        iteration: which step of the training.
        weights_iteration: the iteration before which the model had the weights that were saved.
        recorded: the losses that the training saw (means over ranks).
        losses: the losses now.
        largest: the weight that is furthest from zero, as ``value (name)``; not finite if any is not.
        module: the first module whose output was not finite, as ``name (class)``; "" when all were finite.
        gradients: names of the parameters with a gradient that is not finite.
        images: of each image alone, in the order of the batch: what it is, and its losses.
    """

    iteration: int
    weights_iteration: int
    recorded: dict[str, float]
    losses: dict[str, float]
    largest: str
    module: str
    gradients: tuple[str, ...]
    images: tuple[tuple[str, dict[str, float]], ...]


def replay(path: str | Path, model: nn.Module | None = None, *, device: str = "cpu") -> Replay:
    """Make the step of a ``bad_batch_*.pt`` again: forward and backward, with its weights and random numbers.

    Args:
        path: the file.
        model: a model of the same kind (default: built from the config in the file); gets the weights.
        device: where to build the default model.

    Raises:
        CheckpointError: the file cannot be read, is none of these, or holds no batch or no config for the model.
    """
    if not (file := Path(path)).is_file():
        beside = sorted(other.name for other in file.parent.glob("bad_batch_*.pt"))
        there = f"there are {', '.join(beside[:5])}" if beside else "a step that was not finite saves one in OUTPUT_DIR"
        raise CheckpointError(f"the saved batch {path} does not exist: {there}")
    data = read_checkpoint(path)
    if missing := [key for key in _KEYS if key not in data]:
        raise CheckpointError(f"{path} is no saved batch (it lacks {', '.join(missing)}): give a bad_batch_*.pt")
    _check(data, str(path))
    batches = [from_plain(batch) for batch in data["batches"]]
    if not batches:
        raise CheckpointError(
            f"{path} holds no batch, for the loader of that training could not make it again by its number: it tells "
            f"the losses alone, {data['losses']}"
        )
    model = _model(data, str(path), device) if model is None else model
    load_weights(model, data["model"], source=str(path))
    largest = _largest(model)
    try:
        losses, module = _step(model, batches, data)
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
        raise CheckpointError(
            f"the step in {path} cannot be made again with this model "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from error
    bad = (n for n, p in model.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all())
    return Replay(
        iteration=data["iteration"],
        weights_iteration=data["weights_iteration"],
        recorded=dict(data["losses"]),
        losses=losses,
        largest=largest,
        module=module,
        gradients=tuple(bad),
        images=tuple(_one_by_one(model, batches, data)),
    )


def _check(data: Mapping[str, Any], path: str) -> None:
    """Refuse values of other types than BadBatchWriter writes."""
    types = {
        "iteration": int,
        "weights_iteration": int,
        "losses": dict,
        "batches": list,
        "config": str,
        "precision": str,
    }
    bad = [key for key, kind in types.items() if not isinstance(data[key], kind)]
    if not isinstance(data["rng"], (torch.Tensor, type(None))):
        bad.append("rng")
    if isinstance(data["losses"], dict) and not all(isinstance(v, (int, float)) for v in data["losses"].values()):
        bad.append("losses")
    if bad:
        raise CheckpointError(f"{path} was not written by a training: {', '.join(bad)} is of another type than there")


def _model(data: Mapping[str, Any], path: str, device: str) -> nn.Module:
    if not data["config"]:
        raise CheckpointError(
            f"{path} holds no config, for it was not saved by a DefaultTrainer: call "
            "drivetrain.engine.defaults.replay.replay(path, model) with your model"
        )
    cfg = config_from_text(data["config"], get_cfg())
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.COMPILE = device, "", False
    return build_model(cfg)


def _largest(model: nn.Module) -> str:
    sizes = {name: float(p.detach().abs().max()) for name, p in model.named_parameters() if p.numel()}
    name = max(sizes, key=lambda n: math.inf if math.isnan(sizes[n]) else sizes[n], default="")
    return f"{sizes[name]:.4g} ({name})" if name else ""


def _step(model: nn.Module, batches: list[Any], data: Mapping[str, Any]) -> tuple[dict[str, float], str]:
    """Forward and backward over an iteration's batches: their mean losses, and the first module that went wrong."""
    model.train()
    model.zero_grad()
    _set_rng(model, data)
    sums: dict[str, float] = {}
    precision = build_precision(data["precision"], device_of(model))
    with _first_bad_module(model) as found:
        for batch in batches:
            with precision.context():
                result = model(batch)
            losses = {"total_loss": result} if isinstance(result, torch.Tensor) else dict(result)
            sum(losses.values()).backward()  # type: ignore[union-attr]
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / len(batches)
    return sums, found[0] if found else ""


def _set_rng(model: nn.Module, data: Mapping[str, Any]) -> None:
    if data["rng"] is not None:
        torch.set_rng_state(data["rng"])
    device = device_of(model)
    if data.get("device_rng") is not None and device.type == "cuda":
        torch.cuda.set_rng_state(data["device_rng"], device)


@contextmanager
def _first_bad_module(model: nn.Module) -> Iterator[list[str]]:
    """Within the block, modules whose output is not finite are noted, the first one first."""
    found: list[str] = []

    def watch(name: str) -> Any:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not all(map(_is_finite, _tensors(output))):
                found.append(f"{name or 'the model'} ({type(module).__name__})")

        return look

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _is_finite(value: torch.Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


@torch.no_grad()
def _one_by_one(
    model: nn.Module, batches: list[Any], data: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Each image's name and losses when it is alone; nothing for batches that are no lists of dicts."""
    for batch in batches:
        if not isinstance(batch, list) or not all(isinstance(item, dict) for item in batch):
            return
        for index, item in enumerate(batch):
            _set_rng(model, data)
            name = str(item.get("file_name", item.get("image_id", f"image {index} of the batch")))
            try:
                result = model([item])
            except (ValueError, RuntimeError) as error:  # batch norm over a single value, for example
                yield f"{name} (alone: {error})", {}
                continue
            losses = {"total_loss": result} if isinstance(result, torch.Tensor) else result
            yield name, {key: float(value) for key, value in losses.items()}


def from_plain(value: Any) -> Any:
    """A batch made of what :func:`drivetrain.engine.bad_batch.to_plain` made of it.

    Objects are made of the classes of ``drivetrain.structures`` and no others, without running anything of theirs.

    Raises:
        CheckpointError: an object is of another class.
    """
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {"object", "state"}:
        return {key: from_plain(item) for key, item in value.items()}
    name, state = str(value["object"]), from_plain(value["state"])
    if name == "numpy" and isinstance(state, torch.Tensor):
        return state.numpy()
    cls = _structures().get(name)
    if cls is None or not isinstance(state, dict):
        raise CheckpointError(f"the batch holds a {name}, which is none of drivetrain.structures: refused")
    made: Any = object.__new__(cls)
    for key, item in state.items():
        made.__dict__[key] = tuple(item) if key == "_image_size" else item
    return made


def _structures() -> dict[str, type]:
    """Full name -> class, of what a batch may hold."""
    classes = (getattr(structures, name) for name in structures.__all__)
    return {f"{c.__module__}.{c.__qualname__}": c for c in classes if isinstance(c, type)}
