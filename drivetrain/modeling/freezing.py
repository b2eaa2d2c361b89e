"""Parameters that are not trained, chosen by patterns of their names."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from drivetrain.errors import ModelError, did_you_mean

from .backbones import freeze_batch_norm

__all__ = ["freeze_parameters"]


def freeze_parameters(model: nn.Module, patterns: Sequence[str], *, batch_norm: bool = False) -> list[str]:
    """Let parameters not require gradients, so that optimizers built afterwards leave them alone.

    Args:
        model: changed in place; not at all when an error is raised.
        patterns: of parameter names, as file names are matched: ``backbone.*``, ``*.bias``, ``head.cls.weight``.
            ``*`` stands for dots too.
        batch_norm: also let the batch norms (2d) all of whose parameters are frozen keep their statistics, in training
            mode too. They are replaced by layers that hold weight and bias as buffers.

    Returns:
        The names of the parameters frozen here, in the model's order.

    Raises:
        ModelError: a pattern fits no parameter, or nothing would be left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ModelError(
                f"MODEL.FREEZE has {pattern!r}, which fits no parameter of the model{_hint(model, pattern)}"
            )
    parameters = dict(model.named_parameters())
    frozen = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if frozen and not any(p.requires_grad for name, p in parameters.items() if name not in set(frozen)):
        raise ModelError(f"MODEL.FREEZE {list(patterns)} leaves no parameter to train: name fewer of them")
    for name in frozen:
        parameters[name].requires_grad_(False)
    if frozen and batch_norm:
        freeze_batch_norm(model, only={module for module in model.modules() if _is_frozen(module)})
    return frozen


def _is_frozen(module: nn.Module) -> bool:
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)


def _hint(model: nn.Module, pattern: str) -> str:
    """What may have been meant: all of a module, or a name close to it."""
    modules = {name for name, module in model.named_modules() if name and any(True for _ in module.parameters())}
    if pattern.rstrip(".") in modules:
        return f"; did you mean '{pattern.rstrip('.')}.*'?"
    names = [name for name, _ in model.named_parameters()]
    wanted = did_you_mean(pattern, [*names, *(f"{name}.*" for name in modules)])
    return wanted or f"; its names are such as {', '.join(names[:4])}"
