"""Whether a saved optimizer state is one of this optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from drivetrain.errors import CheckpointError

__all__ = ["check_optimizer_state"]

_LIKE_PARAMETER = ("momentum_buffer", "exp_avg", "exp_avg_sq")  # what SGD and the Adams keep in a parameter's shape
_FIX = "resume with the optimizer, layers and frozen layers it was saved with, or start anew from its weights alone"


def check_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Check a state before it is loaded; PyTorch compares no more than how many parameters there are.

    A state of another kind of optimizer would be taken, and its first step fail; so would one of other parameters in
    equal numbers. An optimizer that loads states in a way of its own judges them itself.

    Args:
        optimizer: what is to take the state.
        state: what ``optimizer.state_dict()`` gave in an earlier run.

    Raises:
        CheckpointError: it is of another kind of optimizer, or of other parameters.
    """
    if type(optimizer).load_state_dict is not Optimizer.load_state_dict:
        return
    groups, own_groups = state["param_groups"], optimizer.param_groups
    sizes, own_sizes = ([len(group["params"]) for group in each] for each in (groups, own_groups))
    if sizes != own_sizes:
        raise CheckpointError(
            f"the saved optimizer state is for parameter groups of {_listed(sizes)} parameters, and this optimizer has "
            f"groups of {_listed(own_sizes)}: {_FIX}"
        )
    # Switches, which newer versions of PyTorch add, are True, False or None; numbers are what makes the optimizer.
    needed = [name for name, value in optimizer.defaults.items() if not isinstance(value, (bool, type(None)))]
    if lacking := [name for name in needed if any(name not in group for group in groups)]:
        raise CheckpointError(
            f"the saved optimizer state is not of {type(optimizer).__name__}, since it has no {lacking[0]!r}: {_FIX}"
        )
    for number, parameter in enumerate(p for group in own_groups for p in group["params"]):
        for name, value in state["state"].get(number, {}).items():
            if name in _LIKE_PARAMETER and isinstance(value, Tensor) and value.shape != parameter.shape:
                raise CheckpointError(
                    f"the saved optimizer state is for other parameters: number {number} has shape "
                    f"{list(value.shape)} there and {list(parameter.shape)} here: {_FIX}"
                )


def _listed(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes[:8])) + (f" and {len(sizes) - 8} more" if len(sizes) > 8 else "")
