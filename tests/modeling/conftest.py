"""A config and batches for models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from drivetrain.config import CfgNode
from drivetrain.engine.defaults.config import get_cfg
from drivetrain.structures import Boxes, Instances

MakeCfg = Callable[..., CfgNode]
MakeBatch = Callable[..., list[dict[str, Any]]]


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
                node = node[parent]
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
