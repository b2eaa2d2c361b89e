"""A small drawn dataset with boxes, masks and keypoints, made when it is needed and equal wherever it is made.

Circles, squares and triangles of any colour and size, turned a little, partly covering each other, on cluttered and
noisy ground. It has to be learned, and a detector of under a million parameters learns it on a CPU in minutes.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from drivetrain.errors import DatasetError, OutputError

from .contours import mask_box, mask_polygons
from .shapes import SHAPE_NAMES, Picture, Shape, draw_picture

__all__ = ["KEYPOINT_NAMES", "SyntheticDataset", "make_synthetic"]

KEYPOINT_NAMES = ("top", "right", "bottom", "left")
"""The middle of a shape's uppermost, rightmost, lowest and leftmost visible pixels."""

SPLITS = ("train", "val")
MIN_SIDE = 32


@dataclass(frozen=True)
class SyntheticDataset:
    """Where a made dataset lies: an annotation file and an image folder for each split."""

    train_json: str
    train_images: str
    val_json: str
    val_images: str
    class_names: tuple[str, ...] = SHAPE_NAMES


def make_synthetic(
    folder: str | os.PathLike[str],
    *,
    train: int = 2000,
    val: int = 200,
    size: tuple[int, int] = (128, 128),
    seed: int = 0,
) -> SyntheticDataset:
    """Draw the dataset into ``folder``: ``images/train``, ``images/val`` and ``instances_train.json``, ``_val.json``.

    Image i of a split is a function of (seed, split, i) alone, so the splits share no image and a larger set begins
    with the smaller one. Each shape's box fits the pixels where it is seen; ``area`` is their number, ``segmentation``
    their outline as one polygon, ``keypoints`` their four extremes. Every shape is at least 80 % visible.

    Args:
        folder: made when missing; files of the same names are overwritten.
        train: number of training images.
        val: number of validation images.
        size: width and height of every image in pixels, 32 or more.
        seed: 0 or more.

    Raises:
        DatasetError: a number is out of range.
        OutputError: the folder cannot be written.
    """
    _check_numbers(train, val, size, seed)
    root = Path(folder)
    paths: list[str] = []
    try:
        for number, (split, count) in enumerate(zip(SPLITS, (train, val), strict=True)):
            images = root / "images" / split
            images.mkdir(parents=True, exist_ok=True)
            content = _make_split(images, number, count, size, seed)
            target = root / f"instances_{split}.json"
            _write_json(target, content)
            paths += [str(target), str(images)]
    except OSError as err:
        raise OutputError(f"the drawn dataset cannot be written to {str(root)!r}: {err.strerror or err}") from err
    train_json, train_images, val_json, val_images = paths
    return SyntheticDataset(train_json, train_images, val_json, val_images)


def _make_split(images: Path, split: int, count: int, size: tuple[int, int], seed: int) -> dict[str, Any]:
    """Draw and write the images of one split; its annotation file's content."""
    width, height = size
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i in range(count):
        picture = _picture(seed, split, i, width, height)
        name = f"{i:06d}.jpg"
        Image.fromarray(picture.pixels).save(images / name, quality=92, subsampling=0)
        entries.append({"id": i + 1, "file_name": name, "width": width, "height": height})
        annotations += [_annotation(shape, len(annotations) + k, i + 1) for k, shape in enumerate(picture.shapes, 1)]
    info = {"description": "drawn shapes", "seed": seed, "split": SPLITS[split], "size": list(size)}
    return {"info": info, "images": entries, "annotations": annotations, "categories": _categories()}


def _picture(seed: int, split: int, index: int, width: int, height: int) -> Picture:
    """Picture ``index`` of a split, the same whenever it is drawn; one without any shape is drawn anew."""
    rng = np.random.default_rng((seed, split, index))
    picture = draw_picture(rng, width, height)
    while not picture.shapes:
        picture = draw_picture(rng, width, height)
    return picture


def _annotation(shape: Shape, annotation_id: int, image_id: int) -> dict[str, Any]:
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": shape.label + 1,
        "bbox": list(mask_box(shape.mask)),
        "area": int(shape.mask.sum()),
        "iscrowd": 0,
        "segmentation": mask_polygons(shape.mask),
        "keypoints": _extremes(shape.mask),
        "num_keypoints": len(KEYPOINT_NAMES),
    }


def _extremes(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> list[float]:
    """``[x, y, 2]`` of each of KEYPOINT_NAMES, in pixel indices as COCO files have them."""
    y, x = np.nonzero(mask)
    ends = ((y, y.min()), (x, x.max()), (y, y.max()), (x, x.min()))
    found = [np.flatnonzero(axis == value) for axis, value in ends]
    return [value for at in found for value in (float(x[at].mean()), float(y[at].mean()), 2)]


def _categories() -> list[dict[str, Any]]:
    """The classes, all with the same keypoints; left and right change places when an image is mirrored."""
    shared: dict[str, Any] = {
        "supercategory": "shape",
        "keypoints": list(KEYPOINT_NAMES),
        "skeleton": [[1, 2], [2, 3], [3, 4], [4, 1]],
        "keypoint_flip_map": [["left", "right"]],
    }
    return [{"id": i, "name": name, **shared} for i, name in enumerate(SHAPE_NAMES, 1)]


def _check_numbers(train: int, val: int, size: tuple[int, int], seed: int) -> None:
    for name, value, least in (("train", train, 1), ("val", val, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or value < least:
            raise DatasetError(f"{name} of the drawn dataset must be a whole number of {least} or more, not {value!r}")
    if len(size) != 2 or not all(isinstance(side, int) and side >= MIN_SIDE for side in size):
        raise DatasetError(f"size of the drawn dataset must be (width, height) of {MIN_SIDE} or more, not {size!r}")


def _write_json(target: Path, content: dict[str, Any]) -> None:
    """Write beside the target and rename, so that a file of that name is always whole."""
    temporary = target.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
    os.replace(temporary, target)
