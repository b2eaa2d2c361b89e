"""A model's buffers, kept so that a step that is left out leaves no trace in them."""

from __future__ import annotations

import torch

__all__ = ["KeptBuffers"]


class KeptBuffers:
    """Copies of all buffers (batch-norm statistics and the like), on their own devices.

    A module may write into its buffers or put other tensors in their places.

    Args:
        model: whose buffers.

    Attributes:
        model: as given.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self._find()

    def _find(self) -> None:
        """Note the tensors, the places they are in, and memory for their copies."""
        self._places = [
            (module._buffers, name)
            for module in self.model.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None and buffer.numel()
        ]
        self._buffers = self._now()
        self._copies = [torch.empty_like(buffer) for buffer in self._buffers]

    def _now(self) -> list[torch.Tensor]:
        return [places[name] for places, name in self._places]  # type: ignore[misc]  # none of them was None

    @torch.no_grad()
    def keep(self) -> None:
        """Note the present values."""
        if any(now is not before for now, before in zip(self._now(), self._buffers, strict=True)):
            self._find()
        if self._buffers:
            torch._foreach_copy_(self._copies, self._buffers)

    @torch.no_grad()
    def put_back(self, where: torch.Tensor | None = None) -> None:
        """Give the buffers the noted values; with ``where``, a one-element bool on the device, only if it is True."""
        for (places, name), buffer, copy in zip(self._places, self._buffers, self._copies, strict=True):
            now = places[name]
            if where is None or now is None:
                value = copy
            elif now.shape == copy.shape:
                value = torch.where(where.to(copy.device), copy, now)
            elif where:  # which waits for the device
                value = copy
            else:
                continue
            places[name] = buffer
            buffer.copy_(value)
