"""Evaluating while training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from drivetrain.runtime import comm

from .publishing import PublishingHook
from .results import flatten_results
from .schedule import finished, last_iteration
from .undisturbed import undisturbed

__all__ = ["EvalHook"]


class EvalHook(PublishingHook):
    """Calls an evaluation function every ``eval_period`` iterations and after training, and publishes its result.

    The result, flattened, is put into the storage at the last finished iteration and given to every hook's
    ``after_evaluation``. Random generators and training flags are left as they were. All ranks have to register it:
    they meet after each evaluation.

    A resumed training first makes up for the evaluation at its checkpoint's iteration if that checkpoint was written
    before it, so that hooks (best model, early stopping, plateau schedule) decide, and writers write, as if there had
    been no interruption. If it was through before the training ended, its results are taken from then (see
    :class:`~drivetrain.engine.hooks.publishing.PublishingHook`); so are those of the last evaluation of a training
    that is made longer.

    Args:
        eval_period: iterations between two evaluations; 0 for one at the end alone.
        eval_function: takes nothing and returns a nested dict of numbers, or None (as on ranks other than 0).
        eval_after_train: whether to evaluate after the last iteration. A training that failed is not evaluated.
    """

    _key = "evaluated"
    meet: Callable[[], None] | None = None  # waits for other ranks, and may leave the evaluation with them

    def __init__(
        self, eval_period: int, eval_function: Callable[[], Mapping[str, Any] | None], eval_after_train: bool = True
    ) -> None:
        super().__init__(max(eval_period, 0))  # older code gives a negative one to have none
        self._func = eval_function
        self._eval_after_train = eval_after_train
        self._published = False

    def after_train(self) -> None:
        """Evaluate if training finished and the last iteration has no evaluation yet."""
        if self._eval_after_train and finished(self.trainer) and self._done != self._iteration():
            self._act(self._iteration())

    def _is_due(self, iteration: int) -> bool:
        """The evaluation after the last iteration is that of ``after_train``."""
        return self._ends_period(iteration) and iteration + 1 < self.trainer.max_iter

    def _iteration(self) -> int:
        return max(last_iteration(self.trainer), 0)

    def act(self, iteration: int) -> None:
        """Evaluate by ``_do_eval``; what an override of it returns is published as well."""
        self._published = False
        results = self._do_eval()
        self._done = iteration
        if not self._published:
            self.trainer.after_evaluation(flatten_results(results) if results else {})

    def _do_eval(self) -> dict[str, float]:
        """Call the function, then put and publish its results. Subclasses override it and use what it returns.

        Returns:
            The flat results; empty where the function returned none.

        Raises:
            EvaluationError: the result is no nested dict of numbers.
        """
        iteration = self._iteration()
        with undisturbed(getattr(self.trainer, "model", None)):
            results = self._func()
        flat = flatten_results(results) if results else {}
        self._put(iteration, flat)
        if self.meet is not None:
            self.meet()
        comm.synchronize()  # evaluation may take longer on some ranks
        self._published = True
        self.publish(iteration, flat)
        return flat
