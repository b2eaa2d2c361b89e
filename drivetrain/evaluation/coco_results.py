"""A model's instances as rows of numbers, and rows as the entries of a COCO result file."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drivetrain.errors import EvaluationError
from drivetrain.structures import Instances

from .coco_annotations import KEYPOINT_OFFSET
from .files import write_whole
from .run_lengths import masks_to_run_lengths
from .store import Rows

__all__ = ["COLUMN_OF_TASK", "encode_instances", "instances_to_coco_json", "result_entries", "write_results"]

COLUMN_OF_TASK = {"bbox": "bbox", "keypoints": "keypoints", "segm": "counts"}
"""For each task the column of predictions that its evaluation is about."""

Array = np.ndarray[Any, Any]


def encode_instances(instances: Instances, image_id: int | str) -> Rows:
    """The predictions for one image as columns.

    Args:
        instances: with ``pred_boxes`` (XYXY in the original image's pixels), ``scores`` and ``pred_classes``, and
            optionally ``pred_masks`` (as :func:`~drivetrain.evaluation.run_lengths.masks_to_run_lengths` takes them)
            and ``pred_keypoints`` (N, K, 3: x, y, score).
        image_id: the image, for messages.

    Returns:
        ``class`` int64 (N,), ``score`` float64 (N,), ``bbox`` float64 (N, 4) XYWH; where predicted ``counts`` (the
        compressed run lengths of each mask), ``size`` int32 (N, 2), and ``keypoints`` float64 (N, 3 K), as pixel
        indices. No columns when there is no instance.

    Raises:
        EvaluationError: a field is missing or has another shape, or a box, score or keypoint is NaN or infinite.
    """
    if not all(hasattr(instances, method) for method in ("has", "get", "get_fields")):
        raise EvaluationError(
            f"image {image_id!r}: 'instances' of the model's output is {type(instances).__name__}: an Instances object "
            "with pred_boxes, scores and pred_classes is needed"
        )
    if len(instances) == 0:
        return {}
    missing = [name for name in ("pred_boxes", "scores", "pred_classes") if not instances.has(name)]
    if missing:
        raise EvaluationError(
            f"image {image_id!r}: the predicted instances have no {' and no '.join(missing)} (they have: "
            f"{', '.join(instances.get_fields())})"
        )
    count = len(instances)
    boxes = _shaped(_finite(instances.get("pred_boxes"), "boxes", image_id), (count, 4), "pred_boxes", image_id)
    boxes[:, 2:] -= boxes[:, :2]
    classes = _tensor(instances.get("pred_classes")).to(torch.int64).numpy()
    scores = _finite(instances.get("scores"), "scores", image_id)
    columns: dict[str, Array | list[bytes]] = {
        "class": _shaped(classes, (count,), "pred_classes", image_id),
        "score": _shaped(scores, (count,), "scores", image_id),
        "bbox": boxes,
    }
    if instances.has("pred_masks"):
        try:
            masks = masks_to_run_lengths(instances.get("pred_masks"), instances.image_size)
        except EvaluationError as error:
            raise EvaluationError(f"image {image_id!r}: {error}") from None
        columns["counts"] = [mask["counts"] for mask in masks]
        columns["size"] = np.array([mask["size"] for mask in masks], dtype=np.int32)
    if instances.has("pred_keypoints"):
        points = _finite(instances.get("pred_keypoints"), "keypoints", image_id)
        _shaped(points, (count, *points.shape[1:2], 3), "pred_keypoints", image_id)
        points[..., :2] -= KEYPOINT_OFFSET
        columns["keypoints"] = points.reshape(len(points), -1)
    return columns


def _tensor(value: Any) -> Tensor:
    """A tensor, or the tensor that Boxes and Keypoints hold, on the CPU."""
    return torch.as_tensor(getattr(value, "tensor", value)).detach().cpu()


def _finite(value: Any, what: str, image_id: int | str) -> Array:
    """The values (N, ...) as an array of float64 of its own; EvaluationError if one is NaN or infinite."""
    values: Array = _tensor(value).double().numpy().copy()
    if not np.isfinite(values).all():
        bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
        first = values[int(bad.argmax())].reshape(-1)[:4].tolist()
        raise EvaluationError(
            f"image {image_id!r}: {int(bad.sum())} of {len(values)} predicted {what} are not finite (the first is "
            f"{first}): the model's weights may have diverged; lower the learning rate or clip the gradients"
        )
    return values


def _shaped(values: Array, shape: tuple[int, ...], field: str, image_id: int | str) -> Array:
    """The values; EvaluationError if they have not the shape."""
    if values.shape != shape:
        raise EvaluationError(f"image {image_id!r}: {field} has the shape {values.shape}, but {shape} is needed")
    return values


def instances_to_coco_json(instances: Instances, img_id: int | str) -> list[dict[str, Any]]:
    """The predictions for one image as COCO result entries.

    Args:
        instances: as :func:`encode_instances` takes them.
        img_id: the image's id, written into each entry.

    Returns:
        One dict per instance: ``image_id``, ``category_id`` (the contiguous class index), ``bbox`` (XYWH), ``score``,
        and where predicted ``segmentation`` (compressed run lengths) and ``keypoints`` (flat, as pixel indices).

    Raises:
        EvaluationError: a field is missing or has another shape, or a box, score or keypoint is NaN or infinite.
    """
    rows = encode_instances(instances, img_id)
    return result_entries(img_id, rows["class"].tolist(), rows) if rows else []


def result_entries(image_id: int | str, category_ids: Sequence[int], rows: Rows) -> list[dict[str, Any]]:
    """Rows of one image as COCO result entries.

    Args:
        image_id: written into each entry.
        category_ids: one for each row.
        rows: as :func:`encode_instances` gives them.
    """
    fields: dict[str, Iterable[Any]] = {
        "image_id": itertools.repeat(image_id),
        "category_id": category_ids,
        "bbox": rows["bbox"].tolist(),
        "score": rows["score"].tolist(),
    }
    if "counts" in rows:
        masks = zip(rows["size"].tolist(), rows["counts"], strict=True)
        fields["segmentation"] = ({"size": size, "counts": counts.decode("ascii")} for size, counts in masks)
    if "keypoints" in rows:
        fields["keypoints"] = rows["keypoints"].tolist()
    return [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=False)]


def write_results(images: Iterable[list[dict[str, Any]]], path: Path) -> None:
    """Write result entries as one JSON list, an image a line as they come; the file appears when it is complete.

    Raises:
        OutputError: the folder or file cannot be written.
    """
    lines = (json.dumps(entries)[1:-1] for entries in images if entries)
    separated = (line if number == 0 else f",\n{line}" for number, line in enumerate(lines))
    write_whole(itertools.chain("[", separated, "]\n"), path)
