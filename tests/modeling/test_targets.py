"""Label maps and class numbers of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drivetrain.errors import ModelError
from drivetrain.modeling.targets import class_ids, label_map

NAMED = {"file_name": "a.png"}


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
