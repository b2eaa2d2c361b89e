"""COCO's evaluation over columns of predictions, by ``faster_coco_eval``, one class after the other.

The classes do not touch one another in this evaluation, so that its results are those of all classes at once, while
only the predictions of one class are objects of Python at a time, and only the images that the class occurs on are
looked at.
"""

from __future__ import annotations

import gc
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as mask_api

from .coco_ground_truth import CocoGroundTruth
from .coco_results import COLUMN_OF_TASK
from .store import Column

__all__ = ["Detections", "evaluate_task"]

_logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]
Annotation = dict[str, Any]


@dataclass(frozen=True)
class Detections:
    """Predictions on images of the ground truth.

    Attributes:
        columns: as ``encode_instances`` gives them, over any number of images.
        images: for each row of the columns the image's id inside the ground truth's ``api``, int64.
        rows: the rows that count, ordered by class, within a class as they came.
        ends: where the rows of each class end in ``rows``.
    """

    columns: Mapping[str, Column]
    images: Array
    rows: Array
    ends: Array

    @classmethod
    def by_class(cls, columns: Mapping[str, Column], images: Array, counted: Array, num_classes: int) -> Detections:
        """Put rows in the order of their classes.

        Args:
            columns: as above.
            images: as above.
            counted: which rows count, bool (N,).
            num_classes: the number of classes; every row's is below it.
        """
        rows = np.flatnonzero(counted)
        classes = np.asarray(columns["class"])[rows] if len(rows) else np.zeros(0, dtype=np.int64)
        order = np.argsort(classes, kind="stable")
        return cls(columns, images, rows[order], np.cumsum(np.bincount(classes, minlength=num_classes)))

    def of_class(self, index: int) -> Array:
        """The rows of one class."""
        return self.rows[self.ends[index - 1] if index else 0 : self.ends[index]]


def evaluate_task(
    truth: CocoGroundTruth,
    detections: Detections,
    task: str,
    *,
    image_ids: Sequence[int] | None = None,
    max_dets: Sequence[int] = (1, 10, 100),
    sigmas: Sequence[float] = (),
    lvis: bool = False,
) -> Any:
    """Compare predictions with the ground truth by ``faster_coco_eval``, which computes what pycocotools does.

    Args:
        truth: the ground truth.
        detections: the predictions on the images that are evaluated.
        task: ``"bbox"``, ``"segm"`` or ``"keypoints"``.
        image_ids: ids inside ``truth.api``; evaluate these images only, all by default.
        max_dets: most detections of an image and class that count, increasing; for boxes and masks.
        sigmas: spread of each keypoint (OKS); the 17 of COCO persons by default.
        lvis: by the rules of LVIS, for whose images not every class was looked for.

    Returns:
        The evaluation object, accumulated and summarised (``stats``, ``eval``, ``params``), its class axis by
        increasing category id; None when nothing of the task was predicted.
    """
    if not len(detections.rows) or COLUMN_OF_TASK[task] not in detections.columns:
        return None
    said: list[str] = []
    options = {
        "iouType": task,
        "print_function": said.append,
        "kpt_oks_sigmas": list(sigmas) or None,
        "lvis_style": lvis,
    }
    whole = COCOeval_faster(truth.api, None, **options)
    whole.params.catIds = sorted(truth.class_ids)
    if image_ids is not None:
        whole.params.imgIds = sorted(image_ids)
    if task != "keypoints":
        whole.params.maxDets = list(max_dets)
    if lvis:
        frequencies = [truth.api.cats[category_id]["frequency"] for category_id in whole.params.catIds]
        whole.freq_groups = [[i for i, f in enumerate(frequencies) if f == group] for group in whole.params.imgCountLbl]
    whole.eval = _no_curves(whole.params)
    with _collector_paused():
        _fill_curves(whole, truth, detections, options)
    said.clear()
    whole.summarize()
    _logger.debug(f"COCO summary of {task}:\n" + "\n".join(said))
    return whole


def _fill_curves(whole: Any, truth: CocoGroundTruth, detections: Detections, options: Mapping[str, Any]) -> None:
    """Evaluate each class, and put its curves into the arrays of the whole."""
    images = {image_id: truth.api.imgs[image_id] for image_id in whole.params.imgIds}
    annotations = defaultdict(list)
    for annotation in truth.api.dataset["annotations"]:
        if annotation["image_id"] in images:
            annotations[annotation["category_id"]].append(annotation)
    absent = defaultdict(list)  # in LVIS: the images on which a class was looked for and not found
    for image_id, image in images.items():
        for category_id in image.get("neg_category_ids", ()):
            absent[category_id].append(image_id)
    for place, category_id in enumerate(whole.params.catIds):
        expected = annotations[category_id]
        if not expected:
            continue  # without ground truth there is no curve
        rows = detections.of_class(truth.class_ids.index(category_id))
        if options["lvis_style"]:
            judged = [*(annotation["image_id"] for annotation in expected), *absent[category_id]]
            rows = rows[np.isin(detections.images[rows], judged)]
        found = _annotations(detections, rows, category_id, options["iouType"])
        places = {*np.unique(detections.images[rows]).tolist(), *(entry["image_id"] for entry in expected)}
        # the library asks for sizes, which may not be told; a mask has its own
        shown = [{"height": 0, "width": 0, **images[image_id]} for image_id in places]
        category = truth.api.cats[category_id]
        one = COCOeval_faster(_index(shown, expected, category), _index(shown, found, category), **options)
        one.params.maxDets = whole.params.maxDets
        one.evaluate()
        one.accumulate()
        for name in ("precision", "scores"):
            whole.eval[name][:, :, place] = one.eval[name][:, :, 0]
        whole.eval["recall"][:, place] = one.eval["recall"][:, 0]


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep Python from looking for cycles, again and again, among the many dicts of a class; there are none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _no_curves(params: Any) -> dict[str, Any]:
    """The result arrays of the evaluation as they are without ground truth."""
    shape = [len(params.iouThrs), len(params.recThrs), len(params.catIds), len(params.areaRng), len(params.maxDets)]
    return {
        "params": params,
        "counts": shape,
        "precision": np.full(shape, -1.0),
        "scores": np.full(shape, -1.0),
        "recall": np.full([shape[0], *shape[2:]], -1.0),
    }


def _annotations(detections: Detections, rows: Array, category_id: int, task: str) -> list[Annotation]:
    """Rows as the dicts that the library takes.

    Boxes and keypoints have the box's area, masks their own: it decides whether an instance is small or large.
    """
    boxes = np.asarray(detections.columns["bbox"][rows])
    fields: dict[str, list[Any]] = {
        "id": list(range(1, len(rows) + 1)),
        "image_id": detections.images[rows].tolist(),
        "score": np.asarray(detections.columns["score"][rows]).tolist(),
    }
    if task == "segm":
        sizes = np.asarray(detections.columns["size"][rows]).tolist()
        masks = [
            {"size": size, "counts": counts}
            for size, counts in zip(sizes, detections.columns["counts"][rows], strict=True)
        ]
        fields["segmentation"] = masks
        fields["area"] = mask_api.area(masks).tolist() if masks else []
    else:
        fields["bbox"] = boxes.tolist()
        fields["area"] = (boxes[:, 2] * boxes[:, 3]).tolist()
    if task == "keypoints":
        fields["keypoints"] = np.asarray(detections.columns["keypoints"][rows]).tolist()
    names = ("category_id", "iscrowd", *fields)
    return [dict(zip(names, (category_id, 0, *v), strict=True)) for v in zip(*fields.values(), strict=True)]


class _OneClass(COCO):  # type: ignore[misc]
    """Annotations of one class, none of which has to be looked for."""

    def getAnnIds(self, *args: Any, **kwargs: Any) -> list[int]:
        return list(self.anns)


def _index(images: Sequence[Any], annotations: list[Annotation], category: Mapping[str, Any]) -> Any:
    return _OneClass({"images": images, "annotations": annotations, "categories": [category]})
