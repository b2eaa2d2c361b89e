"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from drivetrain.checkpoint.background import wait_for_copies
from drivetrain.checkpoint.checkpointer import unwrap_model
from drivetrain.checkpoint.compare import compare_state
from drivetrain.engine.hook_base import HookBase
from drivetrain.errors import TrainingError

__all__ = ["EMA"]


class EMA(HookBase):
    """Keeps an average of the weights beside them: ``average = d * average + (1 - d) * weights`` after each step.

    Training itself is not changed. The average starts as a copy of the weights. It covers parameters; buffers
    (BatchNorm statistics) are the model's own. It is part of the hook's state, and so of every checkpoint.

    Args:
        decay: d, from 0 to 1; the nearer to 1, the longer the memory.
        warmup: with t updates made before, use ``min(decay, (1 + t) / (10 + t))``, so that the first, untrained
            weights are forgotten fast (as TensorFlow's ExponentialMovingAverage with ``num_updates``).
        model: the model to average (default: the trainer's, without its wrappers).

    Attributes:
        updates: how many updates were made.
    """

    def __init__(self, decay: float = 0.9998, *, warmup: bool = True, model: torch.nn.Module | None = None) -> None:
        if not 0 <= decay <= 1:
            raise TrainingError(f"decay={decay!r} of EMA has to be between 0 and 1")
        self._decay = decay
        self._warmup = warmup
        self._model = model
        self._source: torch.nn.Module | None = None  # whose parameters are in the lists
        self._names: list[str] = []
        self._weights: list[torch.Tensor] = []
        self._averages: list[torch.Tensor] = []
        self._restored: dict[str, torch.Tensor] = {}
        self._applied = False
        self.updates = 0

    # Averaging

    def before_train(self) -> None:
        """Start the average, unless it was restored; parameters of a model that was changed since are found anew."""
        self._source = None
        self._prepare()

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the average towards the weights."""
        self._prepare()
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates)) if self._warmup else self._decay
        torch._foreach_lerp_(self._averages, self._as_averages(self._weights), 1.0 - decay)
        self.updates += 1

    def _prepare(self) -> None:
        """Line up weights and averages by name; only a new model makes work."""
        source = self.trainer.model if self._model is None else self._model
        if source is self._source:
            return
        known = self._restored or self.average
        self._source, self._restored = source, {}
        named = [(name, p) for name, p in unwrap_model(source).named_parameters() if p.is_floating_point()]
        self._names = [name for name, _ in named]
        self._weights = [p.detach() for _, p in named]  # the same memory, without gradients
        self._averages = [_start(p, known.get(name)) for name, p in named]

    def _as_averages(self, weights: list[torch.Tensor]) -> list[torch.Tensor]:
        """Weights in the averages' types: the average of 16 bit weights is kept in 32 bit."""
        return [w if w.dtype == a.dtype else w.to(a.dtype) for w, a in zip(weights, self._averages, strict=True)]

    # Using the average

    @property
    def average(self) -> dict[str, torch.Tensor]:
        """The averaged parameters by name, not copied."""
        return dict(zip(self._names, self._averages, strict=True))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model has the averaged weights; afterwards its own again, bit for bit."""
        self._prepare()
        if self._applied:
            yield
            return
        wait_for_copies()  # a checkpoint may be copying the weights beside the training
        own = [weight.clone() for weight in self._weights]
        self._applied = True
        try:
            _copy(self._weights, self._averages)
            yield
        finally:
            _copy(self._weights, own)
            self._applied = False

    @staticmethod
    @contextmanager
    def applied_in(hooks: Iterable[HookBase]) -> Iterator[None]:
        """:meth:`applied` of every EMA among ``hooks``; nothing happens where there is none."""
        with ExitStack() as stack:
            for hook in hooks:
                if isinstance(hook, EMA):
                    stack.enter_context(hook.applied())
            yield

    @staticmethod
    def load_average(model: torch.nn.Module, state: Mapping[str, Any]) -> None:
        """Give a model the average in a checkpoint's hook state.

        Raises:
            IncompatibleWeightsError: it is the average of another model.
        """
        parameters = {n: p.detach() for n, p in unwrap_model(model).named_parameters() if p.is_floating_point()}
        average = state["average"]
        compare_state(parameters, average).raise_if_any("the EMA state")
        _copy(list(parameters.values()), [average[name].to(p.device) for name, p in parameters.items()])

    # State

    def state_dict(self) -> dict[str, Any]:
        """The average by parameter name and the number of updates."""
        return {"average": self._restored or self.average, "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the average; parameters that it does not know start from the model's weights."""
        self._restored = dict(state["average"])
        self._source = None
        self.updates = int(state["updates"])


def _start(parameter: torch.nn.Parameter, known: torch.Tensor | None) -> torch.Tensor:
    """The average to go on from: a known one of the same shape, else a copy of the weights."""
    value = parameter.detach() if known is None or known.shape != parameter.shape else known
    dtype = torch.float32 if parameter.dtype in (torch.float16, torch.bfloat16) else parameter.dtype
    return value.to(device=parameter.device, dtype=dtype, copy=True)


@torch.no_grad()
def _copy(targets: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
    if targets:
        torch._foreach_copy_(targets, sources)
