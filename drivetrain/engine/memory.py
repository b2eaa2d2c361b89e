"""A step that runs out of memory: said with what was in it, and made again in smaller parts if that is wanted."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from drivetrain.errors import TrainingError

from .hooks.undisturbed import undisturbed
from .losses import world_size
from .precision import device_of

if TYPE_CHECKING:
    from .train_loop import SimpleTrainer

__all__ = ["StepOutOfMemoryError", "recover", "step_error"]

logger = logging.getLogger(__name__)

Outcome = tuple[dict[str, torch.Tensor], bool]
_FIX = (
    "use smaller batches (SOLVER.IMS_PER_BATCH, with SOLVER.ACCUMULATE to make up for it), smaller images, or "
    "SOLVER.PRECISION bf16"
)
_PHASES = ("forward", "backward", "optimizer step")


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
    message = _describe(trainer, batch, phase)
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
        logger.warning("%s: %s; made again in %d parts", message, _reason(error), min(parts, len(batch)))
        return outcome
    raise StepOutOfMemoryError(
        f"{message}; {_peaks(trainer, batch, phase)}: {_reason(error)}: {_FIX}; SOLVER.OOM_RETRY makes such a batch "
        "again in parts"
    ) from error


def step_error(trainer: SimpleTrainer, batch: Any, error: torch.OutOfMemoryError) -> StepOutOfMemoryError:
    """What to raise for an optimizer step that ran out of memory, as AdamW's first one may, which makes its state.

    Args:
        trainer: whose step it is.
        batch: the iteration's last batch.
        error: what PyTorch raised.
    """
    message = _describe(trainer, batch, "optimizer step")
    traceback.clear_frames(error.__traceback__)
    return StepOutOfMemoryError(f"{message}; {_peaks(trainer, batch, 'optimizer step')}: {_reason(error)}: {_FIX}")


def _phase(error: BaseException) -> str:
    """Where in the step an error was raised: the outermost call that is named after a phase."""
    names = (frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__))
    return next((name for name in names if name in ("forward", "backward")), "forward")


def _in_parts(trainer: SimpleTrainer, parts: Sequence[list[Any]], index: int, finite: bool) -> Outcome:
    images = sum(map(len, parts))
    sums: dict[str, torch.Tensor] = {}
    for number, part in enumerate(parts):
        share = len(part) / images
        last = number + 1 == len(parts) and index + 1 == trainer.accumulate
        losses, finite = trainer.micro_step(part, finite, first=index == 0 and number == 0, last=last, share=share)
        for name, value in losses.items():
            sums[name] = sums.get(name, torch.zeros_like(value.detach())) + value.detach() * share
    return sums, finite


def _split(batch: list[Any], parts: int) -> Iterator[list[Any]]:
    """The batch in so many parts, as equal as can be; in single images if there are fewer."""
    parts = min(parts, len(batch))
    for number in range(parts):
        yield batch[number * len(batch) // parts : (number + 1) * len(batch) // parts]


def _describe(trainer: SimpleTrainer, batch: Any, phase: str) -> str:
    """The first part of a sentence: where it happened, and with what."""
    what = "a batch"
    if isinstance(batch, list) and all(isinstance(item, Mapping) for item in batch):
        shapes = [tuple(item["image"].shape) for item in batch if isinstance(item.get("image"), torch.Tensor)]
        counts = [len(item["instances"]) for item in batch if "instances" in item]
        what = f"a batch of {len(batch)} images of shapes {shapes} with {counts} instances"
    return f"iteration {trainer.iter} ran out of memory in the {phase} of {what}"


def _reason(error: BaseException) -> str:
    """PyTorch's own words, one line of them."""
    return str(error).partition("\n")[0][:200]


def _peaks(trainer: SimpleTrainer, batch: Any, failed: str) -> str:
    """How much memory each phase took at most, and how much is held between steps.

    Steps are not measured; this one ends the training, and its phases are made once more to be.
    """
    device = device_of(trainer.model)
    held = f"parameters, gradients and optimizer state hold {', '.join(map(_gib, _held(trainer)))}"
    if device.type == "cpu":
        return f"peaks by phase are unknown on a CPU, that of the process is {_process_peak()}; {held}"
    try:
        overall = torch.accelerator.max_memory_allocated(device)
        measured = _measured(trainer, batch, device) if _is_repeatable(trainer) else {}
    except Exception as error:  # a second failure, of whatever kind, must not hide the first
        logger.debug("Peaks were not measured: %s", error)
        return f"peaks by phase are unknown; {held}"
    if failed not in measured:
        measured[failed] = overall
    known = {phase: _gib(size) + " (failed)" * (phase == failed) for phase, size in measured.items()}
    reached = _PHASES[: _PHASES.index(failed) + 1]
    peaks = (f"{p} {known.get(p, 'unknown' if p in reached else 'not reached')}" for p in _PHASES)
    return f"peaks: {', '.join(peaks)}; {held}"


def _measured(trainer: SimpleTrainer, batch: Any, device: torch.device) -> dict[str, int]:
    """The peaks (bytes) of forward and backward, made again: of those that the batch gets to.

    Weights, buffers and random generators stay as they are; gradients do not.
    """
    peaks: dict[str, int] = {}
    model: Any = trainer.model
    total: Any = None
    with undisturbed(model, buffers=True), model.no_sync() if hasattr(model, "no_sync") else nullcontext():
        for phase in ("forward", "backward"):
            torch.accelerator.reset_peak_memory_stats(device)
            try:
                if phase == "forward":
                    total = trainer.total_loss(trainer.forward(batch))
                else:
                    trainer.backward(total)
            except torch.OutOfMemoryError:
                break
            finally:
                peaks[phase] = torch.accelerator.max_memory_allocated(device)
    return peaks


def _is_repeatable(trainer: SimpleTrainer) -> bool:
    """Whether this rank can make a step by itself, while others do something else."""
    return world_size() == 1 or isinstance(trainer.model, torch.nn.parallel.DistributedDataParallel)


def _held(trainer: SimpleTrainer) -> tuple[int, int, int]:
    """Bytes of parameters, gradients and optimizer state."""
    parameters = list(trainer.model.parameters())
    states = (value for state in trainer.optimizer.state.values() for value in state.values())
    return (
        sum(p.nbytes for p in parameters),
        sum(p.grad.nbytes for p in parameters if p.grad is not None),
        sum(value.nbytes for value in states if isinstance(value, torch.Tensor)),
    )


def _process_peak() -> str:
    """How much memory this process has had at most."""
    try:
        import resource
    except ImportError:  # Windows
        return "unknown too"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _gib(peak if sys.platform == "darwin" else peak * 1024)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
