"""Average precision as LVIS defines it (Gupta et al. 2019, arXiv:1908.03195)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from drivetrain.errors import DatasetError, EvaluationError

from .coco import COCOEvaluator
from .store import MEMORY_LIMIT, Rows

__all__ = ["LVISEvaluator"]

_FREQUENCIES = ("r", "c", "f")


class LVISEvaluator(COCOEvaluator):
    """Average precision of detections on a dataset in the form of LVIS, as its challenge measures it.

    The results are those of :class:`~drivetrain.evaluation.coco.COCOEvaluator` for boxes and masks, and ``APr``,
    ``APc`` and ``APf`` over the rare, common and frequent classes. On an image only the classes count that it has, or
    that were looked for and not found (``neg_category_ids``); where not all objects of a class were marked
    (``not_exhaustive_category_ids``) a detection that matches none is ignored. 300 detections of an image count.

    The computation is ``faster_coco_eval``'s.
    """

    _known_tasks: ClassVar[tuple[str, ...]] = ("bbox", "segm")
    _lvis: ClassVar[bool] = True

    def __init__(
        self,
        dataset_name: str,
        tasks: str | Sequence[str] | Mapping[str, Any] | None = None,
        distributed: bool = True,
        output_dir: str | os.PathLike[str] | None = None,
        *,
        max_dets_per_image: int | None = None,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        """Prepare an evaluation.

        Args:
            dataset_name: a name in the catalog, whose metadata has the annotation file as ``json_file``.
            tasks: of ``"bbox"`` and ``"segm"``; by default, those that both the predictions and the ground truth have.
            distributed: bring the predictions of all processes together; otherwise each evaluates its own.
            output_dir: gets ``coco_instances_results.json``.
            max_dets_per_image: most detections of an image that count, best scores first; 300 by default.
            memory_limit: bytes of predictions that a process keeps in memory; what goes beyond lies on disk.

        Raises:
            EvaluationError: an unknown task, or a limit that is not a positive integer.
        """
        most = 300 if max_dets_per_image is None else max_dets_per_image
        super().__init__(
            dataset_name, tasks, distributed, output_dir, max_dets_per_image=[most], memory_limit=memory_limit
        )
        self._most = most
        if "keypoints" in (self._tasks or ()):
            raise EvaluationError("LVIS has no keypoints: evaluate 'bbox' and 'segm'")

    def check(self) -> None:
        """As COCO's, and whether the categories have their frequency.

        Raises:
            DatasetError: the ground truth cannot be loaded, or is not that of LVIS.
        """
        truth = self._ground_truth
        frequencies = [category.get("frequency") for category in truth.api.cats.values()]
        if any(frequency not in _FREQUENCIES for frequency in frequencies):
            raise DatasetError(
                f"{truth.source} is no LVIS file: its categories have no 'frequency' of 'r', 'c' or 'f'; set "
                "evaluator_type to 'coco' to evaluate it as COCO data"
            )
        super().check()

    def _encode(self, image_id: int | str, image: Mapping[str, Any], output: Mapping[str, Any]) -> Rows:
        rows = super()._encode(image_id, image, output)
        if len(rows.get("score", ())) <= self._most:
            return rows
        best = np.sort(np.argsort(-rows["score"], kind="stable")[: self._most])
        return {
            name: [values[i] for i in best.tolist()] if isinstance(values, list) else values[best]
            for name, values in rows.items()
        }

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: Sequence[str] | None = None
    ) -> dict[str, float]:
        """See :class:`~drivetrain.evaluation.coco.COCOEvaluator`."""
        figures = super()._derive_coco_results(coco_eval, iou_type)
        stats = {} if coco_eval is None else coco_eval.stats_as_dict
        for name in ("APr", "APc", "APf"):
            value = stats.get(name, -1.0)
            figures[name] = value * 100 if value >= 0 else math.nan
        of_classes = super()._derive_coco_results(coco_eval, iou_type, class_names)
        return {**figures, **of_classes}
