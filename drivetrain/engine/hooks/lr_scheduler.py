"""Stepping the learning rate schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from drivetrain.engine.hook_base import HookBase
from drivetrain.errors import TrainingError
from drivetrain.runtime import comm

from .results import Metric

__all__ = ["LRScheduler"]


class LRScheduler(HookBase):
    """Puts the learning rate of each step as ``lr``, unsmoothed, then steps the schedule.

    With several ranks register it on all of them.

    Args:
        optimizer: default: the trainer's.
        scheduler: a torch scheduler, stepped after every iteration (default: the trainer's); or a function from
            progress in [0, 1) to the factor on the base learning rates; or a ``ReduceLROnPlateau``, which is fed by
            evaluations instead.
        metric: what feeds ``ReduceLROnPlateau``: a flat name such as ``bbox/AP50``. By default ``validation_loss``
            for ``mode="min"``, and for ``mode="max"`` the first of the results named ``bbox/AP``, ``.../bbox/AP``,
            or ``.../AP``.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer | None = None, scheduler: Any = None, *, metric: str | None = None
    ) -> None:
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._metric_name = metric
        self._metric: Metric | None = None
        self._step: Callable[[], object] | None = None
        self._group = 0  # the one whose rate is shown

    @property
    def scheduler(self) -> Any:
        """The scheduler in use."""
        return self.trainer.scheduler if self._scheduler is None else self._scheduler

    def before_train(self) -> None:
        """Find out what has to be stepped, and which group's rate to show."""
        self._optimizer = self.trainer.optimizer if self._optimizer is None else self._optimizer
        self._group = self.get_best_param_group_id(self._optimizer)
        scheduler = self.scheduler
        if isinstance(scheduler, ReduceLROnPlateau):
            # WarmupReduceLROnPlateau has a part that counts iterations; PyTorch's own has not.
            self._step = getattr(scheduler, "step_iteration", None)
            self.after_evaluation = self._feed_plateau  # type: ignore[method-assign]  # others need no evaluations
            self.trainer._hooks.refresh()
        elif callable(getattr(scheduler, "step", None)):
            self._step = scheduler.step
        elif callable(scheduler):
            for group in self._optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
            self._set_rates(self.trainer.iter)
            self._step = lambda: self._set_rates(self.trainer.iter + 1)
        else:
            raise TrainingError(
                f"{scheduler!r} is no learning rate schedule: give a torch scheduler, or a function from progress in "
                "[0, 1) to a factor"
            )

    def after_step(self) -> None:
        """Put the rate that the step was made with, then step the schedule."""
        groups = self._optimizer.param_groups  # type: ignore[union-attr]  # set in before_train
        self.trainer.storage.put_scalar("lr", groups[self._group]["lr"], smoothing_hint=False)
        if self._step is not None:
            self._step()

    @staticmethod
    def get_best_param_group_id(optimizer: torch.optim.Optimizer) -> int:
        """The group whose rate is shown: the one with most parameters, or, with one each, of the commonest rate."""
        sizes = [len(group["params"]) for group in optimizer.param_groups]
        if max(sizes) > 1:
            return sizes.index(max(sizes))
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        return rates.index(Counter(rates).most_common(1)[0][0])

    def state_dict(self) -> dict[str, Any]:
        """The scheduler's state; a function of progress has none."""
        scheduler = self.scheduler
        return dict(scheduler.state_dict()) if hasattr(scheduler, "state_dict") else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give the scheduler its state."""
        if hasattr(self.scheduler, "load_state_dict"):
            self.scheduler.load_state_dict(dict(state))

    def _set_rates(self, iteration: int) -> None:
        """The rates of ``iteration``, by a function of progress."""
        length = max(self.trainer.max_iter, 1)
        progress = min(iteration, length - 1) / length
        factor = float(self.scheduler(progress))
        for group in self._optimizer.param_groups if self._optimizer else ():
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(float(group["initial_lr"]) * factor)
            else:
                group["lr"] = group["initial_lr"] * factor

    def _feed_plateau(self, results: Mapping[str, float]) -> None:
        """Step ReduceLROnPlateau by the metric, on all ranks by the value that rank 0 knows."""
        if self._metric is None and results:
            name = self._metric_name or _default_metric(self.scheduler.mode, results)
            self._metric = Metric(name) if name else None
        value = comm.all_gather(None if self._metric is None else self._metric.read(results))[0]
        if value is not None:
            self.scheduler.step(value)


def _default_metric(mode: str, results: Mapping[str, float]) -> str | None:
    """The metric to watch when none is named; None when these results have none of the usual ones."""
    if mode == "min":
        return "validation_loss"
    for suffix in ("bbox/AP", "/AP"):
        for name in results:
            if name == suffix or name.endswith(suffix if suffix[0] == "/" else f"/{suffix}"):
                return name
    if all(name.startswith("validation") for name in results):
        return None
    raise TrainingError(
        f"ReduceLROnPlateau does not know which of the results to watch ({', '.join(sorted(results)[:20])}): "
        "name one, LRScheduler(metric=...)"
    )
