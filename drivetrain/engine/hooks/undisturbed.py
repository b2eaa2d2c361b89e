"""Watching never changes training: what a hook does to a model is undone, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from drivetrain.runtime.seeding import preserve_rng

__all__ = ["undisturbed"]


@contextmanager
def undisturbed(model: torch.nn.Module | None, *, buffers: bool = False) -> Iterator[None]:
    """Leave random generators, training flags and, on request, buffers as they were, also when the block raises.

    Args:
        model: the model; None for the generators alone.
        buffers: whether the block may run the model in training mode, which changes buffers (BatchNorm statistics).
    """
    modules = [] if model is None else list(model.modules())
    flags = [(module, module.training) for module in modules]
    kept = [
        (module, name, buffer, buffer.clone())
        for module in (modules if buffers else ())
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    with preserve_rng():
        try:
            yield
        finally:
            for module, training in flags:
                module.training = training
            with torch.no_grad():
                for module, name, buffer, content in kept:
                    buffer.copy_(content)
                    module._buffers[name] = buffer  # a module may have put another tensor there
