"""A model's buffers, kept so that a step that is left out leaves no trace in them."""

from __future__ import annotations

import torch

__all__ = ["KeptBuffers"]


class KeptBuffers:
    """Copies of all buffers (batch-norm statistics and the like), on their own devices.

    Args:
        model: whose buffers.

    Attributes:
        model: as given.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self._buffers = [buffer for buffer in model.buffers() if buffer.numel()]
        self._copies = [torch.empty_like(buffer) for buffer in self._buffers]

    @torch.no_grad()
    def keep(self) -> None:
        """Note the present values."""
        if self._buffers:
            torch._foreach_copy_(self._copies, self._buffers)

    @torch.no_grad()
    def put_back(self, where: torch.Tensor | None = None) -> None:
        """Give the buffers the noted values; with ``where``, a one-element bool on the device, only if it is True."""
        for buffer, copy in zip(self._buffers, self._copies, strict=True):
            buffer.copy_(copy if where is None else torch.where(where.to(buffer.device), copy, buffer))
