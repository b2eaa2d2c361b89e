"""Small drawn datasets for every task, made when they are needed and equal wherever they are made.

Circles, squares and triangles of any colour and size, turned a little, partly covering each other, on cluttered and
noisy ground. They have to be learned, and a model of under a million parameters learns them on a CPU in minutes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from drivetrain.errors import DatasetError, OutputError

from .class_names import CLASSES_FILE
from .contours import mask_box, mask_polygons
from .label_maps import write_label_map, write_panoptic_map
from .shapes import MOST_SHAPES, SHAPE_NAMES, Picture, Shape, draw_picture

__all__ = [
    "KEYPOINT_NAMES",
    "SyntheticClassification",
    "SyntheticDataset",
    "SyntheticPanoptic",
    "SyntheticSegmentation",
    "make_synthetic",
    "make_synthetic_classification",
    "make_synthetic_panoptic",
    "make_synthetic_segmentation",
]

KEYPOINT_NAMES = ("top", "right", "bottom", "left")
"""The middle of a shape's uppermost, rightmost, lowest and leftmost visible pixels."""

SPLITS = ("train", "val")
BACKGROUND = "background"
MIN_SIDE = 32


@dataclass(frozen=True)
class SyntheticDataset:
    """Where a made dataset lies: an annotation file and an image folder for each split."""

    train_json: str
    train_images: str
    val_json: str
    val_images: str
    class_names: tuple[str, ...] = SHAPE_NAMES


@dataclass(frozen=True)
class SyntheticSegmentation:
    """Where a made dataset lies: a folder of images and one of label maps for each split."""

    train_images: str
    train_labels: str
    val_images: str
    val_labels: str
    class_names: tuple[str, ...] = (BACKGROUND, *SHAPE_NAMES)


@dataclass(frozen=True)
class SyntheticPanoptic:
    """Where a made dataset lies: for each split an annotation file, a folder of images and one of PNGs."""

    train_json: str
    train_images: str
    train_panoptic: str
    val_json: str
    val_images: str
    val_panoptic: str
    class_names: tuple[str, ...] = (*SHAPE_NAMES, BACKGROUND)


@dataclass(frozen=True)
class SyntheticClassification:
    """Where a made dataset lies: for each split a folder with a folder of images for each class."""

    train: str
    val: str
    class_names: tuple[str, ...] = tuple(sorted(SHAPE_NAMES))


def make_synthetic(
    folder: str | os.PathLike[str],
    *,
    train: int = 2000,
    val: int = 200,
    size: tuple[int, int] = (128, 128),
    seed: int = 0,
) -> SyntheticDataset:
    """Draw a dataset with boxes, masks and keypoints, as COCO files.

    ``folder`` gets ``images/train``, ``images/val``, ``instances_train.json`` and ``instances_val.json``. Image i of a
    split is a function of (seed, split, i) alone, so the splits share no image and a larger set begins with the smaller
    one. Each shape's box fits the pixels where it is seen; ``area`` is their number, ``segmentation`` their outline as
    one polygon, ``keypoints`` their four extremes. Every shape is at least 80 % visible.

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

    def write(root: Path, split: str, pictures: Iterator[Picture]) -> tuple[str, str]:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i, picture in enumerate(pictures):
            images.append(_image_entry(i, size))
            annotations += [
                _annotation(shape, len(annotations) + k, i + 1) for k, shape in enumerate(picture.shapes, 1)
            ]
        info = {"description": "drawn shapes", "seed": seed, "split": split, "size": list(size)}
        content = {"info": info, "images": images, "annotations": annotations, "categories": _categories()}
        target = root / f"instances_{split}.json"
        _write_json(target, content)
        return str(target), str(root / "images" / split)

    train_json, train_images, val_json, val_images = _make(folder, (train, val), size, seed, write)
    return SyntheticDataset(train_json, train_images, val_json, val_images)


def make_synthetic_segmentation(
    folder: str | os.PathLike[str],
    *,
    train: int = 2000,
    val: int = 200,
    size: tuple[int, int] = (128, 128),
    seed: int = 0,
) -> SyntheticSegmentation:
    """Draw the images of :func:`make_synthetic` with a label map for each: 0 for the background, then the shapes.

    ``folder`` gets ``images/train``, ``labels/train``, the same for ``val``, and ``classes.txt``. Arguments and errors
    are those of :func:`make_synthetic`.
    """

    def write(root: Path, split: str, pictures: Iterator[Picture]) -> tuple[str, str]:
        labels = root / "labels" / split
        labels.mkdir(parents=True, exist_ok=True)
        for i, picture in enumerate(pictures):
            classes = np.array([0, *(shape.label + 1 for shape in picture.shapes)], dtype=np.uint8)
            write_label_map(labels / f"{i:06d}.png", classes[_regions(picture)])
        (root / CLASSES_FILE).write_text("\n".join((BACKGROUND, *SHAPE_NAMES)) + "\n", encoding="utf-8")
        return str(root / "images" / split), str(labels)

    train_images, train_labels, val_images, val_labels = _make(folder, (train, val), size, seed, write)
    return SyntheticSegmentation(train_images, train_labels, val_images, val_labels)


def make_synthetic_panoptic(
    folder: str | os.PathLike[str],
    *,
    train: int = 2000,
    val: int = 200,
    size: tuple[int, int] = (128, 128),
    seed: int = 0,
) -> SyntheticPanoptic:
    """Draw the images of :func:`make_synthetic` with COCO panoptic annotations: shapes are things, the rest is stuff.

    ``folder`` gets ``images/train``, ``panoptic_train``, ``panoptic_train.json``, and the same for ``val``. Arguments
    and errors are those of :func:`make_synthetic`.
    """

    def write(root: Path, split: str, pictures: Iterator[Picture]) -> tuple[str, str, str]:
        maps = root / f"panoptic_{split}"
        maps.mkdir(parents=True, exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i, picture in enumerate(pictures):
            name = f"{i:06d}.png"
            write_panoptic_map(maps / name, _regions(picture) + 1)
            images.append(_image_entry(i, size))
            annotations.append({"image_id": i + 1, "file_name": name, "segments_info": _segments(picture)})
        kinds = [(name, 1) for name in SHAPE_NAMES] + [(BACKGROUND, 0)]
        categories = [{"id": i, "name": name, "isthing": thing} for i, (name, thing) in enumerate(kinds, 1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        target = root / f"panoptic_{split}.json"
        _write_json(target, content)
        return str(target), str(root / "images" / split), str(maps)

    paths = _make(folder, (train, val), size, seed, write)
    train_json, train_images, train_panoptic, val_json, val_images, val_panoptic = paths
    return SyntheticPanoptic(train_json, train_images, train_panoptic, val_json, val_images, val_panoptic)


def make_synthetic_classification(
    folder: str | os.PathLike[str],
    *,
    train: int = 2000,
    val: int = 200,
    size: tuple[int, int] = (64, 64),
    seed: int = 0,
) -> SyntheticClassification:
    """Draw images with one shape each, sorted by it: ``folder`` gets ``train/circle`` and so on, and ``val/circle``.

    Arguments and errors are those of :func:`make_synthetic`.
    """
    _check_numbers(train, val, size, seed)
    root = Path(folder)
    try:
        for number, (split, count) in enumerate(zip(SPLITS, (train, val), strict=True)):
            for name in SHAPE_NAMES:
                (root / split / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                picture = _picture(seed, number, i, size, most=1)
                _save(picture, root / split / SHAPE_NAMES[picture.shapes[0].label] / f"{i:06d}.jpg")
    except OSError as err:
        raise _cannot_write(root, err) from err
    return SyntheticClassification(str(root / "train"), str(root / "val"))


def _make(
    folder: str | os.PathLike[str],
    counts: tuple[int, int],
    size: tuple[int, int],
    seed: int,
    write: Callable[[Path, str, Iterator[Picture]], tuple[str, ...]],
) -> list[str]:
    """Draw both splits; ``write`` saves the annotations, taking one picture after the other. The paths it returns."""
    _check_numbers(*counts, size, seed)
    root = Path(folder)
    paths: list[str] = []
    try:
        for number, (split, count) in enumerate(zip(SPLITS, counts, strict=True)):
            images = root / "images" / split
            images.mkdir(parents=True, exist_ok=True)
            paths += write(root, split, _saved(images, seed, number, count, size))
    except OSError as err:
        raise _cannot_write(root, err) from err
    return paths


def _saved(folder: Path, seed: int, split: int, count: int, size: tuple[int, int]) -> Iterator[Picture]:
    """The pictures of a split, each of which is saved as it is drawn."""
    for i in range(count):
        picture = _picture(seed, split, i, size)
        _save(picture, folder / f"{i:06d}.jpg")
        yield picture


def _picture(seed: int, split: int, index: int, size: tuple[int, int], most: int = MOST_SHAPES) -> Picture:
    """Picture ``index`` of a split, the same whenever it is drawn; one without any shape is drawn anew."""
    rng = np.random.default_rng((seed, split, index))
    picture = draw_picture(rng, *size, most)
    while not picture.shapes:
        picture = draw_picture(rng, *size, most)
    return picture


def _save(picture: Picture, path: Path) -> None:
    Image.fromarray(picture.pixels).save(path, quality=92, subsampling=0)


def _cannot_write(root: Path, err: OSError) -> OutputError:
    return OutputError(f"the drawn dataset cannot be written to {str(root)!r}: {err.strerror or err}")


def _image_entry(index: int, size: tuple[int, int]) -> dict[str, Any]:
    return {"id": index + 1, "file_name": f"{index:06d}.jpg", "width": size[0], "height": size[1]}


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


def _regions(picture: Picture) -> np.ndarray[Any, np.dtype[np.int32]]:
    """For each pixel (height, width) 1 + the place of the shape seen there, 0 for the background."""
    regions = np.zeros(picture.pixels.shape[:2], dtype=np.int32)
    for place, shape in enumerate(picture.shapes, 1):
        regions[shape.mask] = place
    return regions


def _segments(picture: Picture) -> list[dict[str, Any]]:
    """The background as segment 1, then the shapes."""
    masks = [(len(SHAPE_NAMES) + 1, _regions(picture) == 0), *((s.label + 1, s.mask) for s in picture.shapes)]
    return [
        {"id": i, "category_id": category, "iscrowd": 0, "bbox": list(mask_box(mask)), "area": int(mask.sum())}
        for i, (category, mask) in enumerate(masks, 1)
    ]


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
