"""Changes of colour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from drivetrain.data.pixels import reversed_channels
from drivetrain.errors import ConfigError

from .base import Augmentation, NoOpTransform, Size, Transform, load_kernels

__all__ = ["ColorJitter", "ColorTransform"]

Array = np.ndarray[Any, Any]
KINDS = ("brightness", "contrast", "saturation", "hue")


class ColorTransform(Transform):
    """Adjusts brightness, contrast, saturation and hue, in a given order; geometry stays as it is."""

    def __init__(self, input_size: Size, steps: tuple[tuple[str, float], ...], image_format: str = "RGB") -> None:
        """Define the steps.

        Args:
            input_size: (height, width) of the images it is for.
            steps: (kind, amount): a factor (1 changes nothing) for "brightness", "contrast" and "saturation", a turn
                of the colour circle in [-0.5, 0.5] (0 changes nothing) for "hue".
            image_format: order of the channels, "RGB", "BGR" or "L" (one channel).
        """
        super().__init__(input_size)
        self.steps, self.image_format = steps, image_format

    def _image(self, image: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional

        apply: dict[str, Callable[[Tensor, float], Tensor]] = {
            "brightness": functional.adjust_brightness_image,
            "contrast": functional.adjust_contrast_image,
            "saturation": functional.adjust_saturation_image,
            "hue": functional.adjust_hue_image,
        }
        swap = self.image_format == "BGR"  # grey levels and hue depend on which channel is red
        out = reversed_channels(image) if swap else image
        for kind, amount in self.steps:
            out = apply[kind](out, amount)
        return reversed_channels(out) if swap else out

    def _mask(self, masks: Tensor) -> Tensor:
        return masks

    def apply_coords(self, coords: Array) -> Array:
        """The points as they are."""
        return np.array(coords)


class ColorJitter(Augmentation):
    """Random brightness, contrast, saturation and hue, applied in random order."""

    def __init__(
        self,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        *,
        image_format: str = "RGB",
    ) -> None:
        """Define the strengths; 0 leaves that property alone.

        Args:
            brightness: the factor is drawn from [max(0, 1 - brightness), 1 + brightness].
            contrast: likewise.
            saturation: likewise.
            hue: the turn is drawn from [-hue, hue]; at most 0.5.
            image_format: order of the channels, "RGB", "BGR" or "L".

        Raises:
            ConfigError: a strength is negative, not finite, or the hue above 0.5.
        """
        load_kernels()
        strengths = dict(zip(KINDS, (brightness, contrast, saturation, hue), strict=True))
        for kind, strength in strengths.items():
            most = 0.5 if kind == "hue" else float("inf")
            if not 0 <= strength <= most or strength == float("inf"):
                limits = "in [0, 0.5]" if kind == "hue" else "0 or more"
                raise ConfigError(f"INPUT.COLOR.{kind.upper()} must be {limits}, not {strength!r}")
        self.strengths = {kind: float(s) for kind, s in strengths.items() if s > 0}
        self.image_format = image_format

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Transform:
        """Draw the amounts and their order."""
        if not self.strengths:
            return NoOpTransform((height, width))
        steps = [(kind, self._amount(rng, kind, strength)) for kind, strength in self.strengths.items()]
        order = np.argsort(rng.random(len(steps)))
        return ColorTransform((height, width), tuple(steps[k] for k in order), self.image_format)

    @staticmethod
    def _amount(rng: np.random.Generator, kind: str, strength: float) -> float:
        if kind == "hue":
            return float(rng.uniform(-strength, strength))
        return float(rng.uniform(max(0.0, 1 - strength), 1 + strength))
