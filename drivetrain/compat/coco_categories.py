"""The categories of COCO: ids and names of its 80 things and 53 kinds of stuff, and the keypoints of a person.

They are those of the COCO panoptic and keypoint annotation files (https://cocodataset.org). The colours are this
package's, one fixed colour for each id.
"""

from __future__ import annotations

from typing import Any

from drivetrain.errors import DatasetError
from drivetrain.visualization import class_color

__all__ = [
    "COCO_CATEGORIES",
    "COCO_PERSON_KEYPOINT_FLIP_MAP",
    "COCO_PERSON_KEYPOINT_NAMES",
    "KEYPOINT_CONNECTION_RULES",
    "builtin_metadata",
    "instances_metadata",
    "keypoints_metadata",
]

_THINGS = """
1 person, 2 bicycle, 3 car, 4 motorcycle, 5 airplane, 6 bus, 7 train, 8 truck, 9 boat, 10 traffic light,
11 fire hydrant, 13 stop sign, 14 parking meter, 15 bench, 16 bird, 17 cat, 18 dog, 19 horse, 20 sheep, 21 cow,
22 elephant, 23 bear, 24 zebra, 25 giraffe, 27 backpack, 28 umbrella, 31 handbag, 32 tie, 33 suitcase, 34 frisbee,
35 skis, 36 snowboard, 37 sports ball, 38 kite, 39 baseball bat, 40 baseball glove, 41 skateboard, 42 surfboard,
43 tennis racket, 44 bottle, 46 wine glass, 47 cup, 48 fork, 49 knife, 50 spoon, 51 bowl, 52 banana, 53 apple,
54 sandwich, 55 orange, 56 broccoli, 57 carrot, 58 hot dog, 59 pizza, 60 donut, 61 cake, 62 chair, 63 couch,
64 potted plant, 65 bed, 67 dining table, 70 toilet, 72 tv, 73 laptop, 74 mouse, 75 remote, 76 keyboard,
77 cell phone, 78 microwave, 79 oven, 80 toaster, 81 sink, 82 refrigerator, 84 book, 85 clock, 86 vase, 87 scissors,
88 teddy bear, 89 hair drier, 90 toothbrush
"""
_STUFF = """
92 banner, 93 blanket, 95 bridge, 100 cardboard, 107 counter, 109 curtain, 112 door-stuff, 118 floor-wood, 119 flower,
122 fruit, 125 gravel, 128 house, 130 light, 133 mirror-stuff, 138 net, 141 pillow, 144 platform, 145 playingfield,
147 railroad, 148 river, 149 road, 151 roof, 154 sand, 155 sea, 156 shelf, 159 snow, 161 stairs, 166 tent, 168 towel,
171 wall-brick, 175 wall-stone, 176 wall-tile, 177 wall-wood, 178 water-other, 180 window-blind, 181 window-other,
184 tree-merged, 185 fence-merged, 186 ceiling-merged, 187 sky-other-merged, 188 cabinet-merged, 189 table-merged,
190 floor-other-merged, 191 pavement-merged, 192 mountain-merged, 193 grass-merged, 194 dirt-merged, 195 paper-merged,
196 food-other-merged, 197 building-other-merged, 198 rock-merged, 199 wall-other-merged, 200 rug-merged
"""
_SIDES = ("left", "right")
_PAIRS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")


def _categories(listed: str, isthing: int) -> list[dict[str, Any]]:
    pairs = (entry.split(maxsplit=1) for entry in listed.replace("\n", " ").split(","))
    return [{"id": int(i), "name": n.strip(), "isthing": isthing, "color": list(class_color(int(i)))} for i, n in pairs]


COCO_CATEGORIES = (*_categories(_THINGS, 1), *_categories(_STUFF, 0))
"""Each with ``id``, ``name``, ``isthing`` (0 or 1) and ``color`` (R, G, B in 0 to 255)."""

COCO_PERSON_KEYPOINT_NAMES = ("nose", *(f"{side}_{part}" for part in _PAIRS for side in _SIDES))
"""The 17 keypoints of a person, in COCO's order."""

COCO_PERSON_KEYPOINT_FLIP_MAP = tuple((f"left_{part}", f"right_{part}") for part in _PAIRS)
"""Those that change places when an image is mirrored."""

_LIMBS = ("shoulder elbow", "elbow wrist", "shoulder hip", "hip knee", "knee ankle")
_ENDS = (
    ("nose", "left_eye"),
    ("nose", "right_eye"),
    *((f"{side}_eye", f"{side}_ear") for side in _SIDES),
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
    *((f"{side}_{limb.split()[0]}", f"{side}_{limb.split()[1]}") for limb in _LIMBS for side in _SIDES),
)
KEYPOINT_CONNECTION_RULES = tuple((first, second, class_color(i)) for i, (first, second) in enumerate(_ENDS))
"""Keypoints that are joined by a line when they are drawn, and the line's colour."""


def instances_metadata() -> dict[str, Any]:
    """The metadata of COCO's instances: class names, colours, and the class of each category id."""
    things = [category for category in COCO_CATEGORIES if category["isthing"]]
    return {
        "thing_dataset_id_to_contiguous_id": {category["id"]: place for place, category in enumerate(things)},
        "thing_classes": [category["name"] for category in things],
        "thing_colors": [category["color"] for category in things],
    }


def keypoints_metadata() -> dict[str, Any]:
    """The metadata of COCO's keypoints: those of persons."""
    return {
        "thing_classes": ["person"],
        "keypoint_names": list(COCO_PERSON_KEYPOINT_NAMES),
        "keypoint_flip_map": list(COCO_PERSON_KEYPOINT_FLIP_MAP),
        "keypoint_connection_rules": list(KEYPOINT_CONNECTION_RULES),
    }


def builtin_metadata(dataset_name: str) -> dict[str, Any]:
    """The metadata of ``coco``, or of ``coco_person``, whose objects have keypoints.

    Raises:
        DatasetError: the name is another.
    """
    known = {"coco": instances_metadata, "coco_person": keypoints_metadata}
    if dataset_name not in known:
        raise DatasetError(f"there is metadata of 'coco' and of 'coco_person' here, not of {dataset_name!r}")
    return known[dataset_name]()
