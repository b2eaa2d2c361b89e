"""Predictions and annotations drawn on their image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drivetrain.structures import BoxMode, Instances, polygons_to_bitmask, rle_to_bitmask

from .drawing import draw_instances

__all__ = ["draw_predictions", "draw_record"]

Array = np.ndarray[Any, Any]


def draw_predictions(
    image: Array,
    instances: Instances,
    class_names: Sequence[str] = (),
    *,
    score_threshold: float = 0.5,
    skeleton: Sequence[tuple[int, int]] = (),
    min_side: int = 480,
) -> Array:
    """Draw what a model found on a copy of the image.

    Args:
        image: uint8 array (height, width, 3), RGB.
        instances: with ``pred_boxes``, ``scores``, ``pred_classes`` on any device, and, if present,
            ``pred_masks`` (bool, (N, height, width), or N run lengths) and ``pred_keypoints`` (N, K, 3); in
            pixels of ``image``.
        class_names: class index -> name.
        score_threshold: instances with a lower score are not drawn.
        skeleton: pairs of keypoint indices to join.
        min_side: a smaller image is enlarged until its shorter side has this many pixels, so that the labels
            can be read; 0 keeps the size.

    Returns:
        uint8 array (H, W, 3).

    Raises:
        ValueError: the instances belong to an image of another size.
    """
    _check_size(image, instances.image_size, "these predictions are for")
    instances = instances.to("cpu")
    instances = instances[instances.scores >= score_threshold]
    fields = instances.get_fields()
    return draw_instances(
        image,
        boxes=instances.pred_boxes,
        classes=instances.pred_classes,
        scores=instances.scores,
        class_names=class_names,
        masks=fields.get("pred_masks"),
        keypoints=fields.get("pred_keypoints"),
        skeleton=skeleton,
        min_side=min_side,
    )


def draw_record(
    image: Array,
    record: Mapping[str, Any],
    class_names: Sequence[str] = (),
    *,
    skeleton: Sequence[tuple[int, int]] = (),
    min_side: int = 480,
) -> Array:
    """Draw the annotations of a dataset record on a copy of its image.

    Args:
        image: uint8 array (height, width, 3), RGB.
        record: a dataset record; of its ``annotations`` the boxes, masks (polygons or run lengths) and
            keypoints are drawn. Crowd regions are marked ``(crowd)``.
        class_names: class index -> name.
        skeleton: pairs of keypoint indices to join.
        min_side: as for :func:`draw_predictions`.

    Returns:
        uint8 array (H, W, 3).

    Raises:
        ValueError: the record's height and width are not the image's.
        DatasetError: a box or mask that cannot be read.
    """
    height, width = image.shape[:2]
    _check_size(image, (record.get("height", height), record.get("width", width)), "this record's annotations are for")
    annotations: Sequence[Mapping[str, Any]] = record.get("annotations", ())
    has_masks = any(annotation.get("segmentation") for annotation in annotations)
    return draw_instances(
        image,
        boxes=[_xyxy(annotation) for annotation in annotations],
        classes=[annotation["category_id"] for annotation in annotations],
        labels=[_name(annotation, class_names) for annotation in annotations],
        masks=(_mask(annotation, height, width) for annotation in annotations) if has_masks else None,
        keypoints=_keypoints(annotations),
        skeleton=skeleton,
        min_side=min_side,
    )


def _check_size(image: Array, size: tuple[int, int], what: str) -> None:
    if tuple(image.shape[:2]) != tuple(size):
        raise ValueError(
            f"{what} an image of height x width {size[0]}x{size[1]}, but one of "
            f"{image.shape[0]}x{image.shape[1]} was given"
        )


def _xyxy(annotation: Mapping[str, Any]) -> list[float]:
    box = [float(v) for v in annotation["bbox"]]
    return BoxMode.convert(box, annotation.get("bbox_mode", BoxMode.XYWH_ABS), BoxMode.XYXY_ABS)


def _name(annotation: Mapping[str, Any], class_names: Sequence[str]) -> str:
    index = annotation["category_id"]
    name = class_names[index] if 0 <= index < len(class_names) else f"class {index}"
    return f"{name} (crowd)" if annotation.get("iscrowd") else name


def _mask(annotation: Mapping[str, Any], height: int, width: int) -> Array:
    """The annotation's pixels, bool (height, width); none without a segmentation."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, Mapping):
        return rle_to_bitmask(segmentation)
    return polygons_to_bitmask(segmentation or [], height, width)


def _keypoints(annotations: Sequence[Mapping[str, Any]]) -> Array | None:
    """(N, K, 3) with unlabelled points for annotations without any; None when no annotation has keypoints."""
    flat = [np.asarray(annotation.get("keypoints") or [], dtype=float) for annotation in annotations]
    most = max((len(points) for points in flat), default=0)
    if most == 0:
        return None
    return np.stack([np.pad(points, (0, most - len(points))) for points in flat]).reshape(len(flat), -1, 3)
