"""What most evaluators have in common: rows of numbers kept for each image, from all processes, each image once."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from drivetrain.data.catalog import MetadataCatalog
from drivetrain.errors import EvaluationError, OutputError
from drivetrain.runtime import comm

from .coco_annotations import plain_id
from .evaluator import DatasetEvaluator
from .store import MEMORY_LIMIT, PredictionStore, Rows, gather_store
from .tables import ResultTable

__all__ = ["PerImageEvaluator", "as_tensor", "check_classes", "check_images", "known_by", "spread"]

Array = np.ndarray[Any, Any]


def check_images(image_ids: Iterable[int | str], known: Container[int | str], source: str) -> None:
    """EvaluationError for an image that is not in the ground truth, ``source``."""
    for image_id in image_ids:
        if image_id not in known:
            raise EvaluationError(
                f"a prediction is for image {image_id!r}, which is not in the ground truth ({source}): the loader and "
                "the evaluator have to be for one dataset"
            )


def check_classes(image_ids: Sequence[int | str], place: Array, classes: Array, num_classes: int, source: str) -> None:
    """EvaluationError for a class index that the ground truth does not have.

    Args:
        image_ids: images.
        place: for each prediction the place of its image among these, (N,).
        classes: the predicted classes, (N,).
        num_classes: of the ground truth.
        source: where it comes from.
    """
    wrong = (classes < 0) | (classes >= num_classes)
    if wrong.any():
        row = int(wrong.argmax())
        raise EvaluationError(
            f"image {image_ids[place[row]]!r}: class {classes[row]} was predicted, but {source} has {num_classes} "
            f"classes (0 to {num_classes - 1}): the model's number of classes does not fit the dataset"
        )


def as_tensor(value: Any, where: str) -> Tensor:
    """A model's output as a tensor without a graph; EvaluationError for what is none, ``where`` names it."""
    try:
        return torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError):
        raise EvaluationError(f"{where} is {type(value).__name__}, and no tensor can be made of it") from None


def known_by(image: Mapping[str, Any], otherwise: Any = None) -> Any:
    """What a record or an input is known by: its ``image_id``, or else its ``file_name``, as a plain value."""
    key = image.get("image_id", image.get("file_name", otherwise))
    return key.item() if hasattr(key, "item") else key


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most ``most`` of the items, spread evenly from the first to the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, most)]


class PerImageEvaluator(DatasetEvaluator):
    """An evaluator that keeps some rows of numbers for each image, and makes its figures of those of all images.

    A subclass says which rows (``_encode``) and which figures (``_figures``), and names what it reads. The rows stay in
    memory up to a limit and go to disk beyond it. An image that comes twice, as when a sampler pads its shares, counts
    once.

    Attributes:
        tables: task -> :class:`~drivetrain.evaluation.tables.ResultTable` of the last ``evaluate``.
    """

    _input_keys: ClassVar[tuple[str, ...]] = ()
    _output_key: ClassVar[str] = "instances"

    def __init__(
        self,
        dataset_name: str,
        distributed: bool = True,
        output_dir: str | os.PathLike[str] | None = None,
        *,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        """Prepare an evaluation.

        Args:
            dataset_name: a name in the catalog.
            distributed: bring the predictions of all processes together; otherwise each evaluates its own.
            output_dir: a folder for the files that the evaluator writes, and for predictions beyond the limit.
            memory_limit: bytes of predictions that a process keeps in memory.
        """
        super().__init__()
        self._dataset_name = dataset_name
        self._distributed = distributed
        self._output_dir = Path(output_dir) if output_dir else None
        self._memory_limit = memory_limit
        self._metadata = MetadataCatalog.get(dataset_name)
        self._logger = logging.getLogger(type(self).__module__)
        self._store = PredictionStore(memory_limit)
        self.tables: dict[str, ResultTable] = {}

    def check(self) -> None:
        """Make the output folder now, so that what is wrong is said before a training starts.

        Raises:
            OutputError: the output folder cannot be made.
        """
        if self._output_dir is not None:
            try:
                self._output_dir.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"the output folder {self._output_dir} cannot be made: {error.strerror or error}"
                ) from error

    def reset(self) -> None:
        """Forget the predictions; on the main process, :meth:`check`."""
        self._store.close()
        if self._evaluates():
            self.check()
        self._store = self._new_store()

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Take the predictions for a batch.

        Args:
            inputs: one dict per image, which says whose image it is by ``image_id`` (or ``file_name``).
            outputs: one dict of predictions per image.

        Raises:
            EvaluationError: the two do not belong together, or predictions are not what they should be.
        """
        if not isinstance(outputs, Sequence) or not all(isinstance(output, Mapping) for output in outputs):
            raise EvaluationError(
                f"the model returned {_form(outputs)} for a batch of {len(inputs)}: in evaluation it returns a list "
                f"with a dict for each image, here with {self._output_key!r}"
            )
        if len(inputs) != len(outputs):
            raise EvaluationError(
                f"the model returned {len(outputs)} outputs for {len(inputs)} images: one for each is needed"
            )
        for image, output in zip(inputs, outputs, strict=True):
            image_id = self._identify(image, output)
            self._store.append(image_id, self._encode(image_id, image, output))

    def evaluate(self) -> OrderedDict[str, Any]:
        """The results over all processes, on the main one (elsewhere empty)."""
        store = self._gathered()
        if store is None:
            return OrderedDict()
        self.tables = {}
        try:
            results = self._figures(store)
        finally:
            if store is not self._store:
                store.close()
        for table in self.tables.values():
            self._logger.info(f"Evaluation results of {table}")
        return results

    def _encode(self, image_id: int | str, image: Mapping[str, Any], output: Mapping[str, Any]) -> Rows:
        """What is kept of the output for one image."""
        raise NotImplementedError

    def _figures(self, store: PredictionStore) -> OrderedDict[str, Any]:
        """The results over the images in ``store``; fills ``tables``."""
        raise NotImplementedError

    def _evaluates(self) -> bool:
        """Whether this process is one that computes results."""
        return not self._distributed or comm.is_main_process()

    def _new_store(self) -> PredictionStore:
        folder = self._output_dir if self._output_dir is not None and self._output_dir.is_dir() else None
        return PredictionStore(self._memory_limit, folder)

    def _identify(self, image: Mapping[str, Any], output: Mapping[str, Any]) -> int | str:
        """The image's id; EvaluationError where something that is needed is not there."""
        name = "file_name" if "image_id" not in image and "file_name" in image else "image_id"
        needed = tuple(dict.fromkeys((name, *self._input_keys)))
        if self._output_key not in output or any(key not in image for key in needed):
            raise EvaluationError(
                f"{type(self).__name__} needs {' and '.join(map(repr, needed))} in each input and {self._output_key!r} "
                f"in each output, but the input has {', '.join(map(str, image))} and the output "
                f"{', '.join(map(str, output))}"
            )
        return plain_id(image[name], "the model's input")

    def _gathered(self) -> PredictionStore | None:
        """The rows of all processes on the main one; None elsewhere."""
        if not self._distributed or comm.get_world_size() == 1:
            return self._store
        everything = self._new_store()
        gather_store(self._store, everything)
        return everything if self._evaluates() else None

    def _first_of_each(self, store: PredictionStore, expected: Collection[int | str]) -> Array:
        """Which images count, bool (number of images,), after a look at which came twice or not at all."""
        first, repeated = store.first_of_each()
        if repeated:
            self._logger.warning(
                f"{repeated} images of {self._dataset_name} came more than once, as when a sampler pads its "
                "shares; the first predictions for each count"
            )
        seen = set(store.image_ids)
        unseen = [image_id for image_id in expected if image_id not in seen]
        if unseen:
            self._logger.warning(
                f"{len(unseen)} of {len(expected)} images of {self._dataset_name} were not given to the model (such as "
                f"{', '.join(repr(image_id) for image_id in unseen[:3])}){self._unseen_count_as()}"
            )
        return first

    def _unseen_count_as(self) -> str:
        """The end of that sentence."""
        return "; what is on them counts as missed"


def _form(outputs: Any) -> str:
    """What something is, for a message."""
    if isinstance(outputs, Sequence) and not isinstance(outputs, str) and len(outputs):
        wrong = next(output for output in outputs if not isinstance(output, Mapping))
        return f"a {type(outputs).__name__} of {type(wrong).__name__}"
    return type(outputs).__name__
