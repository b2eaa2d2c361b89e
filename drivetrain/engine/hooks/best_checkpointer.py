"""Keeping the best model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from drivetrain.checkpoint.background import alarm, wait_for_saves
from drivetrain.checkpoint.periodic import save_beside_training
from drivetrain.engine.hook_base import HookBase

from .results import Metric, Mode
from .schedule import finished, last_iteration

__all__ = ["BestCheckpointer"]

logger = logging.getLogger(__name__)


class BestCheckpointer(HookBase):
    """Saves a checkpoint whenever an evaluation's metric is better than all before; NaN never is.

    It acts on each evaluation's own result, and writes while the training goes on. The best value survives a resume,
    and ``last_checkpoint``, from which a resume starts, is not moved by it.

    Args:
        eval_period: accepted for older code and not used: evaluations themselves say when they happen.
        checkpointer: what saves, a :class:`drivetrain.checkpoint.Checkpointer`.
        val_metric: the metric's flat name, such as ``bbox/AP50``.
        mode: ``"max"`` when larger is better, ``"min"`` when smaller is.
        file_prefix: the checkpoint's name.

    Attributes:
        best_metric: the best value so far; None before the first.
        best_iter: the iteration (from 0) after which it was measured.
    """

    def __init__(
        self,
        eval_period: int,
        checkpointer: Any,
        val_metric: str,
        mode: Mode = "max",
        file_prefix: str = "model_best",
    ) -> None:
        self._period = eval_period
        self._checkpointer = checkpointer
        self._file_prefix = file_prefix
        self._metric = Metric(val_metric, mode)
        self.best_iter: int | None = None

    @property
    def best_metric(self) -> float | None:
        """The best value so far."""
        return self._metric.best

    def after_evaluation(self, results: Mapping[str, float]) -> None:
        """Save if the result is the best one so far."""
        wait_for_saves()  # whether the best one before was saved decides what is better
        before = (self._metric.best, self.best_iter)
        value = self._metric.read(results)
        if value is None or not self._metric.improves(value):
            return
        self.best_iter = max(last_iteration(self.trainer), 0)
        save_beside_training(
            self._checkpointer,
            self._file_prefix,
            partial(self._saved, before),
            role="best",
            iteration=self.best_iter,
            metric={self._metric.name: value},
        )
        if finished(self.trainer):
            wait_for_saves()

    def after_train(self) -> None:
        """Return when nothing is being written any more."""
        wait_for_saves()

    def _saved(self, before: tuple[float | None, int | None], error: Exception | None) -> None:
        """When the save is through; no other begins before this returns."""
        name, value = self._metric.name, self._metric.best
        if error is not None:
            # The next better one is to be saved, even if it is worse than this one.
            self._metric.best, self.best_iter = before
            alarm(f"for the best model so far ({name}={value:.5g})", error)
            return
        known = "" if before[0] is None else f", before {before[0]:.5g} at iteration {before[1]}"
        logger.info("Best model so far saved as %s: %s=%.5g%s", self._file_prefix, name, value, known)

    def state_dict(self) -> dict[str, Any]:
        """The best value and its iteration."""
        return {"metric": self._metric.name, "best": self._metric.best, "iteration": self.best_iter}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the best value, unless it is of another metric."""
        if state["metric"] != self._metric.name:
            logger.warning(
                "The checkpoint has the best %s, but %s is watched now: starting anew",
                state["metric"],
                self._metric.name,
            )
            return
        self._metric.best, self.best_iter = state["best"], state["iteration"]
