"""Putting saved states into a model and other objects: all of them or none."""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from drivetrain.checkpoint.compare import compare_state
from drivetrain.checkpoint.formats import model_state, without_root
from drivetrain.checkpoint.snapshot import HostCopies
from drivetrain.errors import CheckpointError, DrivetrainError, IncompatibleWeightsError
from drivetrain.solver.optimizer_state import check_optimizer_state

__all__ = ["restore"]

_logger = logging.getLogger(__name__)


def restore(model: nn.Module, objects: Mapping[str, Any], data: dict[str, Any], source: str) -> dict[str, Any]:
    """Restore a model and objects from what `map_checkpoint` returned.

    The weights are compared with the model before anything is changed. If a later step fails, the model and
    all objects get their former states back.

    Args:
        model: takes ``data["model"]``, or ``data`` itself if it is bare weights.
        objects: key -> object with ``state_dict`` and ``load_state_dict``; one whose key ``data`` lacks is
            left as it is, with a warning.
        data: the content of a checkpoint, which may lie in a mapped file: nothing keeps its tensors.
        source: where it comes from, for messages.

    Returns:
        What of ``data`` was not restored into anything.

    Raises:
        IncompatibleWeightsError: the weights are for another model.
        CheckpointError: there are no weights in it, or an object cannot take its state.
    """
    weights = next(({key} for key in ("model", "state_dict") if isinstance(data.get(key), Mapping)), set(data))
    others = HostCopies().copy({key: value for key, value in data.items() if key not in weights})
    expected = model.state_dict()
    own_names = {name.replace("_orig_mod.", ""): name for name in expected}
    own = {clean: expected[name] for clean, name in own_names.items()}
    saved = without_root(model_state(data, source), own_names)
    _add_tied(saved, own)
    compare_state(own, saved).raise_if_any(source)
    present = {key: obj for key, obj in objects.items() if key in others}
    for key in objects:
        if key not in present:
            _logger.warning("%s holds no state of %r: it starts fresh", source, key)
    before = _snapshot(model, present)
    what = "the model"
    try:
        _load_model(model, saved, own_names, source)
        for key, obj in present.items():
            what = repr(key)
            if isinstance(obj, torch.optim.Optimizer):
                check_optimizer_state(obj, others[key])
            obj.load_state_dict(others[key])
    except Exception as error:
        _undo(model, present, before)
        if isinstance(error, IncompatibleWeightsError):
            raise
        problem = str(error) if isinstance(error, DrivetrainError) else f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{source} cannot be restored into {what}: {problem}") from error
    return {key: value for key, value in others.items() if key not in present}


def _add_tied(saved: OrderedDict[str, torch.Tensor], own: Mapping[str, Any]) -> None:
    """Add what a file lacks because the model has it under two names, of which safetensors keeps one."""
    places = {
        name: (tensor.data_ptr(), tensor.shape, tensor.stride())
        for name, tensor in own.items()
        if type(tensor) is torch.Tensor and tensor.layout == torch.strided and tensor.untyped_storage().data_ptr()
    }
    known = {place: saved[name] for name, place in places.items() if name in saved}
    saved.update({name: known[place] for name, place in places.items() if name not in saved and place in known})


def _load_model(
    model: nn.Module, saved: OrderedDict[str, torch.Tensor], own_names: dict[str, str], source: str
) -> None:
    """Load a state that was compared before; what PyTorch still objects to is an error of the weights."""
    # Modules may keep the tensors of their extra state, and all of them do that on request.
    kept = (lambda name: True) if torch.__future__.get_swap_module_params_on_conversion() else _is_extra
    copies = HostCopies().copy({name: value for name, value in saved.items() if kept(name)})
    known = [name for name in saved if name in own_names]  # but for what a frozen batch norm does not count
    state = OrderedDict((own_names[name], copies.get(name, saved[name])) for name in known)
    versions = getattr(saved, "_metadata", {})  # by the names of modules without torch.compile's
    names = {name: f"{name}.".replace("_orig_mod.", "")[:-1] for name, _ in model.named_modules(remove_duplicate=False)}
    state._metadata = {own: versions[clean] for own, clean in names.items() if clean in versions}  # type: ignore[attr-defined]
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise IncompatibleWeightsError(f"the weights in {source} are not for this model: {error}") from error


def _is_extra(name: str) -> bool:
    return name.endswith("_extra_state")


def _snapshot(model: nn.Module, objects: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of the present states, the model's (on the CPU) under the empty key; what has no shape yet has none."""
    state = {
        name: value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else copy.deepcopy(value)
        for name, value in model.state_dict().items()
        if not torch.nn.parameter.is_lazy(value)
    }
    return {"": state, **{key: copy.deepcopy(obj.state_dict()) for key, obj in objects.items()}}


def _undo(model: nn.Module, objects: Mapping[str, Any], before: dict[str, Any]) -> None:
    """Put back the states of `_snapshot`."""
    model.load_state_dict(before[""], strict=False)
    for key, obj in objects.items():
        try:
            obj.load_state_dict(before[key])
        except Exception:  # noqa: PERF203  the error that led here is the one to show
            _logger.exception("The former state of %r could not be put back", key)
