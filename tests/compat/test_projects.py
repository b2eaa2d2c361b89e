"""What scripts take from detectron2's projects."""

from __future__ import annotations

import numpy as np
import pytest

from drivetrain.compat.config import get_cfg
from drivetrain.compat.projects import ColorAugSSDTransform, add_deeplab_config
from drivetrain.config import CfgNode
from drivetrain.errors import ConfigError


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    add_deeplab_config(cfg)
    return cfg


def test_the_keys_load_a_config_of_the_project(cfg: CfgNode) -> None:
    cfg.merge_from_list(["MODEL.SEM_SEG_HEAD.ASPP_DILATIONS", "[12, 24, 36]", "SOLVER.POLY_LR_POWER", "0.5"])
    assert (cfg.MODEL.SEM_SEG_HEAD.ASPP_DILATIONS, cfg.SOLVER.POLY_LR_POWER) == ([12, 24, 36], 0.5)


def image() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)


def test_colours_change_by_numpys_generator_and_nothing_moves() -> None:
    transform, start = ColorAugSSDTransform("RGB"), image()
    np.random.seed(1)
    made = [transform.apply_image(start) for _ in range(20)]
    np.random.seed(1)
    again = [transform.apply_image(start) for _ in range(20)]
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))
    assert len({m.tobytes() for m in made}) > 10 and np.array_equal(start, image())
    assert all(m.shape == start.shape and m.dtype == np.uint8 for m in made)
    points = np.eye(2)
    assert transform.apply_segmentation(start) is start and transform.apply_coords(points) is points


def test_channels_are_taken_in_the_order_given() -> None:
    start = image()
    np.random.seed(3)
    rgb = ColorAugSSDTransform("RGB").apply_image(start)
    np.random.seed(3)
    assert np.array_equal(ColorAugSSDTransform("BGR").apply_image(start[:, :, ::-1])[:, :, ::-1], rgb)
    with pytest.raises(ConfigError, match="'RGB' or 'BGR', not 'L'"):
        ColorAugSSDTransform("L")


def test_each_change_alone() -> None:
    """With the other ranges shut, brightness is a sum, contrast a product, and a grey image has no colour to change."""
    start = np.full((2, 2, 3), 100, dtype=np.uint8)
    np.random.seed(0)
    only = {"contrast_low": 1.0, "contrast_high": 1.0}
    levels = {int(ColorAugSSDTransform("RGB", 30, **only).apply_image(start)[0, 0, 0]) for _ in range(200)}
    assert 70 <= min(levels) < 75 and 125 < max(levels) <= 130 and 100 in levels
    levels = {int(ColorAugSSDTransform("RGB", 0).apply_image(start)[0, 0, 0]) for _ in range(200)}
    assert 50 <= min(levels) < 55 and 145 < max(levels) <= 150
    red = np.full((1, 1, 3), (255, 0, 0), dtype=np.uint8)
    turned = {tuple(ColorAugSSDTransform("RGB", 0, 1, 1, 1, 1, 30).apply_image(red)[0, 0].tolist()) for _ in range(200)}
    assert (255, 0, 0) in turned and all(max(c) == 255 and min(c) == 0 for c in turned) and len(turned) > 20
