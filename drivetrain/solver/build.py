"""Building the optimizer that a config describes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from drivetrain.errors import ConfigError, ModelError, did_you_mean

from .clipping import maybe_add_gradient_clipping
from .layer_decay import layerwise_lr_decay
from .optimizer_state import check_optimizer_state
from .parameter_groups import get_default_optimizer_params

__all__ = ["build_optimizer"]

_IMPLEMENTATION = ("fused", "foreach")  # settings of a group that say how to compute, not what


def build_optimizer(cfg: Any, model: nn.Module) -> Optimizer:
    """The optimizer of ``cfg.SOLVER`` over the trainable parameters of ``model``.

    With all parameters on a CUDA device the fused implementation is used, PyTorch's default otherwise; a state
    that was saved under one loads under the other.

    Args:
        cfg: a config with ``SOLVER``.
        model: already on its device.

    Raises:
        ConfigError: an unknown optimizer, a number that it does not take, or layers that the model does not have.
        ModelError: the model has no trainable parameter.
    """
    solver = cfg.SOLVER
    factor = _layer_factor(solver, model)
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR if factor is None else None,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        lr_factor_func=factor,
    )
    if not groups:
        raise ModelError("the model has no trainable parameter, so there is nothing to optimize; unfreeze some")
    try:
        optimizer = _make(solver, groups, fused=_can_fuse(groups))
    except ValueError as error:
        raise ConfigError(f"SOLVER.OPTIMIZER {solver.OPTIMIZER} does not take these settings: {error}") from None
    optimizer.register_load_state_dict_pre_hook(_keep_implementation)
    return maybe_add_gradient_clipping(cfg, optimizer)


def _layer_factor(solver: Any, model: nn.Module) -> Callable[[str], float] | None:
    """The factor on the rate of each parameter that ``SOLVER.LAYER_DECAY`` asks for, those of biases included."""
    decay = solver.LAYER_DECAY
    if decay.RATE == 1:
        return None
    try:
        of_layer = layerwise_lr_decay(model, decay.RATE, decay.LAYERS)
    except ValueError as error:
        raise ConfigError(f"SOLVER.LAYER_DECAY (RATE {decay.RATE}, LAYERS {list(decay.LAYERS)}): {error}") from None
    bias = solver.BIAS_LR_FACTOR
    return lambda name: of_layer(name) * (bias if name.rpartition(".")[2] == "bias" else 1.0)


def _make(solver: Any, groups: list[dict[str, Any]], *, fused: bool | None) -> Optimizer:
    if solver.OPTIMIZER == "SGD":
        return SGD(groups, lr=solver.BASE_LR, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV, fused=fused)
    if solver.OPTIMIZER == "AdamW":
        return AdamW(groups, lr=solver.BASE_LR, betas=tuple(solver.BETAS), fused=fused)
    hint = did_you_mean(solver.OPTIMIZER, ("SGD", "AdamW"))
    raise ConfigError(f"SOLVER.OPTIMIZER must be SGD or AdamW, received {solver.OPTIMIZER!r}{hint}")


def _can_fuse(groups: list[dict[str, Any]]) -> bool | None:
    """True where the fused kernels run, None (PyTorch chooses) elsewhere."""
    parameters = [parameter for group in groups for parameter in group["params"]]
    return all(p.device.type == "cuda" and p.is_floating_point() for p in parameters) or None


def _keep_implementation(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Keep this machine's fused / foreach settings when a state from another kind of machine is loaded."""
    check_optimizer_state(optimizer, state_dict)
    kept = [
        {**theirs, **{key: ours[key] for key in _IMPLEMENTATION if key in ours}}
        for theirs, ours in zip(state_dict["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**state_dict, "param_groups": kept}
