"""How a model computes: memory order and compilation, set in place without a change of what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from drivetrain.errors import ModelError, did_you_mean

__all__ = ["compiled_parts", "prepare_model"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def prepare_model(
    model: ModuleT, *, channels_last: bool = False, compile: bool | str | Mapping[str, Any] = False
) -> ModuleT:
    """Set how a model computes. Results are the same up to rounding, names in its state dict exactly.

    Args:
        model: changed in place, also where it is wrapped in DistributedDataParallel.
        channels_last: keep the weights of convolutions in channels-last order; they give their feature maps in it.
            (Dropout of feature maps draws its random numbers in the order of the memory, so it drops others.)
        compile: True compiles what :func:`compiled_parts` says with ``torch.compile``, at the first call. The name of
            a backend, or a mapping of ``torch.compile``'s options (``{"mode": "max-autotune"}``), does so with these.

    Returns:
        The model.

    Raises:
        ModelError: there is no such backend.
    """
    inner = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    if channels_last:
        inner.to(memory_format=torch.channels_last)
    if compile is not False:
        options = {"backend": compile} if isinstance(compile, str) else {} if compile is True else dict(compile)
        _check_backend(options.get("backend", "inductor"))
        for part in compiled_parts(inner):
            part.compile(**options)
    return model


def compiled_parts(model: nn.Module) -> list[nn.Module]:
    """What of a model is compiled: its ``backbone`` and ``head`` if it has a backbone, else the whole.

    What a detector does around them (matching, suppression) has other shapes with each batch: a compiler breaks it into
    dozens of small graphs and compiles these again and again. A model that overrides ``nn.Module.compile`` chooses for
    itself.
    """
    parts = [getattr(model, name, None) for name in ("backbone", "head")]
    if type(model).compile is not nn.Module.compile or not isinstance(parts[0], nn.Module):
        return [model]
    return [part for part in parts if isinstance(part, nn.Module)]


def _check_backend(backend: object) -> None:
    """Find an unknown name now rather than at the first iteration."""
    if not isinstance(backend, str):
        return  # a function
    known = torch.compiler.list_backends(exclude_tags=())
    if backend not in known:
        hint = did_you_mean(backend, known) or ";"
        usual = ", ".join(torch.compiler.list_backends())  # without those for debugging
        raise ModelError(f"torch.compile has no backend {backend!r} (MODEL.COMPILE_BACKEND){hint} it has {usual}")
