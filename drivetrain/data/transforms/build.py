"""Augmentations from a config."""

from __future__ import annotations

from typing import Any

from drivetrain.errors import ConfigError

from .base import Augmentation
from .color import ColorJitter
from .crop import RandomCrop
from .flip import RandomFlip
from .resize import ResizeShortestEdge

__all__ = ["build_augmentation"]


def build_augmentation(cfg: Any, is_train: bool) -> list[Augmentation]:
    """The augmentations that the ``INPUT`` section of a config describes.

    In training: crop (if enabled), resize, flip, colour. Otherwise: resize to ``MIN_SIZE_TEST``.

    Args:
        cfg: a config with ``INPUT``.
        is_train: for training or for evaluation.

    Raises:
        ConfigError: a value is unusable; the message names the key.
    """
    section = cfg.INPUT
    if not is_train:
        return [ResizeShortestEdge(section.MIN_SIZE_TEST, section.MAX_SIZE_TEST)]
    augmentations: list[Augmentation] = []
    if section.CROP.ENABLED:
        augmentations.append(RandomCrop(section.CROP.TYPE, section.CROP.SIZE))
    augmentations.append(
        ResizeShortestEdge(section.MIN_SIZE_TRAIN, section.MAX_SIZE_TRAIN, section.MIN_SIZE_TRAIN_SAMPLING)
    )
    augmentations += _flips(section.RANDOM_FLIP)
    color = section.get("COLOR", {})
    strengths = {kind: color.get(kind.upper(), 0.0) for kind in ("brightness", "contrast", "saturation", "hue")}
    if any(strengths.values()):
        augmentations.append(ColorJitter(**strengths, image_format=section.FORMAT))
    return augmentations


def _flips(which: str) -> list[Augmentation]:
    choices = {"horizontal": (True,), "vertical": (False,), "both": (True, False), "none": ()}
    if which not in choices:
        raise ConfigError(f"INPUT.RANDOM_FLIP must be one of {', '.join(map(repr, choices))}, not {which!r}")
    return [RandomFlip(horizontal=horizontal, vertical=not horizontal) for horizontal in choices[which]]
