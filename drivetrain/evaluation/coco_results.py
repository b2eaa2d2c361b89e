"""Predictions as COCO result entries, and the run of the COCO evaluation over them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drivetrain.errors import EvaluationError, OutputError
from drivetrain.structures import Instances

from .coco_annotations import KEYPOINT_OFFSET

__all__ = ["RESULT_FIELDS", "evaluate_task", "instances_to_coco_json", "write_results"]

RESULT_FIELDS = {
    "bbox": ("bbox",),
    "segm": ("segmentation",),  # no box: the mask's own area decides whether an instance is small or large
    "keypoints": ("keypoints", "bbox"),
}
"""For each task the fields of a result entry that its evaluation reads."""

_logger = logging.getLogger(__name__)


def instances_to_coco_json(instances: Instances, img_id: int | str) -> list[dict[str, Any]]:
    """The predictions for one image as COCO result entries.

    Args:
        instances: with ``pred_boxes`` (XYXY in the original image's pixels), ``scores`` and ``pred_classes``, and
            optionally ``pred_masks`` (N, height, width) and ``pred_keypoints`` (N, K, 3: x, y, score).
        img_id: the image's id, written into each entry.

    Returns:
        One dict per instance: ``image_id``, ``category_id`` (the contiguous class index), ``bbox`` (XYWH), ``score``,
        and where predicted ``segmentation`` (compressed run lengths) and ``keypoints`` (flat, as pixel indices).

    Raises:
        EvaluationError: a field is missing, or a box, score or keypoint is NaN or infinite.
    """
    if len(instances) == 0:
        return []
    missing = [name for name in ("pred_boxes", "scores", "pred_classes") if not instances.has(name)]
    if missing:
        raise EvaluationError(
            f"image {img_id!r}: the predicted instances have no {' and no '.join(missing)} (they have: "
            f"{', '.join(instances.get_fields())})"
        )
    boxes = _tensor(instances.get("pred_boxes")).double().reshape(-1, 4)
    _check_finite(boxes, "boxes", img_id)
    scores = _tensor(instances.get("scores")).double()
    _check_finite(scores, "scores", img_id)
    boxes[:, 2:] -= boxes[:, :2]
    columns: dict[str, list[Any]] = {
        "category_id": _tensor(instances.get("pred_classes")).tolist(),
        "bbox": boxes.tolist(),
        "score": scores.tolist(),
    }
    if instances.has("pred_masks"):
        columns["segmentation"] = _run_lengths(_tensor(instances.get("pred_masks")))
    if instances.has("pred_keypoints"):
        points = _tensor(instances.get("pred_keypoints")).double()
        _check_finite(points, "keypoints", img_id)
        points[..., :2] -= KEYPOINT_OFFSET
        columns["keypoints"] = points.flatten(1).tolist()
    rows = zip(*columns.values(), strict=True)
    return [{"image_id": img_id, **dict(zip(columns, row, strict=True))} for row in rows]


def _tensor(value: Any) -> Tensor:
    """A copy on the CPU of a tensor, or of the tensor that Boxes, BitMasks and Keypoints hold."""
    return torch.as_tensor(getattr(value, "tensor", value)).detach().cpu().clone()


def _check_finite(values: Tensor, what: str, img_id: int | str) -> None:
    """EvaluationError if one of ``values`` (N, ...) is NaN or infinite."""
    bad = ~torch.isfinite(values).flatten(1).all(1) if values.ndim > 1 else ~torch.isfinite(values)
    if bad.any():
        first = values[int(bad.nonzero()[0])].flatten()[:4].tolist()
        raise EvaluationError(
            f"image {img_id!r}: {int(bad.sum())} of {len(values)} predicted {what} are not finite (the first is "
            f"{first}): the model's weights may have diverged; lower the learning rate or clip the gradients"
        )


def _run_lengths(masks: Tensor) -> list[dict[str, Any]]:
    """Masks (N, height, width) as COCO's compressed run lengths, one at a time: whole batches of masks are large."""
    from faster_coco_eval.core import mask as mask_api

    encoded = []
    for mask in masks:
        bits = np.asfortranarray(mask.to(torch.uint8).numpy()[:, :, None])
        code = mask_api.encode(bits)[0]
        counts = code["counts"]
        counts = counts.decode("ascii") if isinstance(counts, bytes) else counts
        encoded.append({"size": [int(side) for side in code["size"]], "counts": counts})
    return encoded


def evaluate_task(
    api: Any,
    results: Iterable[Mapping[str, Any]],
    task: str,
    *,
    category_ids: Sequence[int],
    image_ids: Sequence[int] | None = None,
    max_dets: Sequence[int] = (1, 10, 100),
    sigmas: Sequence[float] | None = None,
) -> Any:
    """Compare results with the ground truth by ``faster_coco_eval``, which computes what pycocotools does.

    Args:
        api: the ground truth, a ``faster_coco_eval.COCO``.
        results: COCO result entries with ids as in ``api``; those without the task's field are passed over.
        task: ``"bbox"``, ``"segm"`` or ``"keypoints"``.
        category_ids: the categories to evaluate; the results' class axis has them in increasing order.
        image_ids: evaluate these images only; all by default.
        max_dets: most detections of an image and class that count, increasing; for boxes and masks.
        sigmas: spread of each keypoint (OKS); the 17 of COCO persons by default.

    Returns:
        The evaluation object, accumulated and summarised (``stats``, ``eval``, ``params``); None when no entry has the
        task's field.
    """
    entries = _entries(results, task)
    if not entries:
        return None
    from faster_coco_eval import COCOeval_faster

    said: list[str] = []
    evaluation = COCOeval_faster(
        api,
        api.loadRes(entries),
        iouType=task,
        print_function=said.append,
        kpt_oks_sigmas=list(sigmas) if sigmas else None,
    )
    evaluation.params.catIds = sorted(category_ids)
    if image_ids is not None:
        evaluation.params.imgIds = sorted(image_ids)
    if task != "keypoints":
        evaluation.params.maxDets = list(max_dets)
    evaluation.evaluate()
    evaluation.accumulate()
    said.clear()
    evaluation.summarize()
    _logger.debug(f"COCO summary of {task}:\n" + "\n".join(said))
    return evaluation


def _entries(results: Iterable[Mapping[str, Any]], task: str) -> list[dict[str, Any]]:
    """The result entries cut to what ``task`` reads: the library adds to the dicts it is given."""
    fields = ("image_id", "category_id", "score", *RESULT_FIELDS[task])
    needed = RESULT_FIELDS[task][0]
    return [{key: entry[key] for key in fields if key in entry} for entry in results if needed in entry]


def write_results(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write result entries as JSON, one a line; the file appears under its name only when it is complete.

    Raises:
        OutputError: the folder or file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            for number, entry in enumerate(results):
                file.write(("[" if number == 0 else ",\n") + json.dumps(entry))
            file.write("]\n" if results else "[]\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"the results cannot be written to {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)  # there only when something went wrong
