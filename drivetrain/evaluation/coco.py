"""Average precision as COCO defines it, for boxes, masks and keypoints."""

from __future__ import annotations

import copy
import math
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from numbers import Integral
from typing import Any, ClassVar

import numpy as np

from drivetrain.errors import EvaluationError, did_you_mean

from .coco_annotations import plain_id
from .coco_ground_truth import CocoGroundTruth, load_ground_truth
from .coco_results import COLUMN_OF_TASK, encode_instances, result_entries, write_results
from .coco_tables import class_rows, count_instances, mean_precision, overall_row
from .per_image import PerImageEvaluator, check_classes, check_images
from .store import MEMORY_LIMIT, PredictionStore, Rows
from .tables import ResultTable

__all__ = ["COCOEvaluator"]

_METRICS = {
    "bbox": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "segm": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "keypoints": ("AP", "AP50", "AP75", "APm", "APl"),
}  # in the order of the summary that the COCO evaluation makes

_FIELDS = {"bbox": "boxes (pred_boxes)", "segm": "masks (pred_masks)", "keypoints": "keypoints (pred_keypoints)"}

Array = np.ndarray[Any, Any]


class COCOEvaluator(PerImageEvaluator):
    """Average precision of detections on a registered dataset, as the COCO challenge measures it.

    Results are ``{"bbox": {...}, "segm": {...}, "keypoints": {...}}`` with the figures ``AP``, ``AP50``, ``AP75``,
    ``APs`` (not for keypoints), ``APm``, ``APl`` and, when the dataset has several classes, ``AP-<class>``: floats in
    0..100, NaN where there is nothing to average (no ground truth, or no prediction on the whole dataset).

    The ground truth is the metadata's ``json_file``, or else the records of the catalog. Every image of it counts,
    whether the model saw it or not.

    Attributes:
        tables: task -> :class:`~drivetrain.evaluation.tables.ResultTable` of the last ``evaluate``.
    """

    _input_keys: ClassVar[tuple[str, ...]] = ("image_id",)
    _known_tasks: ClassVar[tuple[str, ...]] = ("bbox", "keypoints", "segm")
    _lvis: ClassVar[bool] = False

    def __init__(
        self,
        dataset_name: str,
        tasks: str | Sequence[str] | Mapping[str, Any] | None = None,
        distributed: bool = True,
        output_dir: str | os.PathLike[str] | None = None,
        *,
        max_dets_per_image: int | Sequence[int] | None = None,
        use_fast_impl: bool = True,
        kpt_oks_sigmas: Sequence[float] = (),
        allow_cached_coco: bool = True,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        """Prepare an evaluation; the ground truth is loaded when it is first needed (see :meth:`check`).

        Args:
            dataset_name: a name in the catalog.
            tasks: of ``"bbox"``, ``"segm"``, ``"keypoints"``; by default, those that both the predictions and the
                ground truth have. A config is accepted too, for code that passes one here; only its
                ``TEST.KEYPOINT_OKS_SIGMAS`` is read.
            distributed: bring the predictions of all processes together; otherwise each evaluates its own.
            output_dir: gets ``coco_instances_results.json``, the predictions as COCO results.
            max_dets_per_image: most detections of an image and class that count, best scores first; COCO's 100 by
                default. Or the list of limits, the last of which is used for precision.
            use_fast_impl: accepted; there is one implementation, and it is the fast one.
            kpt_oks_sigmas: spread of each keypoint; those of COCO's 17 person keypoints by default.
            allow_cached_coco: accepted; nothing is cached on disk.
            memory_limit: bytes of predictions that a process keeps in memory; what goes beyond lies on disk.

        Raises:
            EvaluationError: an unknown task, or limits that are not positive integers.
        """
        super().__init__(dataset_name, distributed, output_dir, memory_limit=memory_limit)
        self._tasks, self._kpt_oks_sigmas = _tasks_and_sigmas(tasks, kpt_oks_sigmas)
        self._max_dets_per_image = _limits(max_dets_per_image)
        self._wanted: list[int | str] | None = None
        self._results: OrderedDict[str, dict[str, float]] = OrderedDict()

    @cached_property
    def _ground_truth(self) -> CocoGroundTruth:
        return load_ground_truth(self._dataset_name)

    @property
    def _coco_api(self) -> Any:
        """The ground truth as a ``faster_coco_eval.COCO``."""
        return self._ground_truth.api

    def check(self) -> None:
        """Load the ground truth and make the output folder now, so that what is wrong is said before a training starts.

        Raises:
            DatasetError: the ground truth cannot be loaded.
            EvaluationError: it does not have what one of the tasks needs.
            OutputError: the output folder cannot be made.
        """
        truth = self._ground_truth
        for task in self._tasks or ():
            if task not in truth.kinds and truth.annotated:
                raise EvaluationError(
                    f"{truth.source} has no ground truth for {task!r}: evaluate {' and '.join(sorted(truth.kinds))}, "
                    "or add it to the annotations"
                )
        if "keypoints" in (self._tasks or ()):
            self._check_sigmas(truth.num_keypoints)
        super().check()

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Take the predictions for a batch.

        Args:
            inputs: one dict per image with ``image_id``.
            outputs: one dict per image with ``instances``, as ``instances_to_coco_json`` takes them.

        Raises:
            EvaluationError: the two do not belong together, a field is missing, a number is not finite, or the
                image or a class is not in the ground truth.
        """
        super().process(inputs, outputs)

    def evaluate(self, img_ids: Iterable[int | str] | None = None) -> OrderedDict[str, Any]:
        """The results over all processes, on the main one (elsewhere empty).

        Args:
            img_ids: evaluate on these images only; on all images of the ground truth by default.

        Raises:
            EvaluationError: a prediction, or one of ``img_ids``, does not belong to the ground truth.
        """
        self._wanted = None if img_ids is None else list(dict.fromkeys(plain_id(i, "img_ids") for i in img_ids))
        return super().evaluate()

    def _encode(self, image_id: int | str, image: Mapping[str, Any], output: Mapping[str, Any]) -> Rows:
        rows = encode_instances(output["instances"], image_id)
        for task in self._tasks or () if rows else ():
            if COLUMN_OF_TASK[task] not in rows:
                raise EvaluationError(
                    f"image {image_id!r}: task {task!r} was asked for, but the model predicts no {_FIELDS[task]}: "
                    "leave the task out, or evaluate a model that predicts it"
                )
        if "_ground_truth" in self.__dict__:  # only the process that evaluates has loaded it
            self._check_known([image_id], np.zeros(len(rows.get("class", ())), dtype=np.int32), rows)
        return rows

    def _figures(self, store: PredictionStore) -> OrderedDict[str, Any]:
        truth = self._ground_truth
        self._results = OrderedDict()
        for image_id in self._wanted or ():
            if image_id not in truth.image_ids:
                raise EvaluationError(
                    f"img_ids has {image_id!r}, which is no image of the ground truth ({truth.source})"
                )
        columns, place = store.columns(), store.image_of_rows()
        self._check_known(store.image_ids, place, columns)
        expected = truth.image_ids if self._wanted is None else self._wanted
        first = self._first_of_each(store, expected)
        if self._output_dir is not None:
            entries = self._result_entries(store, columns, first)
            write_results(entries, self._output_dir / "coco_instances_results.json")
        if not truth.annotated:
            self._logger.info(f"{truth.source} has no annotations: the predictions are not evaluated")
            return OrderedDict()
        if not len(store):
            self._logger.warning(f"Nothing was predicted on {self._dataset_name}: every figure is NaN")
        self._eval_tasks(columns, place, np.asarray([truth.image_ids[i] for i in store.image_ids], np.int64), first)
        return copy.deepcopy(self._results)

    def _result_entries(
        self, store: PredictionStore, columns: Mapping[str, Any], first: Array
    ) -> Iterator[list[dict[str, Any]]]:
        """The result entries of one image after the other, with the dataset's category ids."""
        category_ids = np.asarray(self._ground_truth.class_ids)
        end = 0
        for image_id, count, counts_once in zip(store.image_ids, store.counts, first.tolist(), strict=True):
            start, end = end, end + count
            if count and counts_once:
                rows = {name: column[start:end] for name, column in columns.items()}
                yield result_entries(image_id, category_ids[rows["class"]].tolist(), rows)

    def _check_known(self, image_ids: Sequence[int | str], place: Array, columns: Mapping[str, Any]) -> None:
        """EvaluationError for an image, class, mask size or number of keypoints that the ground truth does not have.

        Args:
            image_ids: images.
            place: for each row the place of its image among these.
            columns: the rows.
        """
        truth = self._ground_truth
        check_images(image_ids, truth.image_ids, truth.source)
        if not len(place):
            return
        check_classes(image_ids, place, columns["class"], len(truth.class_ids), truth.source)
        if "counts" in columns and "segm" in truth.kinds:
            sizes = np.asarray([truth.image_size(image_id) for image_id in image_ids])[place]
            wrong = (columns["size"] != sizes).any(axis=1) & (sizes > 0).all(axis=1)  # a size may not be told
            if wrong.any():
                row = int(wrong.argmax())
                raise EvaluationError(
                    f"image {image_ids[place[row]]!r}: a mask of {columns['size'][row].tolist()} pixels (height, "
                    f"width) was predicted, but the image has {sizes[row].tolist()}: masks are those of the original "
                    "image"
                )
        if "keypoints" in columns and "keypoints" in (self._tasks or truth.kinds):
            predicted = columns["keypoints"].shape[1] // 3
            if predicted != truth.num_keypoints:
                raise EvaluationError(
                    f"the model predicts {predicted} keypoints, but {truth.source} has {truth.num_keypoints}"
                )
            self._check_sigmas(predicted)

    def _check_sigmas(self, num_keypoints: int) -> None:
        """EvaluationError unless there is a spread for each keypoint."""
        known = len(self._kpt_oks_sigmas) or 17
        if known != num_keypoints:
            raise EvaluationError(
                f"{self._ground_truth.source} has {num_keypoints} keypoints, but there are {known} OKS sigmas"
                f"{'' if self._kpt_oks_sigmas else ' (those of COCO persons)'}: give kpt_oks_sigmas "
                f"(TEST.KEYPOINT_OKS_SIGMAS) {num_keypoints} numbers, such as 0.05 each"
            )

    def _eval_tasks(self, columns: Mapping[str, Any], place: Array, api_ids: Array, first: Array) -> None:
        """Evaluate each task into ``_results`` and ``tables``.

        Args:
            columns: the rows of all images.
            place: for each row the place of its image.
            api_ids: the ids of the images in the ground truth's ``api``.
            first: which of the images count.
        """
        from .coco_matching import Detections

        truth = self._ground_truth
        images = None if self._wanted is None else [truth.image_ids[image_id] for image_id in self._wanted]
        counted = first if images is None else first & np.isin(api_ids, images)
        detections = Detections.by_class(columns, api_ids[place], counted[place], len(truth.class_ids))
        predicted = {task for task in self._known_tasks if COLUMN_OF_TASK[task] in columns}
        for task in self._tasks or sorted(predicted if len(place) else truth.kinds.intersection(self._known_tasks)):
            if task not in truth.kinds:
                self._logger.warning(f"{truth.source} has no ground truth for {task}: it is not evaluated")
                continue
            self._eval_task(task, detections, images)

    def _eval_task(self, task: str, detections: Any, images: list[int] | None) -> None:
        """Evaluate one task into ``_results`` and ``tables``."""
        from .coco_matching import evaluate_task

        truth = self._ground_truth
        ordered = sorted(range(len(truth.class_ids)), key=truth.class_ids.__getitem__)
        names = [truth.class_names[index] for index in ordered]
        coco_eval = evaluate_task(
            truth,
            detections,
            task,
            image_ids=images,
            max_dets=self._max_dets_per_image,
            sigmas=self._kpt_oks_sigmas,
            lvis=self._lvis,
        )
        figures = self._derive_coco_results(coco_eval, task, class_names=names)
        self._results[task] = figures
        ids = [truth.class_ids[index] for index in ordered]
        counts = count_instances(truth.api.dataset["annotations"], ids, None if images is None else set(images))
        rows = dict(zip(ordered, class_rows(coco_eval, names, counts), strict=True))
        self.tables[task] = ResultTable(
            task=task,
            dataset=self._dataset_name,
            images=len(truth.image_ids if images is None else images),
            measure="average precision in percent",
            metrics=figures,
            classes=[rows[index] for index in range(len(rows))],
            overall=overall_row(figures, sum(counts)),
        )

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: Sequence[str] | None = None
    ) -> dict[str, float]:
        """The figures of one task; override it to report others.

        Args:
            coco_eval: the evaluation object (``stats``, ``eval``, ``params``), None without any prediction.
            iou_type: the task.
            class_names: in the order of the class axis of ``coco_eval.eval["precision"]``.

        Returns:
            Name -> float in 0..100, NaN where there is nothing to average.
        """
        metrics = _METRICS[iou_type]
        values = [-1.0] * len(metrics) if coco_eval is None else coco_eval.stats
        figures = {
            name: float(value * 100) if value >= 0 else math.nan
            for name, value in zip(metrics, values, strict=False)  # recalls follow in the summary
        }
        if class_names is not None and len(class_names) > 1:
            for index, name in enumerate(class_names):
                value = math.nan
                if coco_eval is not None:
                    value = mean_precision(coco_eval.eval["precision"][:, :, index, 0, -1])
                figures[f"AP-{name}"] = value
        return figures


def _tasks_and_sigmas(
    tasks: str | Sequence[str] | Mapping[str, Any] | None, sigmas: Sequence[float]
) -> tuple[tuple[str, ...] | None, tuple[float, ...]]:
    """Both arguments in one form; EvaluationError for an unknown task."""
    if isinstance(tasks, Mapping):
        test = tasks.get("TEST") or {}
        return None, tuple(sigmas) or tuple(test.get("KEYPOINT_OKS_SIGMAS", ()))
    if tasks is None:
        return None, tuple(sigmas)
    chosen = tuple(tasks) if isinstance(tasks, Iterable) and not isinstance(tasks, str) else (tasks,)
    for task in chosen:
        if task not in _METRICS:
            raise EvaluationError(
                f"unknown task {task!r}{did_you_mean(str(task), _METRICS)} (known: {', '.join(_METRICS)})"
            )
    return chosen or None, tuple(sigmas)


def _limits(most: int | Sequence[int] | None) -> list[int]:
    """The limits on detections in increasing order, the last being the one for precision."""
    if most is None:
        return [1, 10, 100]
    limits = list(most) if isinstance(most, Sequence) else [most]
    if not limits or any(isinstance(n, bool) or not isinstance(n, Integral) or n < 1 for n in limits):
        raise EvaluationError(f"max_dets_per_image has to be a positive integer or a list of them, not {most!r}")
    if not isinstance(most, Sequence):
        limits = [n for n in (1, 10) if n < most] + limits
    return sorted(map(int, limits))
