"""Ending together: all ranks learn at the same iteration, or within an evaluation, that one of them is to stop."""

from __future__ import annotations

from time import monotonic, perf_counter, sleep
from typing import Any

import torch
import torch.distributed as dist

from drivetrain.runtime import comm

__all__ = ["Agreement", "Departure"]

_MOST_ITERATIONS = 10_000
_LONGEST_PAUSE = 0.1, 2.0  # seconds between two looks at who has come, for up to 16 ranks and for any number
_LONGEST_MEETING = 600.0  # seconds, after which it is left to a collective to wait


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
    each one that hears it waits for the others, at its next batch, at the next part of its figures, or at the end of
    the evaluation, where :meth:`meet` keeps those that have nothing left to do. All leave if all come to one of these
    places. If one does not (it waits for the others in a collective), all go on to the end of the evaluation.

    All ranks make it together, and call :meth:`meet` at the same ends of evaluations.

    Args:
        patience: seconds that a rank waits for the others.
    """

    def __init__(self, patience: float = 5.0) -> None:
        c10d: Any = dist.distributed_c10d
        store = c10d._get_default_store()
        number = store.add(f"drivetrain/departures/{comm.get_rank()}", 1)  # the same on all ranks
        self._store: Any = c10d.PrefixStore(f"drivetrain/departure/{number}", store)
        self._patience = patience
        self._meetings = 0

    def ask(self) -> None:
        """Say that this rank is to stop."""
        self._store.set("asked", "1")

    @property
    def asked(self) -> bool:
        """Whether any rank is to stop."""
        return bool(self._store.check(["asked"]))

    def together(self) -> bool:
        """Wait for the others; whether all leave. The same on all ranks that come here, or to :meth:`meet`."""
        self.ask()
        end = monotonic() + self._patience
        self._store.add("ready", 1)
        while not self._verdict():
            if monotonic() >= end:
                self._stay()
            else:
                sleep(0.02)
        return self._verdict() == "leave"

    def meet(self) -> bool:
        """Wait for the others at the end of an evaluation; whether all leave it instead.

        A collective comes after it, which keeps ranks together from then on. After ten minutes it is left to that to
        wait, and to notice a rank that has died.
        """
        self._meetings += 1
        place, end, pause, ready = f"meeting/{self._meetings}", monotonic() + _LONGEST_MEETING, 0.001, False
        world, (few, many) = comm.get_world_size(), _LONGEST_PAUSE
        longest = min(max(few, few * world / 16), many)  # one process answers them all
        self._store.add(place, 1)
        while self._store.add(place, 0) < world and monotonic() < end:
            if not ready and self.asked:
                self._store.add("ready", 1)
                ready = True
            if ready and self._verdict() == "leave":
                return True
            sleep(pause)
            pause = min(2 * pause, longest)
        if ready:
            self._stay()  # the last one to come was not ready, and now this rank is not either
        return ready and self._verdict() == "leave"

    def _verdict(self) -> str:
        """What was decided: ``"leave"`` as soon as all are ready, ``"stay"``, or nothing yet."""
        if not self._store.check(["verdict"]) and self._store.add("ready", 0) >= comm.get_world_size():
            self._store.compare_set("verdict", "", "leave")  # the first verdict counts
        return self._store.get("verdict").decode() if self._store.check(["verdict"]) else ""

    def _stay(self) -> None:
        self._store.compare_set("verdict", "", "stay")
