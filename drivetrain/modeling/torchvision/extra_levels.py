"""Pyramid levels beyond a backbone's coarsest, for torchvision's feature pyramid."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

__all__ = ["ExtraLevels"]


class ExtraLevels(ExtraFPNBlock):  # type: ignore[misc]
    """Further levels, each a 3x3 convolution of stride 2 over the one before (RetinaNet, section 4).

    Two of them are torchvision's ``LastLevelP6P7`` with the same channels, weight for weight.
    """

    def __init__(self, channels: int, count: int) -> None:
        """Make ``count`` levels of ``channels`` on top of a pyramid of ``channels``."""
        super().__init__()
        self._names = tuple(f"p{6 + i}" for i in range(count))
        for name in self._names:
            conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            self.add_module(name, conv)

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """``results`` and ``names`` of the pyramid with the new levels appended; ``x``, its inputs, are not used."""
        level = results[-1]
        for i, name in enumerate(self._names):
            level = self.get_submodule(name)(level.relu() if i else level)
            results.append(level)
            names.append(name)
        return results, names
