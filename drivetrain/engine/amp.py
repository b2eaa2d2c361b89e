"""AMPTrainer: SimpleTrainer in 16 bit precision, under the name and with the arguments older code uses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from .precision import Float16, device_of
from .train_loop import SimpleTrainer

__all__ = ["AMPTrainer"]


class AMPTrainer(SimpleTrainer):
    """:class:`SimpleTrainer` in 16 bit precision, under the name and with the arguments older code uses.

    Args:
        grad_scaler: the scaler for fp16 (default: a new one); bfloat16 needs none.
        precision: the type the forward computes in, ``torch.float16`` or ``torch.bfloat16``.
        log_grad_scaler: record the scale each iteration as ``[metric]grad_scaler``.

    Attributes:
        grad_scaler: the scaler in use.
        precision: as given.
        log_grad_scaler: as given.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        grad_scaler: torch.amp.GradScaler | None = None,
        precision: torch.dtype = torch.float16,
        log_grad_scaler: bool = False,
        async_write_metrics: bool = False,
        **options: Any,
    ) -> None:
        numerics = Float16(device_of(model).type, grad_scaler, precision)
        super().__init__(
            model,
            data_loader,
            optimizer,
            gather_metric_period,
            zero_grad_before_forward,
            async_write_metrics,
            precision=numerics,
            **options,
        )
        self.grad_scaler = numerics.scaler
        self.precision = precision
        self.log_grad_scaler = log_grad_scaler

    def step(self) -> bool:
        """Update the weights; record the scale if asked to."""
        if self.log_grad_scaler:
            self.storage.put_scalar("[metric]grad_scaler", self.grad_scaler.get_scale())
        return super().step()
