"""Average precision as COCO defines it, for boxes, masks and keypoints."""

from __future__ import annotations

import copy
import itertools
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from drivetrain.data.catalog import MetadataCatalog
from drivetrain.errors import EvaluationError, OutputError, did_you_mean
from drivetrain.runtime import comm

from .coco_annotations import plain_id
from .coco_ground_truth import CocoGroundTruth, load_ground_truth
from .coco_results import evaluate_task, instances_to_coco_json, write_results
from .evaluator import DatasetEvaluator
from .tables import ResultTable, class_rows, count_instances, mean_precision

__all__ = ["COCOEvaluator"]

_METRICS = {
    "bbox": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "segm": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "keypoints": ("AP", "AP50", "AP75", "APm", "APl"),
}  # in the order of the summary that the COCO evaluation makes


class COCOEvaluator(DatasetEvaluator):
    """Average precision of detections on a registered dataset, as the COCO challenge measures it.

    Results are ``{"bbox": {...}, "segm": {...}, "keypoints": {...}}`` with the figures ``AP``, ``AP50``, ``AP75``,
    ``APs`` (not for keypoints), ``APm``, ``APl`` and, when the dataset has several classes, ``AP-<class>``: floats in
    0..100, NaN where there is nothing to average (no ground truth, or no prediction on the whole dataset).

    The ground truth is the metadata's ``json_file``, or else the records of the catalog. Every image of it counts,
    whether the model saw it or not.

    Attributes:
        tables: task -> :class:`~drivetrain.evaluation.tables.ResultTable` of the last ``evaluate``.
    """

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

        Raises:
            EvaluationError: an unknown task, or limits that are not positive integers.
        """
        super().__init__()
        self._dataset_name = dataset_name
        self._tasks, self._kpt_oks_sigmas = _tasks_and_sigmas(tasks, kpt_oks_sigmas)
        self._distributed = distributed
        self._output_dir = Path(output_dir) if output_dir else None
        self._max_dets_per_image = _limits(max_dets_per_image)
        self._metadata = MetadataCatalog.get(dataset_name)
        self._logger = logging.getLogger(__name__)
        self._predictions: list[dict[str, Any]] = []
        self._results: OrderedDict[str, dict[str, float]] = OrderedDict()
        self.tables: dict[str, ResultTable] = {}

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
        if self._output_dir is not None:
            try:
                self._output_dir.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"the output folder {self._output_dir} cannot be made: {error.strerror or error}"
                ) from error

    def reset(self) -> None:
        """Forget the predictions; on the main process, :meth:`check`."""
        self._predictions = []
        if self._evaluates():
            self.check()

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Take the predictions for a batch.

        Args:
            inputs: one dict per image with ``image_id``.
            outputs: one dict per image with ``instances``, as ``instances_to_coco_json`` takes them.

        Raises:
            EvaluationError: the two do not belong together, a field is missing, a number is not finite, or the
                image or a class is not in the ground truth.
        """
        if len(inputs) != len(outputs):
            raise EvaluationError(
                f"the model returned {len(outputs)} outputs for {len(inputs)} images: one for each is needed"
            )
        for image, output in zip(inputs, outputs, strict=True):
            if "image_id" not in image or "instances" not in output:
                raise EvaluationError(
                    "COCO evaluation needs 'image_id' in each input and 'instances' in each output, but the input has "
                    f"{', '.join(map(str, image))} and the output {', '.join(map(str, output))}"
                )
            image_id = plain_id(image["image_id"], "the model's input")
            entries = instances_to_coco_json(output["instances"], image_id)
            if "_ground_truth" in self.__dict__:  # only the process that evaluates has loaded it
                self._check_known(image_id, entries)
            self._predictions.append({"image_id": image_id, "instances": entries})

    def evaluate(self, img_ids: Iterable[int | str] | None = None) -> OrderedDict[str, Any]:
        """The results over all processes, on the main one (elsewhere empty).

        Args:
            img_ids: evaluate on these images only; on all images of the ground truth by default.

        Raises:
            EvaluationError: a prediction does not belong to the ground truth.
        """
        predictions = self._predictions
        if self._distributed and comm.get_world_size() > 1:
            predictions = list(itertools.chain.from_iterable(comm.gather(self._predictions, dst=0)))
        if not self._evaluates():
            return OrderedDict()
        self._results, self.tables = OrderedDict(), {}
        wanted = None if img_ids is None else [plain_id(i, "img_ids") for i in img_ids]
        self._eval_predictions(self._once_each(predictions, wanted), img_ids=wanted)
        return copy.deepcopy(self._results)

    def _evaluates(self) -> bool:
        """Whether this process is one that computes results."""
        return not self._distributed or comm.is_main_process()

    def _check_known(self, image_id: int | str, entries: Sequence[Mapping[str, Any]]) -> None:
        """EvaluationError for an image, class or number of keypoints that the ground truth does not have."""
        truth = self._ground_truth
        if image_id not in truth.image_ids:
            raise EvaluationError(
                f"a prediction is for image {image_id!r}, which is not in the ground truth ({truth.source}, "
                f"{len(truth.image_ids)} images): the loader and the evaluator have to be for one dataset"
            )
        for entry in entries:
            if not 0 <= entry["category_id"] < len(truth.class_ids):
                raise EvaluationError(
                    f"image {image_id!r}: class {entry['category_id']} was predicted, but {truth.source} has "
                    f"{len(truth.class_ids)} classes (0 to {len(truth.class_ids) - 1}): the model's number of classes "
                    "does not fit the dataset"
                )
        if entries and "keypoints" in entries[0] and "keypoints" in (self._tasks or truth.kinds):
            predicted = len(entries[0]["keypoints"]) // 3
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

    def _once_each(
        self, predictions: Iterable[dict[str, Any]], wanted: Sequence[int | str] | None
    ) -> list[dict[str, Any]]:
        """The predictions of each image once, after a look at which images came twice or not at all."""
        by_image: dict[int | str, dict[str, Any]] = {}
        repeated = 0
        for prediction in predictions:
            self._check_known(prediction["image_id"], prediction["instances"])
            repeated += prediction["image_id"] in by_image
            by_image.setdefault(prediction["image_id"], prediction)
        if repeated:
            self._logger.warning(
                f"{repeated} images of {self._dataset_name} came more than once, as when a sampler pads its "
                "shares; the first predictions for each count"
            )
        expected = self._ground_truth.image_ids if wanted is None else wanted
        unseen = [image_id for image_id in expected if image_id not in by_image]
        if unseen:
            first = ", ".join(repr(image_id) for image_id in unseen[:3])
            self._logger.warning(
                f"{len(unseen)} of {len(expected)} images of {self._dataset_name} were not given to the model (such as "
                f"{first}); what is on them counts as missed"
            )
        return list(by_image.values())

    def _tasks_from_predictions(self, predictions: Sequence[Mapping[str, Any]]) -> list[str]:
        """The tasks that result entries have the fields for; those of the ground truth when there is no entry."""
        if not predictions:
            return sorted(self._ground_truth.kinds)
        fields = {"bbox": "bbox", "keypoints": "keypoints", "segm": "segmentation"}
        return [task for task, field in fields.items() if any(field in entry for entry in predictions)]

    def _eval_predictions(
        self, predictions: Sequence[Mapping[str, Any]], img_ids: Sequence[int | str] | None = None
    ) -> None:
        """Write the result file and fill ``_results`` and ``tables``.

        Args:
            predictions: per image ``{"image_id", "instances": entries}``, with class indices as category ids.
            img_ids: the images to evaluate; None for all.
        """
        truth = self._ground_truth
        entries = [entry for prediction in predictions for entry in prediction["instances"]]
        results = [{**entry, "category_id": truth.class_ids[entry["category_id"]]} for entry in entries]
        if self._output_dir is not None:
            write_results(results, self._output_dir / "coco_instances_results.json")
        if not truth.annotated:
            self._logger.info(f"{truth.source} has no annotations: the predictions are not evaluated")
            return
        own_ids = [{**entry, "image_id": truth.image_ids[entry["image_id"]]} for entry in results]
        images = None if img_ids is None else [truth.image_ids[image_id] for image_id in img_ids]
        if not results:
            self._logger.warning(f"Nothing was predicted on {self._dataset_name}: every figure is NaN")
        for task in self._tasks or self._tasks_from_predictions(results):
            if task not in truth.kinds:
                self._logger.warning(f"{truth.source} has no ground truth for {task}: it is not evaluated")
                continue
            self._eval_task(task, own_ids, images)

    def _eval_task(self, task: str, results: Sequence[Mapping[str, Any]], images: list[int] | None) -> None:
        """Evaluate one task into ``_results`` and ``tables``."""
        truth = self._ground_truth
        ordered = sorted(range(len(truth.class_ids)), key=truth.class_ids.__getitem__)
        names = [truth.class_names[index] for index in ordered]
        ids = [truth.class_ids[index] for index in ordered]
        coco_eval = evaluate_task(
            truth.api,
            results,
            task,
            category_ids=ids,
            image_ids=images,
            max_dets=self._max_dets_per_image,
            sigmas=self._kpt_oks_sigmas,
        )
        figures = self._derive_coco_results(coco_eval, task, class_names=names)
        self._results[task] = figures
        counts = count_instances(truth.api.dataset["annotations"], ids, None if images is None else set(images))
        rows = dict(zip(ordered, class_rows(coco_eval, names, counts), strict=True))
        self.tables[task] = ResultTable(
            task=task,
            dataset=self._dataset_name,
            images=len(truth.image_ids if images is None else images),
            metrics=figures,
            classes=[rows[index] for index in range(len(rows))],
        )
        self._logger.info(f"Evaluation results of {self.tables[task]}")

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
    chosen = (tasks,) if isinstance(tasks, str) else tuple(tasks)
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
    limits = [most] if isinstance(most, int) else list(most)
    if not limits or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in limits):
        raise EvaluationError(f"max_dets_per_image has to be a positive integer or a list of them, not {most!r}")
    if isinstance(most, int):
        limits = [n for n in (1, 10) if n < most] + [most]
    return sorted(limits)
