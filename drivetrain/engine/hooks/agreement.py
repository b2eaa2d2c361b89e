"""Ending together: all ranks learn at the same iteration, or within an evaluation, that one of them is to stop."""

from __future__ import annotations

from time import monotonic, perf_counter, sleep
from typing import Any

import torch
import torch.distributed as dist

from drivetrain.runtime import comm

__all__ = ["Agreement", "Departure"]

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


class Departure:
    """Leaving an evaluation together, where ranks have nothing to do at the same time that they could agree by.

    They meet through the store of the process group, which needs no counterpart: a rank that is to stop says so;
    each one that hears it waits at its next batch for the others. All leave if all come there. If one does not (its
    batches are over and it waits for the others in a collective), all go on to the end of the evaluation.

    All ranks make it together.

    Args:
        patience: seconds that a rank waits for the others.
    """

    def __init__(self, patience: float = 5.0) -> None:
        c10d: Any = dist.distributed_c10d
        store = c10d._get_default_store()
        number = store.add(f"drivetrain/departures/{comm.get_rank()}", 1)  # the same on all ranks
        self._store: Any = c10d.PrefixStore(f"drivetrain/departure/{number}", store)
        self._patience = patience

    def ask(self) -> None:
        """Say that this rank is to stop."""
        self._store.set("asked", "1")

    @property
    def asked(self) -> bool:
        """Whether any rank is to stop."""
        return bool(self._store.check(["asked"]))

    def together(self) -> bool:
        """Wait for the others; whether all leave. The same on all ranks that come here."""
        self.ask()
        world, end = comm.get_world_size(), monotonic() + self._patience
        self._store.add("ready", 1)
        while not self._store.check(["verdict"]):
            if self._store.add("ready", 0) >= world:
                self._store.compare_set("verdict", "", "leave")  # the first verdict counts
            elif monotonic() >= end:
                self._store.compare_set("verdict", "", "stay")
            else:
                sleep(0.02)
        return bool(self._store.get("verdict") == b"leave")
