"""A config and batches for models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.config import CfgNode
from drivetrain.engine.defaults.config import get_cfg
from drivetrain.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks

MakeCfg = Callable[..., CfgNode]
MakeBatch = Callable[..., list[dict[str, Any]]]


def polygon_in(box: torch.Tensor) -> np.ndarray[Any, Any]:
    """A polygon of five corners that fills most of a box, flat."""
    x0, y0, x1, y1 = box.tolist()
    corners = [(0.2, 0.0), (1.0, 0.1), (0.8, 0.9), (0.4, 1.0), (0.0, 0.5)]
    return np.array([v for x, y in corners for v in (x0 + x * (x1 - x0), y0 + y * (y1 - y0))])


@pytest.fixture
def add_targets() -> Callable[..., list[dict[str, Any]]]:
    """``add_targets(batch, keypoints=4, bitmaps=False)``: the batch with targets of every kind beside its boxes."""

    def add(batch: list[dict[str, Any]], keypoints: int = 4, bitmaps: bool = False) -> list[dict[str, Any]]:
        random = torch.Generator().manual_seed(1)
        for entry in batch:
            instances = entry["instances"]
            height, width = instances.image_size
            boxes = instances.gt_boxes.tensor
            masks = PolygonMasks([[polygon_in(box)] for box in boxes])
            instances.gt_masks = BitMasks.from_polygon_masks(masks, height, width) if bitmaps else masks
            places = torch.rand(len(boxes), keypoints, 2, generator=random)
            xy = boxes[:, None, :2] + places * (boxes[:, None, 2:] - boxes[:, None, :2])
            seen = torch.randint(0, 3, (len(boxes), keypoints, 1), generator=random)
            instances.gt_keypoints = Keypoints(torch.cat((xy, seen), dim=2))
            entry["sem_seg"] = torch.randint(0, 3, (height, width), generator=random, dtype=torch.uint8)
            entry["sem_seg"][: height // 4] = 255
            entry["class_id"] = int(torch.randint(0, 3, (), generator=random))
        return batch

    return add


@pytest.fixture
def make_cfg() -> MakeCfg:
    """``make_cfg(name, KEY=value...)``: a config for a model of 3 classes on the CPU; ``__`` stands for the dot."""

    def make(name: str, **values: Any) -> CfgNode:
        cfg = get_cfg()
        cfg.MODEL.NAME, cfg.MODEL.NUM_CLASSES, cfg.MODEL.DEVICE = name, 3, "cpu"
        for key, value in values.items():
            *parents, last = key.split("__")
            node = cfg
            for parent in parents:
                node = node.setdefault(parent, CfgNode())
            setattr(node, last, value)
        return cfg

    return make


@pytest.fixture
def make_batch() -> MakeBatch:
    """``make_batch((h, w), ..., boxes=2)``: random images with that many random boxes each, shown at half size."""

    def make(*sizes: tuple[int, int], boxes: int = 2, seed: int = 0) -> list[dict[str, Any]]:
        random = torch.Generator().manual_seed(seed)
        batch = []
        for i, (h, w) in enumerate(sizes):
            corner = torch.rand(boxes, 2, generator=random) * torch.tensor([w / 2, h / 2])
            size = torch.rand(boxes, 2, generator=random) * torch.tensor([w / 3, h / 3]) + 8
            batch.append(
                {
                    "image": torch.randint(0, 256, (3, h, w), generator=random, dtype=torch.uint8),
                    "instances": Instances(
                        (h, w),
                        gt_boxes=Boxes(torch.cat((corner, corner + size), dim=1)),
                        gt_classes=torch.randint(0, 3, (boxes,), generator=random),
                    ),
                    "height": 2 * h,
                    "width": 2 * w,
                    "image_id": i,
                    "file_name": f"{i}.jpg",
                }
            )
        return batch

    return make
