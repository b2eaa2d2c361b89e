"""Transforms of samples that are mapped already, against mapping with the transform."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drivetrain.data.annotations import Targets
from drivetrain.data.moved import moved_instances, moved_labels, moved_sample
from drivetrain.data.transforms import CropTransform, NoOpTransform, PadTransform, ResizeTransform, Transform
from drivetrain.structures import BoxMode

ANNOTATIONS = [
    {
        "bbox": [x, y, x + 12, y + 9],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": k,
        "segmentation": [[x, y, x + 12, y, x + 12, y + 9, x, y + 9]],
        "keypoints": [x + 1, y + 2, 2, x + 11, y + 3, 1, 0, 0, 0],
    }
    for k, (x, y) in enumerate([(2.0, 3.0), (20.0, 8.0), (25.0, 18.0)])
]
TRANSFORMS = [
    CropTransform((30, 40), 4, 10, 20, 18),
    PadTransform((30, 40), (64, 48), 5, 6),
    ResizeTransform((30, 40), (60, 80)),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_as_if_it_had_been_mapped_so(transform: Transform, mask_format: str) -> None:
    targets = Targets(mask_format=mask_format, keypoints=True)
    moved = moved_instances(targets(ANNOTATIONS, NoOpTransform((30, 40))), transform)
    expected = targets(ANNOTATIONS, transform)
    assert moved.image_size == expected.image_size and len(moved) == len(expected) > 0
    assert torch.allclose(moved.gt_boxes.tensor, expected.gt_boxes.tensor)
    assert moved.gt_classes.tolist() == expected.gt_classes.tolist()
    assert torch.allclose(moved.gt_keypoints.tensor, expected.gt_keypoints.tensor)
    if mask_format == "polygon":
        assert all(np.allclose(a[0], b[0]) for a, b in zip(moved.gt_masks, expected.gt_masks, strict=True))
    else:
        different = moved.gt_masks.tensor != expected.gt_masks.tensor
        assert different.sum() <= 0.1 * expected.gt_masks.tensor.sum()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("fill", [255, 0, 300])
def test_labels_keep_all_their_bits(dtype: torch.dtype, fill: int) -> None:
    most = 255 if dtype == torch.uint8 else 65535
    labels = torch.randint(0, most + 1, (30, 40), generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = torch.full((64, 48), fill)
    expected[5:35, 6:46] = labels
    moved = moved_labels(labels, PadTransform((30, 40), (64, 48), 5, 6), fill)
    assert moved.dtype == torch.int64 and torch.equal(moved, expected)
    sample = {"image": torch.zeros(3, 30, 40, dtype=torch.uint8), "sem_seg": labels}
    cropped = moved_sample(sample, CropTransform((30, 40), 4, 10, 20, 18))["sem_seg"]
    assert cropped.dtype == dtype and torch.equal(cropped, labels[4:24, 10:28])


def test_the_sample_given_stays_as_it_is() -> None:
    instances = Targets()(ANNOTATIONS, NoOpTransform((30, 40)))
    image = torch.zeros(3, 30, 40, dtype=torch.uint8)
    sample = {"image": image, "instances": instances, "sem_seg": torch.full((30, 40), 3), "image_id": 5}
    moved = moved_sample(sample, CropTransform((30, 40), 0, 0, 10, 10))
    assert moved["image"].shape == (3, 10, 10) and moved["sem_seg"].shape == (10, 10) and moved["image_id"] == 5
    assert moved["sem_seg"].dtype == torch.int64 and len(moved["instances"]) == 1
    assert sample["image"] is image and sample["instances"] is instances and len(instances) == 3
