"""Evaluating while training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from drivetrain.engine.hook_base import HookBase
from drivetrain.runtime import comm

from .results import flatten_results
from .schedule import finished, last_iteration
from .undisturbed import undisturbed

__all__ = ["EvalHook"]

logger = logging.getLogger(__name__)


class EvalHook(HookBase):
    """Calls an evaluation function every ``eval_period`` iterations and after training, and publishes its result.

    The result, flattened, is put into the storage at the last finished iteration and given to every hook's
    ``after_evaluation``. Random generators and training flags are left as they were. All ranks have to register it:
    they meet after each evaluation.

    A resumed training first makes up for the evaluation at its checkpoint's iteration if that checkpoint was written
    before it, so that hooks (best model, early stopping, plateau schedule) decide, and writers write, as if there had
    been no interruption.

    Args:
        eval_period: iterations between two evaluations; 0 for one at the end alone.
        eval_function: takes nothing and returns a nested dict of numbers, or None (as on ranks other than 0).
        eval_after_train: whether to evaluate after the last iteration. A training that failed is not evaluated.
    """

    def __init__(
        self, eval_period: int, eval_function: Callable[[], Mapping[str, Any] | None], eval_after_train: bool = True
    ) -> None:
        self._period = eval_period
        self._func = eval_function
        self._eval_after_train = eval_after_train
        self._evaluated: int | None = None  # the iteration after which it was last done
        self._restored = False
        self._published = False

    def before_train(self) -> None:
        """Make up for an evaluation that the checkpoint does not know of."""
        trainer = self.trainer
        last = trainer.start_iter - 1
        missed = self._restored and self._is_due(last) and self._evaluated != last
        self._restored = False
        if not missed:
            return
        logger.info("Evaluating iteration %d, whose evaluation is not in the checkpoint", last)
        start = trainer.iter
        trainer.iter = trainer.storage.iter = last  # so that a hook that ends the training ends it here
        self._evaluate()
        trainer.iter = trainer.storage.iter = start

    def after_step(self) -> None:
        """Evaluate when the period is over, unless ``after_train`` is about to do it."""
        if self._is_due(self.trainer.iter) and self.trainer.iter + 1 < self.trainer.max_iter:
            self._evaluate()

    def after_train(self) -> None:
        """Evaluate if training finished and the last iteration has no evaluation yet."""
        if self._eval_after_train and finished(self.trainer) and self._evaluated != self._iteration():
            self._evaluate()

    def _is_due(self, iteration: int) -> bool:
        return self._period > 0 and (iteration + 1) % self._period == 0

    def _iteration(self) -> int:
        return max(last_iteration(self.trainer), 0)

    def _evaluate(self) -> None:
        """Evaluate by ``_do_eval``; what an override of it returns is published as well."""
        self._published = False
        results = self._do_eval()
        self._evaluated = self._iteration()
        if not self._published:
            self.trainer.after_evaluation(flatten_results(results) if results else {})

    def _do_eval(self) -> dict[str, float]:
        """Call the function, then put and publish its results. Subclasses override it and use what it returns.

        Returns:
            The flat results; empty where the function returned none.

        Raises:
            EvaluationError: the result is no nested dict of numbers.
        """
        trainer = self.trainer
        iteration = self._iteration()
        with undisturbed(getattr(trainer, "model", None)):
            results = self._func()
        flat = flatten_results(results) if results else {}
        for name, value in flat.items():
            trainer.storage.put_scalar(name, value, smoothing_hint=False, cur_iter=iteration)
        comm.synchronize()  # evaluation may take longer on some ranks
        self._evaluated = iteration
        self._published = True
        trainer.after_evaluation(flat)
        return flat

    def state_dict(self) -> dict[str, Any]:
        """The iteration of the last evaluation that was finished."""
        return {"evaluated": self._evaluated}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        self._evaluated = state["evaluated"]
        self._restored = True
