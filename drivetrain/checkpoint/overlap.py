"""Copying weights and optimizer state while the training goes on to its next step.

Only the optimizer's step changes them, so their copy can be made beside the next forward and backward pass if that step
waits for it (as in Mohan, Phanishayee and Chidambaram, "CheckFreq: Frequent, Fine-Grained DNN Checkpointing", 2021).
Everything else (buffers, averages, generators, counters) is copied at once.

A training may change its weights elsewhere too, and nobody can be asked to know of this file. So it is relied on only
where it was seen to hold: the first copy is made at once, and at the next step all of the memory is compared with it.
From then on PyTorch's own count of changes is looked at for every copy. A copy that was changed under way is not saved,
with an alarm, and all later ones are made at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from drivetrain.checkpoint.background import wait_for_copies
from drivetrain.checkpoint.snapshot import HostCopies, HostCopy
from drivetrain.errors import CheckpointError

__all__ = ["StepCopies", "check_unchanged", "optimizers_of"]

_logger = logging.getLogger(__name__)
_SMALL = 64 << 10  # bytes of a tensor that is copied at once
_WORTH_IT = 16 << 20  # bytes of all others together: fewer are copied in a few milliseconds


class StepCopies:
    """Copies states of one training to host memory.

    Attributes:
        quiet: whether weights and optimizer state were seen to change in optimizer steps alone; None before the first
            step that could tell.
    """

    def __init__(self) -> None:
        self.quiet: bool | None = None
        self._copies = HostCopies()
        self._open: HostCopy | None = None  # until the step that changes its originals
        self._step_hooks: list[RemovableHandle] = []
        self._load_hook: RemovableHandle | None = None

    def copy(self, state: Any, model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer] = ()) -> HostCopy:
        """A copy of ``state``; what the optimizers alone change may be left for `HostCopy.finish`.

        The optimizers' next step, and loading a state into the model, wait for it. The copy before is overwritten.

        Args:
            state: what `HostCopies.copy` takes.
            model: the model that they train.
            optimizers: those whose ``step`` is known to be called for each change.
        """
        self._conclude()
        later = _memory_of(optimizers) if self.quiet is not False else set()
        copy = self._copies.begin(state, later, at_once=not self.quiet)
        if later:
            self._open = copy
            self._step_hooks = [optimizer.register_step_pre_hook(self._before_step) for optimizer in optimizers]
            self._load_hook = model.register_load_state_dict_pre_hook(_before_load)  # type: ignore[no-untyped-call]
        return copy

    def _before_step(self, *_: Any) -> None:
        """The optimizers' hook: wait for the copy, or see whether its originals are what they were."""
        copy, self._open = self._open, None
        if copy is None:
            return
        self.quiet = copy.wait() if copy.pending else copy.is_current()
        if not self.quiet:
            _logger.info("Weights change outside of optimizer steps: checkpoints are copied while the training waits")
        if self._load_hook is not None:
            self._load_hook.remove()  # a model that is pickled should not bring it along

    def _conclude(self) -> None:
        """Take back what the copy before left; its save is through."""
        if self._open is not None and self._open.pending:
            self.quiet = self._open.wait()
        self._open = None
        for hook in (*self._step_hooks, self._load_hook):  # not before: none can be removed while they are called
            if hook is not None:
                hook.remove()
        self._step_hooks, self._load_hook = [], None


def optimizers_of(objects: Iterable[Any]) -> list[torch.optim.Optimizer]:
    """The optimizers among objects, and those that are their attribute ``optimizer``."""
    candidates = [candidate for obj in objects for candidate in (obj, getattr(obj, "optimizer", None))]
    found = {id(c): c for c in candidates if isinstance(c, torch.optim.Optimizer)}
    return list(found.values())


def check_unchanged(copy: HostCopy) -> None:
    """Check that a copy that was made beside the training is one of a single moment; for the thread that wrote it.

    Raises:
        CheckpointError: something changed its originals meanwhile.
    """
    if copy.pending and not copy.intact():
        raise CheckpointError(
            "weights or optimizer state were changed outside of an optimizer step while they were copied, so the file "
            "would be a mixture: call drivetrain.checkpoint.wait_for_copies() before changing them"
        )


def _memory_of(optimizers: Iterable[torch.optim.Optimizer]) -> set[int]:
    """The memory of parameters and state of optimizers, as `HostCopies.begin` takes it; none where it is too little."""
    tensors = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    states = (state for optimizer in optimizers for state in optimizer.state.values() if isinstance(state, dict))
    tensors += [value for state in states for value in state.values() if isinstance(value, torch.Tensor)]
    sizes = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors if _is_plain(t)}
    memory = {key for key, size in sizes.items() if size >= _SMALL}
    return memory if sum(sizes[key] for key in memory) >= _WORTH_IT else set()


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor lies in memory of its own kind, and its changes are counted."""
    own = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
    return own and tensor.device.type in ("cpu", "cuda") and not tensor.is_inference()


def _before_load(*_: Any) -> None:
    """The model's hook before a state is loaded into it; a function of a module, so that a model can be pickled."""
    wait_for_copies()
