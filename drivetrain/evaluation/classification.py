"""Image classification: top-k accuracy."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from drivetrain.data.catalog import DatasetCatalog
from drivetrain.errors import DatasetError, EvaluationError

from .per_image import PerImageEvaluator, as_tensor, known_by
from .store import MEMORY_LIMIT, PredictionStore, Rows
from .tables import ClassRow, ResultTable

__all__ = ["ClassificationEvaluator"]

Array = np.ndarray[Any, Any]


class ClassificationEvaluator(PerImageEvaluator):
    """The share of images whose class is among the k that the model scores highest.

    The results are ``{"classification": {...}}`` with ``top1``, ``top5`` (of ``topk``) and ``top1-<class>``, the share
    of a class's images that are right: floats in 0..100, NaN without images. Of classes with equal scores the one
    with the smaller index comes first.

    What is true is ``class_id`` of the input; a model gives ``classes``, a score for each class, floats (K,).
    """

    _input_keys: ClassVar[tuple[str, ...]] = ("class_id",)
    _output_key: ClassVar[str] = "classes"

    def __init__(
        self,
        dataset_name: str,
        topk: Sequence[int] = (1, 5),
        distributed: bool = True,
        *,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        """Prepare an evaluation.

        Args:
            dataset_name: a name in the catalog.
            topk: each k gives a figure ``top<k>``.
            distributed: bring the predictions of all processes together; otherwise each evaluates its own.
            memory_limit: bytes of predictions that a process keeps in memory; what goes beyond lies on disk.

        Raises:
            EvaluationError: ``topk`` is not one or more positive integers.
        """
        super().__init__(dataset_name, distributed, memory_limit=memory_limit)
        numbers = list(topk) if isinstance(topk, Sequence) else []
        if not numbers or any(isinstance(k, bool) or not isinstance(k, int) or k < 1 for k in numbers):
            raise EvaluationError(f"topk has to be one or more positive integers, such as (1, 5), not {topk!r}")
        self._topk = sorted(set(numbers))

    def check(self) -> None:
        """Look at the ground truth now, so that what is wrong is said before a training starts.

        Raises:
            DatasetError: the dataset has no class names, or a record no ``class_id`` among them.
        """
        _ = self._class_names
        for number, record in enumerate(self._records):
            self._label(record, f"records[{number}] ({record.get('file_name', 'no file name')})")
        super().check()

    def _label(self, image: Mapping[str, Any], where: str) -> int:
        """The ``class_id`` of a record or an input; DatasetError for what is none, ``where`` names it."""
        label: Any = image.get("class_id")
        count = len(self._class_names)
        if hasattr(label, "item"):
            label = label.item()
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < count:
            raise DatasetError(
                f"dataset {self._dataset_name!r}: {where} has the class_id {label!r}; it is one of the {count} classes "
                f"(0 to {count - 1})"
            )
        return label

    @cached_property
    def _records(self) -> Sequence[Mapping[str, Any]]:
        """The catalog's records; none where the dataset is not registered."""
        return DatasetCatalog.get(self._dataset_name) if self._dataset_name in DatasetCatalog else ()

    @cached_property
    def _class_names(self) -> list[str]:
        if not self._metadata.get("thing_classes") and not self._metadata.get("classes"):
            _ = self._records  # loading them may fill in the metadata
        names = self._metadata.get("thing_classes") or self._metadata.get("classes")
        if not names:
            DatasetCatalog.get(self._dataset_name)  # raises for an unknown name, with close ones
            raise DatasetError(
                f"the metadata of dataset {self._dataset_name!r} has no 'thing_classes': set "
                f"MetadataCatalog.get({self._dataset_name!r}).thing_classes"
            )
        return [str(name) for name in names]

    def _encode(self, image_id: int | str, image: Mapping[str, Any], output: Mapping[str, Any]) -> Rows:
        count = len(self._class_names)
        scores = as_tensor(output["classes"], f"image {image_id!r}: 'classes'").cpu().double().numpy()
        if scores.shape != (count,):
            raise EvaluationError(
                f"image {image_id!r}: 'classes' has the shape {scores.shape}, but dataset {self._dataset_name!r} has "
                f"{count} classes: a model gives one score for each, ({count},)"
            )
        if not np.isfinite(scores).all():
            raise EvaluationError(
                f"image {image_id!r}: {int((~np.isfinite(scores)).sum())} of {count} scores are not finite: the "
                "model's weights may have diverged; lower the learning rate or clip the gradients"
            )
        label = self._label(image, f"image {image_id!r}")
        before = (scores > scores[label]).sum() + (scores[:label] == scores[label]).sum()
        return {"class": np.array([label]), "before": np.array([before])}

    def _figures(self, store: PredictionStore) -> OrderedDict[str, Any]:
        names, columns = self._class_names, store.columns()
        first = self._first_of_each(store, [known_by(record, n) for n, record in enumerate(self._records)])
        counted = first[store.image_of_rows()]
        labels = columns["class"][counted] if columns else np.zeros(0, dtype=np.int64)
        before = columns["before"][counted] if columns else np.zeros(0, dtype=np.int64)
        images = np.bincount(labels, minlength=len(names))
        figures: dict[str, float] = {}
        rows: list[dict[str, float]] = [{} for _ in names]
        for k in self._topk:
            right = np.bincount(labels[before < k], minlength=len(names))
            figures[f"top{k}"] = _percent(right.sum(), images.sum())
            for row, part, whole in zip(rows, right, images, strict=True):
                row[f"top{k}"] = _percent(part, whole)
        overall = {**figures, "images": int(images.sum())}
        for row, count in zip(rows, images.tolist(), strict=True):
            row["images"] = count
        if 1 in self._topk:
            figures.update({f"top1-{name}": row["top1"] for name, row in zip(names, rows, strict=True)})
        self.tables["classification"] = ResultTable(
            "classification",
            self._dataset_name,
            int(first.sum()),
            "accuracy in percent",
            dict(figures),
            [ClassRow(name, row) for name, row in zip(names, rows, strict=True)],
            ClassRow("all", overall),
        )
        return OrderedDict(classification=figures)

    def _unseen_count_as(self) -> str:
        return "; the figures are of the others"


def _percent(part: Any, whole: Any) -> float:
    return float(part / whole * 100) if whole else math.nan
