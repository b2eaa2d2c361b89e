"""Augmentations from a config."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drivetrain.data.transforms import (
    ColorJitter,
    Compose,
    FixedSizeCrop,
    Letterbox,
    RandomCrop,
    RandomFlip,
    RandomIoUCrop,
    RandomRotation,
    Resize,
    ResizeScale,
    ResizeShortestEdge,
    ResizeToFit,
    build_augmentation,
)
from drivetrain.engine.defaults.config import get_cfg
from drivetrain.errors import ConfigError


def kinds(cfg: Any, is_train: bool = True) -> list[type]:
    return [type(a) for a in build_augmentation(cfg, is_train)]


def test_defaults() -> None:
    cfg = get_cfg()
    assert kinds(cfg) == [ResizeShortestEdge, RandomFlip]
    assert kinds(cfg, False) == [ResizeShortestEdge]
    (resize,) = build_augmentation(cfg, False)
    assert isinstance(resize, ResizeShortestEdge) and (resize.sizes, resize.max_size) == ((800,), 1333)


def test_everything_on() -> None:
    cfg = get_cfg()
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.COLOR.HUE = 0.1
    cfg.INPUT.RANDOM_FLIP = "vertical"
    cfg.INPUT.MIN_SIZE_TRAIN = (100, 200)
    cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "range"
    cfg.INPUT.MAX_SIZE_TRAIN = 300
    cfg.INPUT.FORMAT = "BGR"
    crop, resize, flip, color = build_augmentation(cfg, True)
    assert isinstance(crop, RandomCrop) and crop.crop_type == "relative_range" and crop.crop_size == (0.9, 0.9)
    assert isinstance(resize, ResizeShortestEdge)
    assert (resize.sizes, resize.max_size, resize.sample_style) == ((100, 200), 300, "range")
    assert isinstance(flip, RandomFlip) and flip.vertical and not flip.horizontal
    assert isinstance(color, ColorJitter) and color.strengths == {"hue": 0.1} and color.image_format == "BGR"


def test_flip_off_and_a_plain_integer() -> None:
    cfg = get_cfg()
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.INPUT.MIN_SIZE_TRAIN = 64
    (resize,) = build_augmentation(cfg, True)
    assert isinstance(resize, ResizeShortestEdge) and resize.sizes == (64,)


def test_a_bad_flip() -> None:
    cfg = get_cfg()
    cfg.INPUT.RANDOM_FLIP = "diagonal"
    with pytest.raises(ConfigError, match=r"RANDOM_FLIP.*'diagonal'"):
        build_augmentation(cfg, True)


@pytest.mark.parametrize(("which", "ways"), [("both", [True, False]), ("vertical", [False]), ("none", [])])
def test_flips(which: str, ways: list[bool]) -> None:
    cfg = get_cfg()
    cfg.INPUT.RANDOM_FLIP = which
    flips = [a for a in build_augmentation(cfg, True) if isinstance(a, RandomFlip)]
    assert [f.horizontal for f in flips] == ways


@pytest.mark.parametrize(
    ("kind", "train", "test"),
    [
        ("fixed", [Resize], [Resize]),
        ("letterbox", [Letterbox], [ResizeToFit]),
        ("scale_jitter", [ResizeScale, FixedSizeCrop], [ResizeToFit]),
    ],
)
def test_ways_of_resizing(kind: str, train: list[type], test: list[type]) -> None:
    cfg = get_cfg()
    cfg.INPUT.RESIZE, cfg.INPUT.SIZE, cfg.INPUT.RANDOM_FLIP = kind, (96, 128), "none"
    assert kinds(cfg) == train and kinds(cfg, False) == test
    rng = np.random.default_rng(0)
    assert Compose(build_augmentation(cfg, True)).draw(rng, 50, 50).output_size == (96, 128)
    assert Compose(build_augmentation(cfg, False)).draw(rng, 50, 50).output_size == (96, 128 if kind == "fixed" else 96)


def test_rotation_and_crops_around_objects() -> None:
    cfg = get_cfg()
    cfg.INPUT.ROTATION = (-5, 15)
    cfg.INPUT.CROP.ENABLED = cfg.INPUT.CROP.KEEP_OBJECT = True
    rotation, crop, *_ = build_augmentation(cfg, True)
    assert isinstance(rotation, RandomRotation) and rotation.angles == (-5, 15) and not rotation.expand
    assert isinstance(crop, RandomCrop) and crop.needs_boxes
    cfg.INPUT.CROP.TYPE = "iou"
    assert kinds(cfg)[1] is RandomIoUCrop and RandomRotation not in kinds(cfg, False)
