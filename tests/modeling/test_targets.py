"""Objects, label maps and class numbers of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drivetrain.errors import ModelError
from drivetrain.modeling.targets import boxes_within, class_ids, label_map, objects
from drivetrain.structures import BitMasks, Boxes, Instances

NAMED = {"file_name": "a.png"}


def instances(*classes: int, shape: str = "gt_boxes") -> Instances:
    count = len(classes)
    values = Boxes(torch.ones(count, 4)) if shape == "gt_boxes" else BitMasks(torch.ones(count, 8, 8))
    return Instances((8, 8), **{shape: values, "gt_classes": torch.tensor(classes, dtype=torch.int64)})


@pytest.mark.parametrize("shape", ["gt_boxes", "gt_masks"])
@pytest.mark.parametrize("classes", [(0, 2, 1), ()])
def test_objects_come_as_they_are(classes, shape) -> None:
    found = instances(*classes, shape=shape)
    assert objects({"instances": found}, 3, shape) is found


def test_boxes_follow_the_image() -> None:
    found = Instances((100, 160), gt_boxes=Boxes(torch.tensor([[16.0, 10.0, 160.0, 100.0]])))
    assert boxes_within((50, 320), found, torch.device("cpu")).tolist() == [[32, 5, 320, 50]]
    assert boxes_within((100, 160), found, torch.device("cpu")).tolist() == [[16, 10, 160, 100]]
    assert found.gt_boxes.tensor.tolist() == [[16, 10, 160, 100]]


@pytest.mark.parametrize("classes", [(0, 3), (-1, 2)])
def test_classes_that_the_model_does_not_have_are_named(classes) -> None:
    found = rf"a.png has classes \[{classes[0]}, {classes[1]}\], but the model has 3, .* set MODEL.NUM_CLASSES"
    with pytest.raises(ModelError, match=found):
        objects({**NAMED, "instances": instances(*classes)}, 3)


@pytest.mark.parametrize(
    "found", [None, [1], instances(0, shape="gt_masks"), Instances((8, 8), gt_boxes=Boxes(torch.ones(1, 4)))]
)
def test_missing_objects_are_named(found) -> None:
    message = r"'instances' with gt_boxes and gt_classes, but that of a.png has .*: annotate the dataset with boxes"
    with pytest.raises(ModelError, match=message):
        objects({**NAMED, "instances": found}, 3)


def test_label_maps_come_as_they_are() -> None:
    labels = torch.tensor([[0, 2], [255, 1]], dtype=torch.uint8)
    assert label_map({"sem_seg": labels}, (2, 2), 3) is labels
    whole = labels.long()
    whole[1, 0] = -1
    assert label_map({"sem_seg": whole}, (2, 2), 3, ignore_label=-1) is whole


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, r"of shape \(2, 3\), its image's, but that of a.png is None"),
        (torch.zeros(3, 2, dtype=torch.uint8), r"is torch.uint8 of shape \(3, 2\)"),
        (torch.zeros(2, 3), r"is torch.float32 of shape \(2, 3\)"),
        (torch.tensor([[0, 1, 3], [255, 7, 3]]), r"a.png has the labels \[3, 7\], but the model has 3 classes"),
        (torch.tensor([[0, 1, -1], [0, 0, 0]]), r"the labels \[-1\].*255 is ignored"),
        (torch.full((2, 3), 254, dtype=torch.uint8), r"the labels \[254\]"),
    ],
)
def test_bad_label_maps_are_named(labels, message) -> None:
    with pytest.raises(ModelError, match=message):
        label_map({**NAMED, "sem_seg": labels}, (2, 3), 3)


def test_class_numbers() -> None:
    batch = [{"class_id": 0}, {"class_id": np.int64(2)}, {"class_id": torch.tensor(1)}]
    assert class_ids(batch, 3).tolist() == [0, 2, 1]
    assert class_ids(batch, 3).dtype == torch.int64


@pytest.mark.parametrize("number", [None, 3, -1, 1.0, True, "1", torch.tensor([0, 1])])
def test_bad_class_numbers_are_named(number) -> None:
    with pytest.raises(ModelError, match=r"'class_id', here 0 to 2, but that of a.png is .*: set MODEL.NUM_CLASSES"):
        class_ids([{**NAMED, "class_id": number}], 3)
