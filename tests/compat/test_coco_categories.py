"""COCO's categories, against torchvision's list of names by id and the published counts."""

from __future__ import annotations

import pytest
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights, KeypointRCNN_ResNet50_FPN_Weights

from drivetrain.compat.coco_categories import (
    COCO_CATEGORIES,
    COCO_PERSON_KEYPOINT_FLIP_MAP,
    COCO_PERSON_KEYPOINT_NAMES,
    KEYPOINT_CONNECTION_RULES,
    builtin_metadata,
    instances_metadata,
    keypoints_metadata,
)
from drivetrain.data.formats.keypoint_pairs import flip_pairs
from drivetrain.errors import DatasetError


def test_things_are_those_of_torchvision_by_id() -> None:
    listed = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    published = {i: name for i, name in enumerate(listed) if name not in ("N/A", "__background__")}
    things = {c["id"]: c["name"] for c in COCO_CATEGORIES if c["isthing"]}
    assert things == published and len(things) == 80


def test_stuff_follows_with_ids_and_names_of_its_own() -> None:
    stuff = [c for c in COCO_CATEGORIES if not c["isthing"]]
    ids, names = [c["id"] for c in COCO_CATEGORIES], {c["name"] for c in COCO_CATEGORIES}
    assert len(stuff) == 53 and len(COCO_CATEGORIES) == len(names) == 133 and ids == sorted(set(ids))
    assert (stuff[0], stuff[-1]["name"], ids[-1]) == (COCO_CATEGORIES[80], "rug-merged", 200)
    assert all(len(c["color"]) == 3 and all(0 <= part <= 255 for part in c["color"]) for c in COCO_CATEGORIES)


def test_metadata_of_instances() -> None:
    known = instances_metadata()
    assert known["thing_classes"][:3] == ["person", "bicycle", "car"] and len(known["thing_colors"]) == 80
    places = known["thing_dataset_id_to_contiguous_id"]
    assert (places[1], places[13], places[90], len(places)) == (0, 11, 79, 80)


def test_keypoints_are_those_of_torchvision() -> None:
    names = KeypointRCNN_ResNet50_FPN_Weights.DEFAULT.meta["keypoint_names"]
    assert list(COCO_PERSON_KEYPOINT_NAMES) == names
    assert list(COCO_PERSON_KEYPOINT_FLIP_MAP) == flip_pairs(names) and len(COCO_PERSON_KEYPOINT_FLIP_MAP) == 8
    joined = [frozenset(rule[:2]) for rule in KEYPOINT_CONNECTION_RULES]
    assert len(set(joined)) == len(joined) == 16 and set().union(*joined) == set(names)
    assert keypoints_metadata()["thing_classes"] == ["person"]
    assert builtin_metadata("coco_person") == keypoints_metadata() and builtin_metadata("coco") == instances_metadata()
    with pytest.raises(DatasetError, match="not of 'cityscapes'"):
        builtin_metadata("cityscapes")
