"""detectron2's changes of colour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from drivetrain.data import transforms as native

from .transforms_base import Array, NoOpTransform, Sized, Transform
from .transforms_input import DrawnAugmentation

__all__ = [
    "BlendTransform",
    "ColorTransform",
    "PILColorTransform",
    "RandomBrightness",
    "RandomContrast",
    "RandomLighting",
    "RandomSaturation",
    "StillTransform",
]

Source = Any  # a number, an array that broadcasts to (H, W, C), or a function of the image that returns one

# Krizhevsky et al., "ImageNet classification with deep convolutional neural networks" (NIPS 2012), section 4.1: the
# principal components of ImageNet's colours, as published with later implementations.
_COMPONENTS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
_VARIANCES = np.array([0.2175, 0.0188, 0.0045])
_LUMA = np.array([0.299, 0.587, 0.114])


class StillTransform(Transform):
    """A transform that moves nothing."""

    def apply_coords(self, coords: Array) -> Array:
        """The points as they are."""
        return coords

    def apply_segmentation(self, segmentation: Array) -> Array:
        """The label map as it is."""
        return segmentation

    def inverse(self) -> Transform:
        """None of the geometry has to be undone."""
        return NoOpTransform()


class ColorTransform(StillTransform):
    """Puts the image through a function of the user's."""

    def __init__(self, op: Callable[[Any], Any]) -> None:
        """``op`` takes an image (H, W, C) and returns one of the same size.

        Raises:
            ValueError: it cannot be called.
        """
        if not callable(op):
            raise ValueError(f"the op of a ColorTransform must be a function of an image, not {op!r}")
        self.op = op

    def apply_image(self, img: Array) -> Array:
        """What the function returns."""
        return np.asarray(self.op(img))


class PILColorTransform(ColorTransform):
    """Puts the image, as one of Pillow's, through a function of the user's."""

    def apply_image(self, img: Array) -> Array:
        """What the function returns for the uint8 image (H, W, 3) or (H, W)."""
        return np.asarray(self.op(Image.fromarray(img)))


class BlendTransform(StillTransform):
    """``src_weight * src_image + dst_weight * image``; uint8 images are cut to 0..255 and rounded down."""

    def __init__(self, src_image: Source, src_weight: float, dst_weight: float) -> None:
        """Define the sum; ``src_image`` is a number, an array like the image, or a function of it that makes one."""
        self.src_image, self.src_weight, self.dst_weight = src_image, src_weight, dst_weight

    def apply_image(self, img: Array) -> Array:
        """The sum, in the image's dtype."""
        source = self.src_image(img) if callable(self.src_image) else self.src_image
        if img.dtype == np.uint8:
            mixed = self.src_weight * np.asarray(source, dtype=np.float32) + self.dst_weight * img.astype(np.float32)
            return mixed.clip(0, 255).astype(np.uint8)
        return np.asarray(self.src_weight * source + self.dst_weight * img, dtype=img.dtype)


def _mean(img: Array) -> float:
    return float(img.mean())


def _grey(img: Array) -> Array:
    return np.asarray(img.dot(_LUMA)[:, :, np.newaxis])


class _Blending(DrawnAugmentation):
    """A `BlendTransform` with a weight drawn from a range."""

    source: Source = 0

    def __init__(self, intensity_min: float, intensity_max: float) -> None:
        """The weight of the image is drawn evenly from [intensity_min, intensity_max]; 1 changes nothing."""
        self.intensity_min, self.intensity_max = intensity_min, intensity_max

    def draw(self, rng: np.random.Generator, height: int, width: int) -> native.Transform:
        """Draw the weight."""
        weight = float(rng.uniform(self.intensity_min, self.intensity_max))
        return Sized(BlendTransform(type(self).source, 1 - weight, weight), (height, width))


class RandomBrightness(_Blending):
    """Blends the image with black: the weight is the factor of all values."""


class RandomContrast(_Blending):
    """Blends the image with its mean value."""

    source = staticmethod(_mean)


class RandomSaturation(_Blending):
    """Blends the image with its grey version; the channels are taken to be red, green, blue."""

    source = staticmethod(_grey)


class RandomLighting(DrawnAugmentation):
    """Adds noise along the principal components of ImageNet's colours: AlexNet's augmentation.

    As in detectron2, the noise is in units of an image with values from 0 to 1, so little of it is seen in uint8.
    """

    def __init__(self, scale: float) -> None:
        """``scale`` is the standard deviation of the three weights."""
        self.scale = scale
        self.eigen_vecs, self.eigen_vals = _COMPONENTS, _VARIANCES

    def draw(self, rng: np.random.Generator, height: int, width: int) -> native.Transform:
        """Draw the weights."""
        weights = rng.normal(scale=self.scale, size=3)
        return Sized(BlendTransform(self.eigen_vecs.dot(weights * self.eigen_vals), 1.0, 1.0), (height, width))
