from __future__ import annotations

from drivetrain.data.formats.keypoint_pairs import flip_pairs

PARTS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")


def test_the_pairs_of_coco_persons() -> None:
    names = ["nose", *(f"{side}_{part}" for part in PARTS for side in ("left", "right"))]
    assert flip_pairs(names) == [(f"left_{part}", f"right_{part}") for part in PARTS]
    assert flip_pairs(names[::-1]) == [(f"left_{part}", f"right_{part}") for part in PARTS[::-1]]


def test_other_spellings_and_names_without_a_counterpart() -> None:
    assert flip_pairs(["wing-left", "wing-right", "LeftPaw", "RightPaw", "left_horn", "top"]) == [
        ("wing-left", "wing-right"),
        ("LeftPaw", "RightPaw"),
    ]
    assert flip_pairs([]) == []
