"""A question that any rank may answer with yes, and that all ranks learn the answer to at the same iteration."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist

from drivetrain.runtime import comm

__all__ = ["Agreement"]

_MOST_ITERATIONS = 10_000


class Agreement:
    """Exchanges a flag about every ``interval`` seconds, at iterations that all ranks know beforehand.

    The ranks' clocks differ, so time alone would not bring them together: with each exchange they learn the slowest
    rank's pace and count from it the iterations until the next. In between, nothing is sent.

    All ranks make it together, and call :meth:`reached` at the same iterations.

    Args:
        interval: seconds between two exchanges.
    """

    def __init__(self, interval: float = 2.0) -> None:
        self._interval = interval
        self._group: Any = None
        self._next: int | None = None
        self._last = (0, 0.0)  # iteration and time of the last exchange
        if comm.get_world_size() > 1 and dist.is_gloo_available():
            self._group = dist.new_group(backend="gloo")  # does not wait for the accelerator

    def reached(self, flag: bool, iteration: int) -> bool:
        """Whether any rank said yes, as far as is known at this iteration; the same on all ranks."""
        if comm.get_world_size() == 1:
            return flag
        if self._next is None:
            self._next, self._last = iteration + 1, (iteration, perf_counter())
        if iteration < self._next:
            return False
        before, start = self._last
        pace = (perf_counter() - start) / (iteration - before)
        message = torch.tensor([float(flag), pace])
        if self._group is None:
            message = message.cuda()
        dist.all_reduce(message, op=dist.ReduceOp.MAX, group=self._group)
        answer, pace = message.tolist()
        steps = int(min(self._interval / max(pace, 1e-9), _MOST_ITERATIONS))
        self._next, self._last = iteration + max(steps, 1), (iteration, perf_counter())
        return bool(answer)

    def close(self) -> None:
        """Free what the exchange holds."""
        if self._group is not None:
            dist.destroy_process_group(self._group)
            self._group = None
