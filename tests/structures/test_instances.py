"""Instances: fields of equal length, indexed together."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from drivetrain.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks

TRIANGLE = [0.0, 0.0, 4.0, 0.0, 0.0, 4.0]


@pytest.fixture
def instances() -> Instances:
    return Instances(
        (20, 30),
        gt_boxes=Boxes(torch.arange(12.0).view(3, 4)),
        gt_classes=torch.tensor([7, 8, 9]),
        gt_masks=PolygonMasks([[TRIANGLE], [TRIANGLE, TRIANGLE], []]),
        gt_keypoints=Keypoints(torch.zeros(3, 2, 3)),
        bits=BitMasks(torch.eye(3, dtype=torch.bool)[:, None, :]),
        names=["a", "b", "c"],
    )


def test_attributes_are_fields(instances: Instances) -> None:
    assert len(instances) == 3
    assert instances.image_size == (20, 30)
    instances.scores = torch.ones(3)
    assert instances.has("scores")
    assert instances.get("scores") is instances.scores
    instances.remove("scores")
    assert not instances.has("scores")
    with pytest.raises(AttributeError, match=r"no field 'scores'.*gt_boxes, gt_classes"):
        _ = instances.scores
    with pytest.raises(KeyError):
        instances.get("scores")
    with pytest.raises(KeyError):
        instances.remove("scores")
    assert list(instances.get_fields()) == ["gt_boxes", "gt_classes", "gt_masks", "gt_keypoints", "bits", "names"]


def test_wrong_length_is_refused(instances: Instances) -> None:
    with pytest.raises(ValueError, match=r"'scores' has 2 entries.*have 3"):
        instances.scores = torch.ones(2)
    with pytest.raises(ValueError, match="entries"):
        Instances((1, 1), a=[1], b=[])


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, [7]),
        (-1, [9]),
        (slice(1, None), [8, 9]),
        (torch.tensor([True, False, True]), [7, 9]),
        (np.array([False, True, False]), [8]),
        (torch.tensor([2, 0]), [9, 7]),
        ([1, 1], [8, 8]),
        (torch.zeros(3, dtype=torch.bool), []),
    ],
)
def test_indexing_picks_from_every_field(instances: Instances, index, expected) -> None:
    picked = instances[index]
    assert picked.gt_classes.tolist() == expected
    assert picked.gt_boxes.tensor[:, 0].tolist() == [4.0 * (c - 7) for c in expected]
    assert [len(p) for p in picked.gt_masks.polygons] == [{7: 1, 8: 2, 9: 0}[c] for c in expected]
    assert picked.names == ["abc"[c - 7] for c in expected]
    assert len(picked.gt_keypoints) == len(picked.bits) == len(picked) == len(expected)
    assert picked.image_size == (20, 30)


def test_index_out_of_range(instances: Instances) -> None:
    for index in (3, -4):
        with pytest.raises(IndexError, match=str(index)):
            instances[index]


def test_iterating_gives_instances_of_one(instances: Instances) -> None:
    assert [one.gt_classes.tolist() for one in instances] == [[7], [8], [9]]


def test_to_moves_what_can_move(instances: Instances) -> None:
    moved = instances.to("cpu")
    assert moved is not instances
    assert moved.names == ["a", "b", "c"]
    assert moved.gt_boxes.device.type == "cpu"


def test_cat(instances: Instances) -> None:
    instances.array = np.arange(3)
    joined = Instances.cat([instances, instances[1:]])
    assert joined.gt_classes.tolist() == [7, 8, 9, 8, 9]
    assert joined.names == ["a", "b", "c", "b", "c"]
    assert joined.array.tolist() == [0, 1, 2, 1, 2]
    assert [len(p) for p in joined.gt_masks] == [1, 2, 0, 2, 0]
    assert joined.bits.tensor.shape == (5, 1, 3)
    with pytest.raises(ValueError, match="empty"):
        Instances.cat([])
    with pytest.raises(ValueError, match="of one image"):
        Instances.cat([instances, Instances((1, 1), gt_classes=torch.zeros(1))])
    with pytest.raises(ValueError, match="'x' is a range"):
        Instances.cat([Instances((1, 1), x=range(2))] * 2)


def test_copies_and_pickles(instances: Instances) -> None:
    for clone in (copy.copy(instances), copy.deepcopy(instances), pickle.loads(pickle.dumps(instances))):
        assert clone.gt_classes.tolist() == [7, 8, 9]
        assert clone.image_size == (20, 30)


def test_text_and_empty() -> None:
    empty = Instances((4, 5))
    assert len(empty) == 0
    assert str(empty) == "Instances(num_instances=0, image_height=4, image_width=5, fields=[])"
    empty.scores = torch.tensor([0.5])
    assert "scores: tensor([0.5" in repr(empty)
