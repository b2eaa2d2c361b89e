"""What measures a model: the contract of an evaluator, and several of them as one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from drivetrain.errors import EvaluationError

__all__ = ["DatasetEvaluator", "DatasetEvaluators"]


class DatasetEvaluator:
    """Turns the outputs of a model on a dataset into figures.

    ::

        evaluator.reset()
        for inputs in loader:
            evaluator.process(inputs, model(inputs))
        results = evaluator.evaluate()

    One object serves any number of such passes. With several processes each sees its share of the images, and
    ``evaluate`` brings the shares together.
    """

    def reset(self) -> None:
        """Forget what was processed; called before each pass."""

    def process(self, inputs: Any, outputs: Any) -> None:
        """Take one batch.

        Args:
            inputs: what the model was given: a list with one dict per image.
            outputs: what the model returned: a list with one dict per image, in the same order.
        """

    def evaluate(self) -> Mapping[str, Any] | None:
        """The results of the pass, on the main process; called by every process.

        Returns:
            A mapping from a task's name to its figures, as ``{"bbox": {"AP": 41.2}}``; None or an empty mapping
            from a process that has nothing to say.
        """
        return None


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators that see the same outputs; their results are merged into one mapping."""

    def __init__(self, evaluators: Iterable[DatasetEvaluator]) -> None:
        """Hold ``evaluators``; they are called in this order."""
        super().__init__()
        self._evaluators = list(evaluators)

    def check(self) -> None:
        """Have each evaluator that can say before a training starts what is wrong with its ground truth."""
        for evaluator in self._evaluators:
            if callable(check := getattr(evaluator, "check", None)):
                check()

    def reset(self) -> None:
        """Reset each evaluator."""
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: Any, outputs: Any) -> None:
        """Give the batch to each evaluator."""
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> OrderedDict[str, Any]:
        """The results of all evaluators, in their order.

        Raises:
            EvaluationError: two evaluators gave results under one name.
        """
        merged: OrderedDict[str, Any] = OrderedDict()
        owner: dict[str, str] = {}
        for evaluator in self._evaluators:
            name = type(evaluator).__name__
            for key, value in (evaluator.evaluate() or {}).items():
                if key in merged:
                    raise EvaluationError(
                        f"two evaluators, {owner[key]} and {name}, both give results named {key!r}: "
                        "evaluate them one after the other, or have one of them use another name"
                    )
                merged[key] = value
                owner[key] = name
        return merged
