"""Running a model over a dataset without leaving a trace in it."""

from __future__ import annotations

import datetime
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from drivetrain.runtime.comm import get_world_size
from drivetrain.runtime.seeding import preserve_rng

from .evaluator import DatasetEvaluator, DatasetEvaluators

__all__ = ["inference_context", "inference_on_dataset"]

_WARMUP_BATCHES = 5  # memory is allocated and kernels are chosen in these: they say nothing about the speed
_SECONDS_BETWEEN_LINES = 5.0

_logger = logging.getLogger(__name__)


def inference_on_dataset(
    model: Callable[[Any], Any],
    data_loader: Iterable[Any],
    evaluator: DatasetEvaluator | Sequence[DatasetEvaluator] | None = None,
) -> OrderedDict[str, Any]:
    """Run ``model`` over ``data_loader`` and return what the evaluator makes of it.

    The model is in evaluation mode and records no gradients meanwhile. Afterwards, and also when something raised, the
    training flag of every submodule and the state of every global random number generator are what they were,
    so that a training that is evaluated goes on exactly like one that is not.

    Args:
        model: takes a batch and returns the outputs for it; a ``torch.nn.Module`` or any callable.
        data_loader: gives batches, each a list with one dict per image; with a length, the log tells the time left.
        evaluator: an evaluator, several, or None to run the model for the timing alone.

    Returns:
        The evaluator's results; empty on processes other than the main one, and without an evaluator.
    """
    judge = _as_evaluator(evaluator)
    with ExitStack() as stack:
        stack.enter_context(preserve_rng())
        stack.enter_context(torch.no_grad())
        if isinstance(model, nn.Module):
            stack.enter_context(inference_context(model))
        judge.reset()
        _feed(model, data_loader, judge)
        results = judge.evaluate()
    return OrderedDict(results or {})


@contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into evaluation mode for the block, then restore the training flag of each submodule.

    A model may hold parts that stay in evaluation mode during training (a frozen backbone): they come back as they
    were, which ``model.train()`` would not do. The flags are restored also when the block raises.
    """
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def _as_evaluator(evaluator: DatasetEvaluator | Sequence[DatasetEvaluator] | None) -> DatasetEvaluator:
    """One evaluator, whatever was given."""
    if evaluator is None:
        return DatasetEvaluators([])
    if isinstance(evaluator, Sequence):
        return DatasetEvaluators(evaluator)
    return evaluator


def _feed(model: Callable[[Any], Any], data_loader: Iterable[Any], evaluator: DatasetEvaluator) -> None:
    """Give each batch to the model and the outputs to the evaluator, and log the speed."""
    wait = _device_barrier(model)
    progress = _Progress(_length(data_loader))
    for inputs in data_loader:
        progress.lap("data")
        outputs = model(inputs)
        wait()
        progress.lap("inference")
        evaluator.process(inputs, outputs)
        progress.lap("evaluation")
        progress.finish_batch(len(inputs) if isinstance(inputs, (list, tuple)) else 1)
    progress.finish()


class _Progress:
    """Where the time of a pass goes, and the log lines that tell it."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._warmup = _WARMUP_BATCHES if total is None else min(_WARMUP_BATCHES, max(total - 1, 0))
        self._batches = self._images = self._timed_images = 0
        self._seconds = {"data": 0.0, "inference": 0.0, "evaluation": 0.0}
        self._start = self._last = self._last_line = time.perf_counter()
        self._timed_from = self._start
        amount = "an unknown number of" if total is None else str(total)
        _logger.info(f"Start inference on {amount} batches")

    def lap(self, part: str) -> None:
        """Book the time since the last call under ``part``."""
        now = time.perf_counter()
        self._seconds[part] += now - self._last
        self._last = now

    def finish_batch(self, images: int) -> None:
        """Count a batch; forget the times of the warm-up when it is over; log every few seconds."""
        self._batches += 1
        self._images += images
        self._timed_images += images
        if self._batches == self._warmup:
            self._seconds = dict.fromkeys(self._seconds, 0.0)
            self._timed_images, self._timed_from = 0, self._last
        elif self._last - self._last_line >= _SECONDS_BETWEEN_LINES and self._batches > self._warmup:
            self._last_line = self._last
            _logger.info(f"Inference done {self._done()}. {self._speeds()}{self._time_left()}")

    def finish(self) -> None:
        """Log the total; a pass without a batch is told as a warning."""
        if not self._batches:
            _logger.warning("The data loader gave no batch: there is nothing to evaluate")
            return
        devices = get_world_size()
        share = f" (the share of one of {devices} processes)" if devices > 1 else ""
        total = _clock(time.perf_counter() - self._start)
        _logger.info(f"Inference on {self._images} images took {total}{share}. {self._speeds()}")

    def _done(self) -> str:
        return f"{self._batches}" if self._total is None else f"{self._batches}/{self._total}"

    def _speeds(self) -> str:
        if not self._timed_images:
            return "Too few batches to tell the speed."
        parts = [f"{name} {seconds / self._timed_images:.4f}" for name, seconds in self._seconds.items()]
        whole = (self._last - self._timed_from) / self._timed_images
        return f"Seconds per image: {', '.join(parts)}, total {whole:.4f}."

    def _time_left(self) -> str:
        if self._total is None:
            return ""
        per_batch = (self._last - self._timed_from) / (self._batches - self._warmup)
        return f" ETA {_clock(per_batch * (self._total - self._batches))}"


def _length(data_loader: Iterable[Any]) -> int | None:
    """The number of batches, None where the loader cannot tell."""
    try:
        return len(data_loader)  # type: ignore[arg-type]
    except TypeError:
        return None


def _device_barrier(model: Callable[[Any], Any]) -> Callable[[], None]:
    """A function that waits until the model's accelerator is idle, so that its time is booked where it belongs."""
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    accelerator = torch.accelerator.current_accelerator()
    if parameter is None or accelerator is None or parameter.device.type != accelerator.type:
        return lambda: None
    device = parameter.device
    return lambda: torch.accelerator.synchronize(device)


def _clock(seconds: float) -> str:
    """Seconds as ``H:MM:SS``."""
    return str(datetime.timedelta(seconds=int(max(seconds, 0))))
