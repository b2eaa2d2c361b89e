"""Semantic segmentation: intersection over union and pixel accuracy, from the confusions of classes."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from drivetrain.data.catalog import DatasetCatalog
from drivetrain.data.formats.label_maps import read_label_map, read_panoptic_map
from drivetrain.errors import DatasetError, EvaluationError

from .files import write_json
from .per_image import PerImageEvaluator, as_tensor, known_by, spread
from .store import MEMORY_LIMIT, PredictionStore, Rows
from .tables import ClassRow, ResultTable

__all__ = ["SemSegEvaluator", "segmentation_figures"]

Array = np.ndarray[Any, Any]

_IGNORE_LABEL = 255
_LOOKED_AT = 16  # label maps that are read before a training starts


class SemSegEvaluator(PerImageEvaluator):
    """Intersection over union and accuracy of a class for each pixel, on a registered dataset.

    The results are ``{"sem_seg": {...}}`` with, in 0..100: ``mIoU``, the mean over classes of the intersection over
    union; ``fwIoU``, the mean weighted by how frequent the classes are; ``mACC``, the mean over classes of the share of
    pixels that are right; ``pACC``, that share over all pixels; and ``IoU-<class>`` and ``ACC-<class>``. Classes that
    no label map has are NaN and in no mean, as in detectron2.

    What is true is the label map ``sem_seg_file_name`` of the input or of the catalog's record with its id, or else
    ``sem_seg`` (H, W): class indices, with pixels of the ignored label left out. In panoptic data, which have
    ``pan_seg_file_name`` and ``segments_info``, a pixel's class is its segment's ``category_id`` (a crowd's too), and
    one without a segment is left out. A model gives ``sem_seg`` in the size of the original image: a score per class,
    (C, H, W), or the class itself, (H, W). Confusions are counted on the prediction's device.
    """

    _output_key: ClassVar[str] = "sem_seg"

    def __init__(
        self,
        dataset_name: str,
        distributed: bool = True,
        output_dir: str | os.PathLike[str] | None = None,
        *,
        num_classes: int | None = None,
        ignore_label: int | None = None,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        """Prepare an evaluation.

        Args:
            dataset_name: a name in the catalog.
            distributed: bring the predictions of all processes together; otherwise each evaluates its own.
            output_dir: gets ``sem_seg_evaluation.json`` with the figures and the confusion matrix.
            num_classes: by default the number of ``stuff_classes`` in the metadata.
            ignore_label: by default the metadata's ``ignore_label``, or else 255.
            memory_limit: bytes of predictions that a process keeps in memory; what goes beyond lies on disk.
        """
        super().__init__(dataset_name, distributed, output_dir, memory_limit=memory_limit)
        self._given_classes = num_classes
        self._given_ignore = ignore_label

    def check(self) -> None:
        """Look at the ground truth now, so that what is wrong is said before a training starts.

        Raises:
            DatasetError: there are no classes, their number is another than ``num_classes``, a record has no label map,
                one of up to 16 maps spread over the dataset cannot be read or has a label out of range, or panoptic
                data counts things and stuff apart.
            OutputError: the output folder cannot be made.
        """
        _ = self._class_names
        records = list(self._records.values())
        for record in records:
            if not (_has_file(record) or "sem_seg" in record):
                raise DatasetError(
                    f"dataset {self._dataset_name!r}: the record of {record.get('file_name')!r} has no "
                    "'sem_seg_file_name' (nor a 'pan_seg_file_name' with 'segments_info'): semantic segmentation is "
                    "evaluated against a label map for each image"
                )
        if any(_has_file(record) and not record.get("sem_seg_file_name") for record in records):
            self._check_counted_together()
        for record in spread(records, _LOOKED_AT):
            self._truth(record)
        super().check()

    def _check_counted_together(self) -> None:
        """DatasetError for panoptic classes of which a thing and stuff have one index, as in "separated" data."""
        maps = (self._metadata.get(f"{kind}_dataset_id_to_contiguous_id") or {} for kind in ("thing", "stuff"))
        things, stuff = (set(ids.values()) for ids in maps)
        if things & stuff:
            raise DatasetError(
                f"dataset {self._dataset_name!r} counts things and stuff apart (class {min(things & stuff)} is one of "
                "both), so that its segments do not tell a class for each pixel: give records a 'sem_seg_file_name'"
            )

    @cached_property
    def _records(self) -> dict[int | str, Mapping[str, Any]]:
        """The catalog's records by image; none where the dataset is not registered."""
        if self._dataset_name not in DatasetCatalog:
            return {}
        records = DatasetCatalog.get(self._dataset_name)
        return {known_by(record, number): record for number, record in enumerate(records)}

    @cached_property
    def _class_names(self) -> list[str]:
        if self._given_classes is None and not self._metadata.get("stuff_classes"):
            _ = self._records  # loading them may fill in the metadata
        names = [str(name) for name in self._metadata.get("stuff_classes") or ()]
        count = self._given_classes
        if names and count is not None and count != len(names):
            raise DatasetError(
                f"num_classes is {count}, but the metadata of dataset {self._dataset_name!r} names {len(names)} "
                "stuff_classes: leave num_classes out, or correct the metadata"
            )
        if not names and not count:
            DatasetCatalog.get(self._dataset_name)  # raises for an unknown name, with close ones
            raise DatasetError(
                f"the metadata of dataset {self._dataset_name!r} has no 'stuff_classes': set "
                f"MetadataCatalog.get({self._dataset_name!r}).stuff_classes, or give num_classes"
            )
        return names or [str(index) for index in range(count or 0)]

    @cached_property
    def _ignore_label(self) -> int:
        if self._given_ignore is not None:
            return self._given_ignore
        return int(self._metadata.get("ignore_label", _IGNORE_LABEL))

    def _truth(self, image: Mapping[str, Any]) -> Tensor:
        """The classes of an image's pixels, int64 (H, W), -1 where they are ignored."""
        told = [image] if _has_file(image) else [image, self._records.get(known_by(image), {})]
        files = (known for known in told if _has_file(known))
        if known := next(files, None):
            labels, source = _read(known, self._ignore_label)
        elif known := next((known for known in told if "sem_seg" in known), None):
            source = f"'sem_seg' of {image.get('file_name', image.get('image_id'))}"
            labels = torch.as_tensor(known["sem_seg"]).to("cpu", torch.int64)
        else:
            raise EvaluationError(
                "semantic segmentation is evaluated against the label map 'sem_seg_file_name' (or 'sem_seg') of each "
                f"input, but the input has {', '.join(map(str, image))}"
            )
        return _valid(labels, len(self._class_names), self._ignore_label, source)

    def _encode(self, image_id: int | str, image: Mapping[str, Any], output: Mapping[str, Any]) -> Rows:
        truth = self._truth(image)
        classes = len(self._class_names)
        predicted = _predicted(output["sem_seg"], classes, truth.shape, image_id)
        truth = truth.to(predicted.device)
        counted = truth >= 0
        cells = torch.bincount(truth[counted] * classes + predicted[counted], minlength=classes**2).cpu().numpy()
        filled = np.flatnonzero(cells)
        return {"cell": filled, "pixels": cells[filled]}

    def _figures(self, store: PredictionStore) -> OrderedDict[str, Any]:
        names = self._class_names
        columns, first = store.columns(), self._first_of_each(store, self._records)
        cells = np.zeros(len(names) ** 2, dtype=np.int64)
        if columns:
            counted = first[store.image_of_rows()]
            np.add.at(cells, columns["cell"][counted], columns["pixels"][counted])
        matrix = cells.reshape(len(names), len(names))
        figures = segmentation_figures(matrix, names)
        pixels = matrix.sum(axis=1).tolist()
        rows = [
            ClassRow(name, {"IoU": figures[f"IoU-{name}"], "ACC": figures[f"ACC-{name}"], "pixels": count})
            for name, count in zip(names, pixels, strict=True)
        ]
        overall = ClassRow("all", {"IoU": figures["mIoU"], "ACC": figures["mACC"], "pixels": sum(pixels)})
        self.tables["sem_seg"] = ResultTable(
            "sem_seg", self._dataset_name, int(first.sum()), "in percent", figures, rows, overall
        )
        if self._output_dir is not None:
            content = {"figures": figures, "classes": names, "confusions": matrix.tolist()}
            write_json(content, self._output_dir / "sem_seg_evaluation.json")
        return OrderedDict(sem_seg=dict(figures))

    def _unseen_count_as(self) -> str:
        return "; the figures are of the others"


def _has_file(record: Mapping[str, Any]) -> bool:
    """Whether a record or an input names a label map: of classes, or of segments whose classes it tells."""
    return bool(record.get("sem_seg_file_name") or (record.get("pan_seg_file_name") and "segments_info" in record))


def _read(record: Mapping[str, Any], ignore_label: int) -> tuple[Tensor, str]:
    """The label map that a record names, int64 (H, W), and its path."""
    if path := record.get("sem_seg_file_name"):
        return torch.from_numpy(read_label_map(path).astype(np.int64)), str(path)
    path = record["pan_seg_file_name"]
    ids = read_panoptic_map(path)
    present, places = np.unique(ids, return_inverse=True)
    class_of = {int(segment["id"]): int(segment["category_id"]) for segment in record["segments_info"]}
    classes = np.array([class_of.get(segment, ignore_label) for segment in present.tolist()], dtype=np.int64)
    return torch.from_numpy(classes[places.reshape(ids.shape)]), str(path)


def segmentation_figures(confusions: Array, class_names: Sequence[str]) -> dict[str, float]:
    """The figures of :class:`SemSegEvaluator` from a confusion matrix.

    Args:
        confusions: pixels of each true class (rows) by predicted class (columns), (C, C).
        class_names: C names.
    """
    right, true, predicted = np.diag(confusions), confusions.sum(axis=1), confusions.sum(axis=0)
    there = true > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = np.where(there, right / true, np.nan) * 100
        overlap = np.where(there, right / (true + predicted - right), np.nan) * 100
    total = true.sum()
    figures = {
        "mIoU": float(overlap[there].mean()) if total else math.nan,
        "fwIoU": float((overlap[there] * true[there]).sum() / total) if total else math.nan,
        "mACC": float(accuracy[there].mean()) if total else math.nan,
        "pACC": float(right.sum() / total * 100) if total else math.nan,
    }
    figures.update({f"IoU-{name}": float(value) for name, value in zip(class_names, overlap, strict=True)})
    figures.update({f"ACC-{name}": float(value) for name, value in zip(class_names, accuracy, strict=True)})
    return figures


def _valid(labels: Tensor, num_classes: int, ignore_label: int, source: str) -> Tensor:
    """Labels with those that are ignored as -1; DatasetError for one out of range."""
    if labels.ndim != 2:
        raise DatasetError(f"the label map {source} has the shape {tuple(labels.shape)}; it is (height, width)")
    ignored = labels == ignore_label
    wrong = labels[~ignored & ((labels >= num_classes) | (labels < 0))]
    if len(wrong):
        raise DatasetError(
            f"the label map {source} has the label {int(wrong[0])}, but there are {num_classes} classes (0 to "
            f"{num_classes - 1}; {ignore_label} is ignored)"
        )
    return torch.where(ignored, -1, labels)


def _predicted(output: Any, num_classes: int, size: Sequence[int], image_id: int | str) -> Tensor:
    """The predicted classes (H, W), int64, checked."""
    scores = as_tensor(output, f"image {image_id!r}: 'sem_seg'")
    if scores.ndim not in (2, 3) or tuple(scores.shape[-2:]) != tuple(size):
        raise EvaluationError(
            f"image {image_id!r}: 'sem_seg' has the shape {tuple(scores.shape)}, but the label map has "
            f"{tuple(size)}: a model gives scores (classes, height, width) or classes (height, width) in the size of "
            "the original image"
        )
    if scores.ndim == 3:
        if len(scores) != num_classes:
            raise EvaluationError(
                f"image {image_id!r}: 'sem_seg' has scores for {len(scores)} classes, but the dataset has {num_classes}"
            )
        best, classes = scores.max(dim=0)
        if not best.isfinite().all():
            raise EvaluationError(
                f"image {image_id!r}: 'sem_seg' has scores that are not finite: the model's weights may have diverged; "
                "lower the learning rate or clip the gradients"
            )
        return classes
    if scores.is_floating_point():
        raise EvaluationError(f"image {image_id!r}: 'sem_seg' (height, width) holds classes, not {scores.dtype}")
    classes = scores.long()
    if classes.numel() and not 0 <= int(classes.min()) <= int(classes.max()) < num_classes:
        raise EvaluationError(
            f"image {image_id!r}: 'sem_seg' has the classes {int(classes.min())} to {int(classes.max())}, but the "
            f"dataset has {num_classes} (0 to {num_classes - 1})"
        )
    return classes
