"""A step that runs out of memory: said with what was in it, and made again in smaller parts if that is wanted."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from math import isfinite
from typing import TYPE_CHECKING, Any, cast

import torch

from drivetrain.errors import TrainingError

from .precision import device_of

if TYPE_CHECKING:
    from .train_loop import SimpleTrainer

__all__ = ["StepOutOfMemoryError", "recover"]

logger = logging.getLogger(__name__)

Outcome = tuple[dict[str, torch.Tensor], bool]


class StepOutOfMemoryError(TrainingError, torch.OutOfMemoryError):
    """A step did not fit into the device's memory."""


def recover(trainer: SimpleTrainer, batch: Any, index: int, finite: bool, error: torch.OutOfMemoryError) -> Outcome:
    """Make a batch in 2, 4, 8 ... parts after it ran out of memory; the gradients are those of the whole batch.

    They are equal for losses that are means over images, up to rounding, and where nothing is computed over the images
    of a batch together (batch norm in training mode is). With several ranks each does this by itself: gradients are
    exchanged once, with the last part.

    Args:
        trainer: whose step it is.
        batch: what did not fit.
        index: which of the iteration's batches it is.
        finite: whether all losses of the iteration were finite so far.
        error: what PyTorch raised.

    Returns:
        As :meth:`SimpleTrainer.micro_step`.

    Raises:
        StepOutOfMemoryError: making parts is not wanted (``oom_retry``) or not possible, or one image is too much.
    """
    phase = _phase(error)
    message = _describe(trainer, batch, phase, error)
    traceback.clear_frames(error.__traceback__)  # what the failed forward holds
    exchanges = hasattr(trainer.model, "no_sync")
    # Gradients that backward began to add to those of earlier batches, or to exchange, cannot be taken back.
    possible = isinstance(batch, list) and not (phase == "backward" and (index > 0 or exchanges))
    # Nor can those of the parts that did fit, except by beginning the iteration anew: later batches have one try.
    parts = 2 if index == 0 or not possible else len(batch)
    while trainer.oom_retry and possible and parts < 2 * len(batch):
        if device_of(trainer.model).type == "cuda":
            torch.cuda.empty_cache()
        try:
            outcome = _in_parts(trainer, list(_split(batch, parts)), index, finite)
        except torch.OutOfMemoryError as again:
            possible = index == 0 and not (exchanges and _phase(again) == "backward")
            traceback.clear_frames(again.__traceback__)
            parts *= 2
            continue
        logger.warning("%s; made again in %d parts", message, min(parts, len(batch)))
        return outcome
    raise StepOutOfMemoryError(
        f"{message}: use smaller batches (SOLVER.IMS_PER_BATCH, with SOLVER.ACCUMULATE to make up for it), smaller "
        "images, or SOLVER.PRECISION bf16; SOLVER.OOM_RETRY makes such a batch again in parts"
    ) from error


def _phase(error: BaseException) -> str:
    """Where in the step an error was raised."""
    names = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}
    return "backward" if "backward" in names else "forward"


def _in_parts(trainer: SimpleTrainer, parts: Sequence[list[Any]], index: int, finite: bool) -> Outcome:
    images = sum(map(len, parts))
    if index == 0:
        trainer.optimizer.zero_grad()
    sums: dict[str, torch.Tensor] = {}
    model = cast(Any, trainer.model)
    for number, part in enumerate(parts):
        share = len(part) / images
        last = number + 1 == len(parts) and index + 1 == trainer.accumulate
        with nullcontext() if last or not hasattr(model, "no_sync") else model.no_sync():
            losses = trainer.forward(part)
            total = trainer.total_loss(losses) * share
            if not trainer._guard.on_host(total):
                trainer.backward(total, trainer._guard.seed(total, trainer.iter))
            elif finite := finite and isfinite(total.item()):
                trainer.backward(total)
        for name, value in losses.items():
            sums[name] = sums.get(name, torch.zeros_like(value.detach())) + value.detach() * share
    return sums, finite


def _split(batch: list[Any], parts: int) -> Iterator[list[Any]]:
    """The batch in so many parts, as equal as can be; in single images if there are fewer."""
    parts = min(parts, len(batch))
    for number in range(parts):
        yield batch[number * len(batch) // parts : (number + 1) * len(batch) // parts]


def _describe(trainer: SimpleTrainer, batch: Any, phase: str, error: BaseException) -> str:
    """One sentence without its end: where it happened, with what, and how much was in use."""
    what = "a batch"
    if isinstance(batch, list) and all(isinstance(item, Mapping) for item in batch):
        shapes = [tuple(item["image"].shape) for item in batch if isinstance(item.get("image"), torch.Tensor)]
        counts = [len(item["instances"]) for item in batch if "instances" in item]
        what = f"a batch of {len(batch)} images of shapes {shapes} with {counts} instances"
    used = ""
    device = device_of(trainer.model)
    if device.type == "cuda":
        peak, now = torch.cuda.max_memory_allocated(device), torch.cuda.memory_allocated(device)
        used = f" (allocated {now / 2**30:.2f} GiB, at most {peak / 2**30:.2f} GiB)"
    reason = str(error).partition("\n")[0][:200]
    return f"iteration {trainer.iter} ran out of memory in the {phase} of {what}{used}: {reason}"
