"""Ending a training that gets no better."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from drivetrain.engine.hook_base import HookBase
from drivetrain.errors import TrainingError
from drivetrain.runtime import comm

from .results import Metric, Mode
from .schedule import finished

__all__ = ["EarlyStopping"]

logger = logging.getLogger(__name__)


class EarlyStopping(HookBase):
    """Ends the training after ``patience`` evaluations in a row without a better metric.

    The end is a clean one: final checkpoint, final evaluation and logs are written. With several ranks register it
    on all of them. ``EarlyStopping("validation_loss", 5, mode="min")`` works with the hook ValidationLoss.

    Args:
        metric: the metric's flat name, such as ``bbox/AP``.
        patience: so many evaluations without improvement end the training.
        min_delta: by how much a value has to be better than the best to be an improvement.
        mode: ``"max"`` when larger is better, ``"min"`` when smaller is.
    """

    def __init__(self, metric: str, patience: int, min_delta: float = 0.0, mode: Mode = "max") -> None:
        if patience < 1:
            raise TrainingError(f"patience={patience} of EarlyStopping has to be at least 1 evaluation")
        self._metric = Metric(metric, mode, min_delta)
        self._patience = patience
        self._waited = 0

    def after_evaluation(self, results: Mapping[str, float]) -> None:
        """Count evaluations without improvement; at ``patience`` of them, stop."""
        # Results are known on rank 0 alone, but all ranks have to decide alike.
        value = comm.all_gather(self._metric.read(results))[0]
        if value is None:
            return
        if self._metric.improves(value):
            self._waited = 0
            return
        self._waited += 1
        if self._waited >= self._patience and not finished(self.trainer):
            best = "none" if self._metric.best is None else f"{self._metric.best:.5g}"
            self.trainer.request_stop(
                f"{self._metric.name} has not been better than {best} in {self._waited} evaluations", collective=True
            )

    def state_dict(self) -> dict[str, Any]:
        """The best value, and for how many evaluations it has been the best."""
        return {"metric": self._metric.name, "best": self._metric.best, "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the count, unless it is of another metric."""
        if state["metric"] != self._metric.name:
            logger.warning(
                "The checkpoint counts evaluations of %s, but %s is watched now: starting anew",
                state["metric"],
                self._metric.name,
            )
            return
        self._metric.best, self._waited = state["best"], int(state["waited"])
