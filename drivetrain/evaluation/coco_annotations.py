"""Annotations in the form the COCO evaluation takes: dataset records converted to it, and files put in order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from drivetrain.errors import DatasetError
from drivetrain.structures import BoxMode

from .run_lengths import runs_of

__all__ = [
    "KEYPOINT_OFFSET",
    "annotation_area",
    "clean_annotations",
    "plain_id",
    "record_box",
    "record_class",
    "records_to_coco",
]

KEYPOINT_OFFSET = 0.5
"""COCO files give a keypoint as the index of its pixel; records and predictions as a point, this much larger."""


def plain_id(value: Any, where: str) -> int | str:
    """An image id as a plain int or str (NumPy integers and one-element integer tensors become int).

    Raises:
        DatasetError: anything else; ``where`` names the place.
    """
    if hasattr(value, "item") and not isinstance(value, (int, str)):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (Integral, str)):
        raise DatasetError(f"{where}: an image id is an integer or a string, not {value!r}")
    return value if isinstance(value, str) else int(value)


def records_to_coco(records: Sequence[Mapping[str, Any]], class_ids: Sequence[int]) -> dict[str, Any]:
    """Dataset records as the content of a COCO file, without the categories.

    Args:
        records: dicts as ``DatasetCatalog.get`` returns them.
        class_ids: for each contiguous class index the category id to write.

    Raises:
        DatasetError: a record lacks its image id, or an annotation its box or a class index in range.
    """
    images, annotations = [], []
    for number, record in enumerate(records):
        where = f"records[{number}] ({record.get('file_name', 'no file name')})"
        if "image_id" not in record:
            raise DatasetError(f"{where} has no 'image_id': give each record one of its own to evaluate on it")
        size_and_name = {key: record.get(key) for key in ("file_name", "height", "width")}
        image_id = plain_id(record["image_id"], where)
        images.append({"id": image_id, **size_and_name})
        for annotation in record.get("annotations", ()):
            category_id = class_ids[record_class(annotation, len(class_ids), where)]
            ids = {"image_id": image_id, "category_id": category_id}
            annotations.append({**ids, **_record_annotation(annotation, where)})
    return {"images": images, "annotations": annotations}


def _record_annotation(annotation: Mapping[str, Any], where: str) -> dict[str, Any]:
    """One record's annotation with an XYWH box and COCO's keypoint convention."""
    result: dict[str, Any] = {"bbox": record_box(annotation, BoxMode.XYWH_ABS, where)}
    for key in ("iscrowd", "area", "segmentation", "num_keypoints"):
        if key in annotation:
            result[key] = annotation[key]
    points = annotation.get("keypoints")
    if points is not None:
        result["keypoints"] = [float(v) - (0 if i % 3 == 2 else KEYPOINT_OFFSET) for i, v in enumerate(points)]
    return result


def record_class(annotation: Mapping[str, Any], num_classes: int, where: str) -> int:
    """The class index of a record's annotation; DatasetError for what is none, ``where`` names the record."""
    try:
        label = int(annotation.get("category_id", -1))
    except (TypeError, ValueError):
        label = -1
    if not 0 <= label < num_classes:
        raise DatasetError(
            f"{where} has category_id {annotation.get('category_id')}, but the dataset has {num_classes} classes "
            f"(0 to {num_classes - 1}; 'thing_classes' of its metadata)"
        )
    return label


def record_box(annotation: Mapping[str, Any], mode: BoxMode, where: str) -> list[float]:
    """The box of a record's annotation as XYXY_ABS or XYWH_ABS, in double precision.

    Raises:
        DatasetError: there is none, or it is not the numbers that its ``bbox_mode`` says; ``where`` names the record.
    """
    try:
        box = np.array([float(value) for value in annotation["bbox"]])
        box = BoxMode.convert(box, annotation.get("bbox_mode", BoxMode.XYXY_ABS), mode)
    except (KeyError, TypeError, ValueError, DatasetError):
        box = np.zeros(0)
    if box.shape != (4,):
        raise DatasetError(
            f"{where} has an annotation with the bbox {annotation.get('bbox')!r} and the bbox_mode "
            f"{annotation.get('bbox_mode')!r}: evaluation needs a box of 4 numbers, XYXY_ABS or XYWH_ABS"
        )
    values: list[float] = box.tolist()
    return values


def clean_annotations(
    raw: Iterable[Mapping[str, Any]],
    image_ids: Mapping[int | str, int],
    image_sizes: Mapping[int, tuple[int, int] | None],
    category_ids: Mapping[int, int],
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The annotations that can be evaluated, complete and numbered from 1.

    What evaluation reads is copied and the rest left out: the box, area (computed where it is missing), crowd flag,
    mask and keypoints.

    Args:
        raw: annotations of a COCO file.
        image_ids: the file's image id -> the id to use.
        image_sizes: id to use -> (height, width), None where unknown; only needed where there are masks.
        category_ids: the file's category id -> the category id to use.

    Returns:
        The annotations, and for each reason why one was left out, the number left out.
    """
    kept: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    for annotation in raw:
        image_id = _looked_up(image_ids, annotation.get("image_id"))
        category_id = _looked_up(category_ids, annotation.get("category_id"))
        box = _numbers(annotation.get("bbox"), lambda n: n == 4)
        if image_id is None:
            dropped["an image id that is not among the images"] += 1
        elif category_id is None:
            dropped["a category id that is not among the classes"] += 1
        elif box is None:
            dropped["a box that is not 4 finite numbers"] += 1
        else:
            clean = _clean(annotation, box, image_sizes[image_id])
            clean.update(id=len(kept) + 1, image_id=image_id, category_id=category_id)
            kept.append(clean)
    return kept, dropped


def _looked_up(ids: Mapping[Any, int], key: Any) -> int | None:
    return ids.get(key) if isinstance(key, Hashable) else None  # a file may hold a list there


def _clean(annotation: Mapping[str, Any], box: list[float], size: tuple[int, int] | None) -> dict[str, Any]:
    """The fields of one annotation that evaluation reads, except its ids."""
    clean: dict[str, Any] = {"bbox": box, "iscrowd": int(bool(annotation.get("iscrowd", 0)))}
    mask = _usable_mask(annotation.get("segmentation"), size)
    if mask is not None:
        clean["segmentation"] = mask
    area = annotation.get("area")
    clean["area"] = area if _is_finite(area) else annotation_area(box, mask)
    points = _numbers(annotation.get("keypoints"), lambda n: n > 0 and n % 3 == 0)
    if points is not None:
        labelled = sum(1 for visibility in points[2::3] if visibility > 0)
        clean["keypoints"] = points
        told = annotation.get("num_keypoints")
        clean["num_keypoints"] = labelled if told is None else int(told)
    return clean


def annotation_area(box: Sequence[float], mask: Any) -> float:
    """The area in square pixels of an XYWH box, or of its mask (polygons or run lengths) if that is not None."""
    if mask is None:
        return float(box[2] * box[3])
    if isinstance(mask, list):
        return sum(_shoelace(polygon) for polygon in mask)
    if isinstance(mask["counts"], list):
        return float(sum(mask["counts"][1::2]))  # empty and filled runs take turns
    from faster_coco_eval.core import mask as mask_api

    return float(mask_api.area(mask))


def _usable_mask(mask: Any, size: tuple[int, int] | None) -> Any:
    """Polygons of 3 or more points, or run lengths of the image's size; None where nothing of the mask is usable."""
    if isinstance(mask, Mapping):
        fits = size is not None and "counts" in mask and list(mask.get("size", ())) == list(size)
        runs = runs_of(mask["counts"]) if fits else None
        whole = runs is not None and runs.min(initial=0) >= 0 and runs.sum() == math.prod(size or ())
        return dict(mask) if whole else None  # one that does not cover the image would keep the comparison from ending
    if not isinstance(mask, (list, tuple)):
        return None
    polygons = [_numbers(polygon, lambda n: n >= 6 and n % 2 == 0) for polygon in mask]
    return [polygon for polygon in polygons if polygon is not None] or None


def _numbers(values: Any, good_length: Callable[[int], bool]) -> list[float] | None:
    """``values`` as a list of floats; None unless they are finite numbers and as many as they should be."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if not isinstance(values, (list, tuple)) or not good_length(len(values)):
        return None
    return [float(value) for value in values] if all(_is_finite(value) for value in values) else None


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _shoelace(polygon: Sequence[float]) -> float:
    """The area that a polygon ``[x0, y0, x1, y1, ...]`` encloses."""
    points = list(zip(polygon[0::2], polygon[1::2], strict=True))
    following = [*points[1:], points[0]]
    return 0.5 * abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(points, following, strict=True)))
