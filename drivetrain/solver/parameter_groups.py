"""Parameter groups: which learning rate and weight decay each parameter has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

__all__ = ["NORMS", "get_default_optimizer_params"]

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm)
"""The classes of normalisation layers."""


def get_default_optimizer_params(
    model: nn.Module,
    base_lr: float | None = None,
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float | None = 1.0,
    weight_decay_bias: float | None = None,
    lr_factor_func: Callable[[str], float] | None = None,
    overrides: Mapping[str, Mapping[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """The trainable parameters of ``model`` as groups for an optimizer, one per distinct set of settings.

    A setting that is None is left to the optimizer. Where several apply, the later argument wins.

    Args:
        model: a parameter that it shares between modules is taken once, frozen ones never.
        base_lr: learning rate.
        weight_decay: weight decay.
        weight_decay_norm: weight decay of parameters of normalisation layers.
        bias_lr_factor: factor on the learning rate of parameters named ``bias``.
        weight_decay_bias: weight decay of parameters named ``bias`` (those of normalisation layers too).
        lr_factor_func: full parameter name (``"backbone.conv1.weight"``) -> factor on its learning rate.
        overrides: last part of a parameter's name -> settings, e.g. ``{"embedding": {"weight_decay": 0.0}}``.

    Returns:
        ``{"params": [...], "lr": ..., "weight_decay": ...}`` dicts in the order in which settings first occur.

    Raises:
        ValueError: a factor is given without ``base_lr``, or ``overrides`` and a bias argument contradict.
    """
    by_name = _with_bias(overrides or {}, base_lr, bias_lr_factor, weight_decay_bias)
    if lr_factor_func is not None and base_lr is None:
        raise ValueError("lr_factor_func needs base_lr, which it multiplies")
    defaults = {name: value for name, value in (("lr", base_lr), ("weight_decay", weight_decay)) if value is not None}
    groups: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}
    for module, module_name, name, parameter in _trainable(model):
        settings: dict[str, Any] = dict(defaults)
        if weight_decay_norm is not None and isinstance(module, NORMS):
            settings["weight_decay"] = weight_decay_norm
        if lr_factor_func is not None:
            settings["lr"] *= lr_factor_func(f"{module_name}.{name}" if module_name else name)
        settings.update(by_name.get(name, {}))
        group = groups.setdefault(tuple(sorted(settings.items())), {"params": [], **settings})
        group["params"].append(parameter)
    return list(groups.values())


def _with_bias(
    overrides: Mapping[str, Mapping[str, float]],
    base_lr: float | None,
    bias_lr_factor: float | None,
    weight_decay_bias: float | None,
) -> dict[str, Mapping[str, float]]:
    """``overrides`` with what the bias arguments say."""
    bias: dict[str, float] = {}
    if bias_lr_factor is not None and bias_lr_factor != 1.0:
        if base_lr is None:
            raise ValueError("bias_lr_factor needs base_lr, which it multiplies")
        bias["lr"] = base_lr * bias_lr_factor
    if weight_decay_bias is not None:
        bias["weight_decay"] = weight_decay_bias
    if bias and "bias" in overrides:
        raise ValueError(f"overrides['bias'] contradicts the bias arguments, which give {bias}; use one of them")
    return {**overrides, "bias": bias} if bias else dict(overrides)


def _trainable(model: nn.Module) -> Iterator[tuple[nn.Module, str, str, nn.Parameter]]:
    """(module, its name, the parameter's name in it, parameter), each parameter once."""
    seen: set[nn.Parameter] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield module, module_name, name, parameter
