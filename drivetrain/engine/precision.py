"""Numeric precision of the training step as one object; the base class changes nothing and costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from drivetrain.errors import TrainingError

__all__ = ["NOTHING", "BFloat16", "Float16", "Precision", "build_precision", "device_of"]

NOTHING = nullcontext()
"""A context that does nothing, to be entered again and again: making one takes longer than entering it."""


class Precision:
    """Single precision: the step as PyTorch does it. Subclasses change the parts they need.

    Attributes:
        name: as :func:`build_precision` takes it.
        scales_gradients: whether an own gradient scaler skips steps with infinite gradients.
    """

    name = "fp32"
    scales_gradients = False

    def context(self) -> AbstractContextManager[Any]:
        """The context in which the model's forward runs."""
        return NOTHING

    def backward(self, total: torch.Tensor, seed: torch.Tensor | None = None) -> None:
        """Run backward from the total loss (scalar), starting with gradient ``seed`` (default 1)."""
        torch.autograd.backward(total, seed)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Make the gradients those of the unscaled loss, before they are clipped or looked at."""

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the weights."""
        optimizer.step()

    def metrics(self) -> dict[str, float]:
        """Scalars worth logging, by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""


class _Autocast(Precision):
    """Forward under autocast to a 16 bit type; weights stay in single precision."""

    def __init__(self, device_type: str, dtype: torch.dtype) -> None:
        self.device_type = device_type
        self.dtype = dtype

    def context(self) -> AbstractContextManager[Any]:
        """Autocast on the model's device."""
        return torch.autocast(self.device_type, dtype=self.dtype)


class BFloat16(_Autocast):
    """Forward in bfloat16; its range is that of float32, so that no scaler is needed."""

    name = "bf16"

    def __init__(self, device_type: str) -> None:
        super().__init__(device_type, torch.bfloat16)


class Float16(_Autocast):
    """Forward in float16 with a gradient scaler, which skips steps whose gradients overflowed.

    Args:
        device_type: ``"cuda"``, ``"cpu"`` or ``"mps"``.
        scaler: the scaler to use (default: a new ``torch.amp.GradScaler``).
        dtype: the type of autocast.
    """

    name = "fp16"
    scales_gradients = True

    def __init__(
        self,
        device_type: str,
        scaler: torch.amp.GradScaler | None = None,
        dtype: torch.dtype = torch.float16,
    ) -> None:
        super().__init__(device_type, dtype)
        self.scaler = torch.amp.GradScaler(device_type) if scaler is None else scaler

    def backward(self, total: torch.Tensor, seed: torch.Tensor | None = None) -> None:
        """Run backward from the scaled loss."""
        torch.autograd.backward(self.scaler.scale(total), seed)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the weights unless a gradient is infinite, then adapt the scale."""
        self.scaler.step(optimizer)
        self.scaler.update()

    def metrics(self) -> dict[str, float]:
        """The current scale; reading it waits for the device."""
        return {"grad_scaler": self.scaler.get_scale()}

    def state_dict(self) -> dict[str, Any]:
        """Scale and growth tracker."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the scale."""
        self.scaler.load_state_dict(dict(state))


def build_precision(name: str | Precision, device: torch.device) -> Precision:
    """The precision object for ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"auto"``.

    ``"auto"`` is bf16 where the accelerator computes in it, else fp16 on CUDA, else fp32 (on a CPU bfloat16 is
    often slower than float32).

    Raises:
        TrainingError: the name is unknown.
    """
    if isinstance(name, Precision):
        return name
    if name == "auto":
        name = "fp32"
        if device.type == "cuda":
            name = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    builders: dict[str, Callable[[], Precision]] = {
        "fp32": Precision,
        "bf16": lambda: BFloat16(device.type),
        "fp16": lambda: Float16(device.type),
    }
    if name not in builders:
        raise TrainingError(f"precision {name!r} is unknown: use 'fp32', 'bf16', 'fp16' or 'auto'")
    return builders[name]()


def device_of(model: torch.nn.Module) -> torch.device:
    """The device of a model's first parameter; the CPU for a model without any."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
