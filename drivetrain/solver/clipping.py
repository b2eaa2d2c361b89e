"""Gradient clipping as part of an optimizer's step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar, cast, overload

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from drivetrain.errors import ConfigError, did_you_mean

__all__ = ["GradientClipper", "maybe_add_gradient_clipping"]

OptimizerT = TypeVar("OptimizerT", bound=Optimizer)
_TYPES = ("value", "norm", "group", "full_model")


@dataclass(frozen=True)
class GradientClipper:
    """Limits the gradients of an optimizer's parameters, called with the optimizer before it steps.

    It is what ``SimpleTrainer(clip_gradients=...)`` takes, and a hook for ``Optimizer.register_step_pre_hook``. Nothing
    is read back from the device.

    Args:
        kind: ``"value"`` limits each element to [-limit, limit]; ``"norm"`` scales each parameter's gradient to a norm
            of at most ``limit``; ``"group"`` scales the gradients of each parameter group together to a joint norm of
            at most ``limit``; ``"full_model"`` does so with all gradients.
        limit: the limit. With ``"group"``, a parameter group that has a ``"clip_value"`` is limited to that instead,
            and one whose ``"clip_value"`` is None is not.
        norm_type: order of the norm, ``inf`` for the largest element.
    """

    kind: str
    limit: float
    norm_type: float = 2.0

    def __post_init__(self) -> None:
        """Raise ConfigError if the kind is not known or a number not positive."""
        if self.kind not in _TYPES:
            raise ConfigError(
                f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE must be one of {', '.join(_TYPES)}, "
                f"received {self.kind!r}{did_you_mean(self.kind, _TYPES)}"
            )
        if not (self.limit > 0 and self.norm_type > 0):
            raise ConfigError(
                "SOLVER.CLIP_GRADIENTS.CLIP_VALUE and NORM_TYPE must be above 0, "
                f"received {self.limit} and {self.norm_type}"
            )

    def __call__(self, optimizer: Optimizer, args: Any = (), kwargs: Any = None) -> None:
        """Clip the gradients that ``optimizer`` is about to use."""
        groups = [[p for p in group["params"] if p.grad is not None] for group in optimizer.param_groups]
        parameters = [p for group in groups for p in group]
        if not parameters:
            return
        grads = [cast(Tensor, p.grad) for p in parameters]
        _unscale(optimizer, grads)
        if self.kind == "full_model":
            clip_grad_norm_(parameters, self.limit, self.norm_type)
        elif self.kind == "group":
            for settings, group in zip(optimizer.param_groups, groups, strict=True):
                limit = settings.get("clip_value", self.limit)
                if limit is None:
                    continue
                if not limit > 0:
                    raise ConfigError(f"a parameter group's 'clip_value' must be above 0 or None, received {limit}")
                clip_grad_norm_(group, limit, self.norm_type)
        elif self.kind == "norm":
            self._clip_each_norm(grads)
        else:
            torch._foreach_clamp_min_(grads, -self.limit)
            torch._foreach_clamp_max_(grads, self.limit)

    def _clip_each_norm(self, grads: list[Tensor]) -> None:
        # limit / (norm + 1e-6), at most 1: what clip_grad_norm_ does, for all parameters in a few kernels.
        factors = torch._foreach_norm(grads, self.norm_type)
        torch._foreach_add_(factors, 1e-6)
        torch._foreach_reciprocal_(factors)
        torch._foreach_mul_(factors, self.limit)
        torch._foreach_clamp_max_(factors, 1.0)
        torch._foreach_mul_(grads, factors)


def _unscale(optimizer: Optimizer, grads: list[Tensor]) -> None:
    """Undo a GradScaler's factor that a fused optimizer would otherwise undo inside its own kernel, after us."""
    scale = getattr(optimizer, "grad_scale", None)
    if scale is not None:
        torch._foreach_mul_(grads, scale.reciprocal().to(grads[0].device))
        optimizer.grad_scale = None  # type: ignore[attr-defined]


@overload
def maybe_add_gradient_clipping(cfg: Any, optimizer: type[OptimizerT]) -> type[OptimizerT]: ...
@overload
def maybe_add_gradient_clipping(cfg: Any, optimizer: OptimizerT) -> OptimizerT: ...
def maybe_add_gradient_clipping(cfg: Any, optimizer: Any) -> Any:
    """Make an optimizer clip gradients in its step if ``cfg.SOLVER.CLIP_GRADIENTS.ENABLED``.

    Args:
        cfg: a config with ``SOLVER.CLIP_GRADIENTS``.
        optimizer: an optimizer, or an optimizer class.

    Returns:
        The same optimizer, or a subclass of the class whose instances clip. State dicts are those of the original.

    Raises:
        ConfigError: a clipping key has a value that is not allowed.
    """
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if not clip.ENABLED:
        return optimizer
    clipper = GradientClipper(clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE)
    if isinstance(optimizer, Optimizer):
        optimizer.register_step_pre_hook(clipper)
        return optimizer

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        optimizer.__init__(self, *args, **kwargs)
        self.register_step_pre_hook(clipper)

    return type(f"{optimizer.__name__}WithGradientClip", (optimizer,), {"__init__": __init__})
