"""Small configs, batches and networks for the tests of the transformers models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.config import CfgNode
from drivetrain.engine.defaults.config import get_cfg
from drivetrain.modeling.build import _with_values
from drivetrain.modeling.transformers.presets import PRESETS
from drivetrain.structures import BitMasks, Boxes, Instances

SIZES = ((96, 128), (64, 90))
"""Of the images of the usual batch; the second is padded."""


def make_cfg(
    name: str, *, classes: int = 3, backbone: str = "", norm: str = "", fmt: str = "RGB", **own: Any
) -> CfgNode:
    """A config for a preset; ``own`` are keys of MODEL.TRANSFORMERS."""
    cfg = get_cfg()
    if "TRANSFORMERS" not in cfg.MODEL:
        cfg.MODEL.set_new_allowed(True)
        cfg.MODEL["TRANSFORMERS"] = CfgNode({"BASE": "", "TASK": "", "CONFIG": {}}, new_allowed=True)
    cfg.MODEL.TRANSFORMERS.set_new_allowed(True)
    cfg.merge_from_other_cfg({"MODEL": {"TRANSFORMERS": own}})
    cfg.MODEL.NAME = name
    cfg.MODEL.NUM_CLASSES = classes
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = backbone
    cfg.MODEL.BACKBONE.NORM = norm
    cfg.MODEL.SCORE_THRESH_TEST = 0.0
    cfg.INPUT.FORMAT = fmt
    return _with_values(cfg, PRESETS[name].values)


def build_preset(name: str, **options: Any) -> Any:
    """A preset's model in training mode, the same each time."""
    torch.manual_seed(0)
    return PRESETS[name].load()(make_cfg(name, **options)).train()


def make_scene(
    sizes: tuple[tuple[int, int], ...] = SIZES, boxes: int = 3, classes: int = 3, **original: int
) -> list[dict[str, Any]]:
    """Random images with random boxes, and masks that fill them, a label map and a class."""
    rng = np.random.default_rng(0)
    batch = []
    for i, (height, width) in enumerate(sizes):
        low = rng.uniform(0, 0.5, (boxes, 2))
        corners = np.concatenate((low, low + rng.uniform(0.2, 0.5, (boxes, 2))), axis=1) * (
            width,
            height,
            width,
            height,
        )
        masks = torch.zeros(boxes, height, width, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, corners.astype(int).tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        labels = torch.from_numpy(rng.integers(0, classes, boxes))
        sem_seg = torch.full((height, width), 255)
        for mask, label in zip(masks, labels.tolist(), strict=True):
            sem_seg[mask] = label
        batch.append(
            {
                "image": torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8)),
                "instances": Instances(
                    (height, width), gt_boxes=Boxes(corners), gt_classes=labels, gt_masks=BitMasks(masks)
                ),
                "sem_seg": sem_seg,
                "class_id": i % classes,
                "file_name": f"{i}.jpg",
                "height": original.get("height", height),
                "width": original.get("width", width),
            }
        )
    return batch


def without_targets(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same images with no object in them."""
    return [
        {**entry, "instances": entry["instances"][:0], "sem_seg": torch.full_like(entry["sem_seg"], 255)}
        for entry in batch
    ]


@pytest.fixture
def make_transformers_cfg() -> Callable[..., CfgNode]:
    """``make_transformers_cfg(preset, classes=3, backbone="", norm="", fmt="RGB", BASE=..., CONFIG=...)``."""
    return make_cfg


@pytest.fixture
def build() -> Callable[..., Any]:
    """``build(preset, ...)``: the model of such a config in training mode, the same each time."""
    return build_preset


@pytest.fixture
def scene() -> Callable[..., list[dict[str, Any]]]:
    """``scene(sizes, boxes=3, classes=3, height=..., width=...)``: see :func:`make_scene`."""
    return make_scene


@pytest.fixture
def emptied() -> Callable[..., list[dict[str, Any]]]:
    """``emptied(batch)``: see :func:`without_targets`."""
    return without_targets
