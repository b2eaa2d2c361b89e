"""Augmentations from a config."""

from __future__ import annotations

from typing import Any

from drivetrain.errors import ConfigError

from .base import Augmentation
from .color import ColorJitter
from .crop import RandomCrop
from .flip import RandomFlip
from .iou_crop import RandomIoUCrop
from .pad import FixedSizeCrop, Letterbox
from .resize import ResizeShortestEdge
from .rotate import RandomRotation
from .scale import Resize, ResizeScale, ResizeToFit

__all__ = ["build_augmentation"]

RESIZES = ("shortest_edge", "fixed", "letterbox", "scale_jitter")


def build_augmentation(cfg: Any, is_train: bool) -> list[Augmentation]:
    """The augmentations that the ``INPUT`` section of a config describes.

    In training: rotation, crop (those that are enabled), resize, flip, colour. Otherwise: resize.

    Args:
        cfg: a config with ``INPUT``.
        is_train: for training or for evaluation.

    Raises:
        ConfigError: a value is unusable; the message names the key.
    """
    section = cfg.INPUT
    if not is_train:
        return _resize_in_testing(section)
    augmentations: list[Augmentation] = []
    if angles := tuple(section.get("ROTATION", ())):
        augmentations.append(RandomRotation(angles, expand=False))
    if section.CROP.ENABLED:
        augmentations.append(_crop(section.CROP))
    augmentations += _resize_in_training(section)
    augmentations += _flips(section.RANDOM_FLIP)
    color = section.get("COLOR", {})
    strengths = {kind: color.get(kind.upper(), 0.0) for kind in ("brightness", "contrast", "saturation", "hue")}
    if any(strengths.values()):
        augmentations.append(ColorJitter(**strengths, image_format=section.FORMAT))
    return augmentations


def _crop(section: Any) -> Augmentation:
    if section.TYPE == "iou":
        return RandomIoUCrop()
    return RandomCrop(section.TYPE, section.SIZE, bool(section.get("KEEP_OBJECT", False)))


def _resize_in_training(section: Any) -> list[Augmentation]:
    kind = section.get("RESIZE", "shortest_edge")
    if kind == "shortest_edge":
        return [ResizeShortestEdge(section.MIN_SIZE_TRAIN, section.MAX_SIZE_TRAIN, section.MIN_SIZE_TRAIN_SAMPLING)]
    if kind == "fixed":
        return [Resize(section.SIZE)]
    if kind == "letterbox":
        return [Letterbox(section.SIZE)]
    if kind == "scale_jitter":
        return [ResizeScale(*section.SCALE_RANGE, *section.SIZE), FixedSizeCrop(section.SIZE)]
    raise ConfigError(f"INPUT.RESIZE must be one of {', '.join(map(repr, RESIZES))}, not {kind!r}")


def _resize_in_testing(section: Any) -> list[Augmentation]:
    """As in training, but for the padding, which is the model's business, and the chance."""
    kind = section.get("RESIZE", "shortest_edge")
    if kind == "shortest_edge":
        return [ResizeShortestEdge(section.MIN_SIZE_TEST, section.MAX_SIZE_TEST)]
    return [Resize(section.SIZE) if kind == "fixed" else ResizeToFit(section.SIZE)]


def _flips(which: str) -> list[Augmentation]:
    choices = {"horizontal": (True,), "vertical": (False,), "both": (True, False), "none": ()}
    if which not in choices:
        raise ConfigError(f"INPUT.RANDOM_FLIP must be one of {', '.join(map(repr, choices))}, not {which!r}")
    return [RandomFlip(horizontal=horizontal, vertical=not horizontal) for horizontal in choices[which]]
