"""Average precision as the Pascal VOC challenges define it.

The rules are those of the development kit (Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010,
and http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/): the detections of a class are taken by falling score; each
belongs to the object of its image that it overlaps most; it is right when the overlap reaches the threshold and no
detection before it has found that object, neither right nor wrong when that object is difficult, and wrong otherwise.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.errors import DatasetError
from drivetrain.structures import BoxMode

from .coco_annotations import plain_id, record_box, record_class
from .coco_results import encode_instances
from .per_image import PerImageEvaluator, check_classes, check_images
from .store import PredictionStore, Rows
from .tables import ClassRow, ResultTable

__all__ = ["PascalVOCDetectionEvaluator", "average_precision"]

Array = np.ndarray[Any, Any]

_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_FIGURES = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}


@dataclass(frozen=True)
class _GroundTruth:
    """Objects, image by image in the order of the dataset.

    Attributes:
        source: for messages.
        class_names: by class index.
        images: image id -> its objects, as places in the arrays.
        boxes: float64 (G, 4), XYXY in pixels, the last pixel's far edge included.
        classes: int64 (G,).
        ignored: bool (G,), difficult ones and crowds.
    """

    source: str
    class_names: Sequence[str]
    images: Mapping[int | str, slice]
    boxes: Array
    classes: Array
    ignored: Array


class PascalVOCDetectionEvaluator(PerImageEvaluator):
    """Average precision of boxes on a registered dataset, as the Pascal VOC challenges measure it.

    The results are ``{"bbox": {...}}`` with ``AP50``, ``AP75``, ``AP`` (the mean over the overlaps 0.50 to 0.95) and,
    when the dataset has several classes, ``AP-<class>`` and ``AP50-<class>``: floats in 0..100, NaN for a class without
    objects. A dataset of the ``year`` 2007 is measured at 11 points of the curve, others by the area under it.

    The ground truth is the records of the catalog. Objects that are ``difficult`` (or ``iscrowd``) count neither as
    found nor as missed.
    """

    @cached_property
    def _ground_truth(self) -> _GroundTruth:
        return _load(self._dataset_name)

    def check(self) -> None:
        """Load the ground truth now, so that what is wrong is said before a training starts.

        Raises:
            DatasetError: the dataset is not registered, or a record has no id or a wrong annotation.
            OutputError: the output folder cannot be made.
        """
        _ = self._ground_truth
        super().check()

    def _encode(self, image_id: int | str, image: Mapping[str, Any], output: Mapping[str, Any]) -> Rows:
        rows = encode_instances(output["instances"], image_id)
        kept = {name: rows[name] for name in ("class", "score", "bbox") if name in rows}
        if "_ground_truth" in self.__dict__:  # only the process that evaluates has loaded it
            self._check_known([image_id], np.zeros(len(kept.get("class", ())), np.int32), kept)
        return kept

    def _check_known(self, image_ids: Sequence[int | str], place: Array, columns: Mapping[str, Any]) -> None:
        truth = self._ground_truth
        check_images(image_ids, truth.images, truth.source)
        if len(place):
            check_classes(image_ids, place, columns["class"], len(truth.class_names), truth.source)

    def _figures(self, store: PredictionStore) -> OrderedDict[str, Any]:
        truth = self._ground_truth
        columns, place = store.columns(), store.image_of_rows()
        self._check_known(store.image_ids, place, columns)
        first = self._first_of_each(store, truth.images)
        order = {image_id: number for number, image_id in enumerate(truth.images)}
        position = np.asarray([order[image_id] for image_id in store.image_ids], dtype=np.int64)[place]
        found = _Found.make(truth, store, columns)
        rows = np.flatnonzero(first[place])
        rows = rows[np.lexsort((rows, position[rows], -found.scores[rows]))]
        eleven_points = str(self._metadata.get("year")) == "2007"
        precisions = np.array(
            [_class_precision(truth, found, rows, index, eleven_points) for index in range(len(truth.class_names))]
        ).reshape(-1, len(_THRESHOLDS))
        return self._result(precisions)

    def _result(self, precisions: Array) -> OrderedDict[str, Any]:
        """Results and table from the average precision of each class at each overlap, (C, 10) in 0..1."""
        truth = self._ground_truth
        names = truth.class_names
        by_class = {figure: [_mean(p) for p in precisions[:, at]] for figure, at in _FIGURES.items()}
        figures = {figure: _mean(precisions[:, at]) for figure, at in _FIGURES.items()}
        counts = np.bincount(truth.classes[~truth.ignored], minlength=len(names)).tolist()
        rows = [
            ClassRow(name, {**{figure: by_class[figure][i] for figure in _FIGURES}, "instances": counts[i]})
            for i, name in enumerate(names)
        ]
        overall = ClassRow("all", {**figures, "instances": sum(counts)})
        if len(names) > 1:
            for figure in ("AP", "AP50"):
                figures.update({f"{figure}-{name}": by_class[figure][i] for i, name in enumerate(names)})
        self.tables["bbox"] = ResultTable(
            "bbox", self._dataset_name, len(truth.images), "average precision in percent", dict(figures), rows, overall
        )
        return OrderedDict(bbox=figures)


@dataclass(frozen=True)
class _Found:
    """What was predicted: class and score of each row, and which object it overlaps most by how much.

    Attributes:
        classes: int64 (N,).
        scores: float64 (N,).
        overlaps: float64 (N,), intersection over union; 0 where the image has no object of the class.
        objects: int64 (N,), places in the ground truth.
    """

    classes: Array
    scores: Array
    overlaps: Array
    objects: Array

    @classmethod
    def make(cls, truth: _GroundTruth, store: PredictionStore, columns: Mapping[str, Any]) -> _Found:
        if not len(store):
            nothing = np.zeros(0)
            return cls(nothing.astype(np.int64), nothing, nothing, nothing.astype(np.int64))
        overlaps, objects = np.zeros(len(store)), np.zeros(len(store), dtype=np.int64)
        end = 0
        for image_id, count in zip(store.image_ids, store.counts, strict=True):
            rows, own = slice(end, end + count), truth.images[image_id]
            end += count
            if count and own.stop > own.start:
                ious = _overlaps(columns["bbox"][rows], truth.boxes[own])
                ious[columns["class"][rows][:, None] != truth.classes[own]] = 0
                overlaps[rows], objects[rows] = ious.max(axis=1), own.start + ious.argmax(axis=1)
        return cls(columns["class"], columns["score"], overlaps, objects)


def _overlaps(found: Array, boxes: Array) -> Array:
    """Intersection over union of XYWH boxes (N, 4) with XYXY boxes (M, 4), (N, M)."""
    low, high = found[:, None, :2], found[:, None, :2] + found[:, None, 2:]
    shared = (np.minimum(high, boxes[:, 2:]) - np.maximum(low, boxes[:, :2])).clip(min=0).prod(axis=2)
    areas = found[:, 2:].prod(axis=1)[:, None] + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return np.asarray(np.divide(shared, areas - shared, out=np.zeros_like(shared), where=shared > 0))


def _class_precision(truth: _GroundTruth, found: _Found, rows: Array, index: int, eleven_points: bool) -> list[float]:
    """The average precision of one class at each overlap, NaN without objects.

    Args:
        truth: the ground truth.
        found: what was predicted.
        rows: those that count, by falling score.
        index: the class.
        eleven_points: as :func:`average_precision` takes it.
    """
    objects = int(((truth.classes == index) & ~truth.ignored).sum())
    if not objects:
        return [math.nan] * len(_THRESHOLDS)
    rows = rows[found.classes[rows] == index]
    precisions = []
    for threshold in _THRESHOLDS:
        hit = found.overlaps[rows] >= threshold
        target = found.objects[rows]
        difficult = hit & truth.ignored[target]
        right = np.zeros(len(rows), dtype=bool)
        candidates = np.flatnonzero(hit & ~difficult)
        right[candidates[np.unique(target[candidates], return_index=True)[1]]] = True
        true = np.cumsum(right)[~difficult]
        precision = true / np.arange(1, len(true) + 1)
        precisions.append(average_precision(true / objects, precision, eleven_points=eleven_points))
    return precisions


def average_precision(recall: Array, precision: Array, *, eleven_points: bool = False) -> float:
    """The average precision of a curve, 0..1.

    Args:
        recall: after each detection, not falling, (N,).
        precision: after each detection, (N,).
        eleven_points: the mean over the recalls 0, 0.1, ... 1 of the highest precision from there on (VOC until 2009);
            else the area under the curve made not rising (from 2010 on).
    """
    best = np.maximum.accumulate(precision[::-1])[::-1]  # from each place on
    if eleven_points:
        at = np.searchsorted(recall, np.arange(11) / 10)
        return float(np.append(best, 0.0)[at].mean())
    return float((np.diff(recall, prepend=0.0) * best).sum())


def _mean(precisions: Array) -> float:
    """The mean of what is there, in percent; NaN without any."""
    known = precisions[~np.isnan(precisions)]
    return float(known.mean() * 100) if known.size else math.nan


def _load(dataset_name: str) -> _GroundTruth:
    """The ground truth of a registered dataset."""
    records = DatasetCatalog.get(dataset_name)
    source = f"dataset {dataset_name!r}"
    names = [str(name) for name in MetadataCatalog.get(dataset_name).get("thing_classes") or ()]
    images: dict[int | str, slice] = {}
    objects: list[tuple[list[float], int, bool]] = []
    for number, record in enumerate(records):
        where = f"{source}: records[{number}] ({record.get('file_name', 'no file name')})"
        if "image_id" not in record:
            raise DatasetError(f"{where} has no 'image_id': give each record one of its own to evaluate on it")
        image_id = plain_id(record["image_id"], where)
        if image_id in images:
            raise DatasetError(f"{where} has the image id {image_id!r}, which another record has too")
        start = len(objects)
        objects.extend(_objects(record.get("annotations", ()), len(names), where))
        images[image_id] = slice(start, len(objects))
    return _GroundTruth(
        source,
        names,
        images,
        np.array([box for box, _, _ in objects], dtype=np.float64).reshape(-1, 4),
        np.array([label for _, label, _ in objects], dtype=np.int64),
        np.array([ignored for _, _, ignored in objects], dtype=bool),
    )


def _objects(
    annotations: Sequence[Mapping[str, Any]], num_classes: int, where: str
) -> Iterator[tuple[list[float], int, bool]]:
    """Box, class and whether it is left out, of each annotation of a record."""
    for annotation in annotations:
        label, box = record_class(annotation, num_classes, where), record_box(annotation, BoxMode.XYXY_ABS, where)
        yield box, label, bool(annotation.get("difficult", 0) or annotation.get("iscrowd", 0))
