from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import torch
import torch.distributed as dist

from drivetrain.engine.hooks import agreement as module
from drivetrain.engine.hooks.agreement import Agreement, Departure


def test_one_process_knows_at_once() -> None:
    agreement = Agreement()
    assert not agreement.reached(False, 0)
    assert agreement.reached(True, 1)
    agreement.close()


@pytest.fixture
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """Another rank that is played here: its clock, and what it sends."""
    world: dict[str, list[float]] = {"clock": [0.0], "other": [0.0, 0.0], "sent": []}
    monkeypatch.setattr(module.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "new_group", lambda backend: "group")
    monkeypatch.setattr(dist, "destroy_process_group", lambda group: None)
    monkeypatch.setattr(module, "perf_counter", lambda: world["clock"][0])

    def all_reduce(message: torch.Tensor, op: object, group: object) -> None:
        assert op == dist.ReduceOp.MAX
        world["sent"].append(float(message[1]))
        message.copy_(torch.maximum(message, torch.tensor(world["other"])))

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    return world


def exchanges(agreement: Agreement, world: dict[str, list[float]], iterations: int, seconds: float) -> list[int]:
    at = []
    for iteration in range(iterations):
        before = len(world["sent"])
        agreement.reached(False, iteration)
        if len(world["sent"]) > before:
            at.append(iteration)
        world["clock"][0] += seconds
    return at


def test_exchanges_are_about_an_interval_apart_at_the_slowest_pace(two_ranks: dict[str, list[float]]) -> None:
    assert exchanges(Agreement(2.0), two_ranks, 40, 0.125) == [1, 17, 33]
    two_ranks["other"], two_ranks["sent"] = [0.0, 0.5], []  # the other rank is slower: both count by its pace
    assert exchanges(Agreement(2.0), two_ranks, 14, 0.125) == [1, 5, 9, 13]
    two_ranks["sent"].clear()
    assert exchanges(Agreement(2.0), two_ranks, 5, 100.0) == [1, 2, 3, 4]


def test_another_ranks_flag_is_learned_at_the_next_exchange(two_ranks: dict[str, list[float]]) -> None:
    agreement = Agreement(2.0)
    answers = []
    for iteration in range(40):
        if iteration == 5:
            two_ranks["other"] = [1.0, 0.0]
        answers.append(agreement.reached(False, iteration))
        two_ranks["clock"][0] += 0.125
    assert answers.index(True) == 17
    agreement.close()


@pytest.fixture
def ranks_are_threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two threads that each take themselves for a rank, with one store; a function that runs one for each."""
    store, local = dist.HashStore(), threading.local()
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)
    monkeypatch.setattr(module.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(module.comm, "get_rank", lambda: local.rank)

    def run(work: Any) -> list[Any]:
        answers: list[Any] = [None, None]

        def one(rank: int) -> None:
            local.rank = rank
            answers[rank] = work(rank)

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return answers

    return run


def test_both_leave_if_both_come(ranks_are_threads: Any) -> None:
    def work(rank: int) -> tuple[bool, bool]:
        departure = Departure(patience=60)
        before = departure.asked
        barrier.wait(30)
        time.sleep(0.2 * rank)
        return before, departure.together()

    barrier = threading.Barrier(2)
    assert ranks_are_threads(work) == [(False, True)] * 2
    assert ranks_are_threads(work) == [(False, True)] * 2  # a second training of the same processes starts anew


def test_both_stay_if_one_comes_late_or_not_at_all(ranks_are_threads: Any) -> None:
    alone = ranks_are_threads(lambda rank: Departure(patience=0.1).together() if rank == 0 else Departure().asked)
    assert alone[0] is False

    def late(rank: int) -> bool:
        departure = Departure(patience=0.1)
        while rank == 1 and not departure._store.check(["verdict"]):
            time.sleep(0.01)
        return departure.together()

    assert ranks_are_threads(late) == [False, False]


def meeting(asked: bool, computing: float = 0.3) -> Any:
    """What rank 0 does that computes figures, with two more parts to go, and what the others do that wait for it."""

    def work(rank: int) -> str:
        departure = Departure(patience=30)
        for number in range(2):
            if rank == 0:
                for _ in range(2):
                    time.sleep(computing)
                    if departure.asked and departure.together():
                        return f"left {number}"
            elif asked and number == 1:
                departure.ask()
            if departure.meet():
                return f"left {number}"
            barrier.wait(30)  # the collective
        return "stayed"

    barrier = threading.Barrier(2)
    return work


def test_ranks_that_wait_for_the_figures_of_another_leave_with_it(ranks_are_threads: Any) -> None:
    assert ranks_are_threads(meeting(asked=True)) == ["left 1"] * 2
    assert ranks_are_threads(meeting(asked=False, computing=0.01)) == ["stayed"] * 2


def test_who_has_finished_its_figures_does_not_leave_and_nor_do_the_others(ranks_are_threads: Any) -> None:
    """Rank 1 was ready to leave; later, when rank 0 is in no such place, that must not count any more."""

    def work(rank: int) -> tuple[bool, bool]:
        departure = Departure(patience=0.2)
        if rank == 1:
            departure.ask()
        while rank == 0 and departure._store.add("ready", 0) < 1:
            time.sleep(0.01)
        met = departure.meet()
        barrier.wait(30)
        return met, departure.together() if rank == 0 else False

    barrier = threading.Barrier(2)
    assert ranks_are_threads(work) == [(False, False), (False, False)]


def test_a_rank_that_does_not_come_to_the_end_is_left_to_the_collective(
    ranks_are_threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONGEST_MEETING", 0.1)
    assert ranks_are_threads(lambda rank: rank == 1 or Departure().meet()) == [False, True]


def test_the_others_hear_of_it(ranks_are_threads: Any) -> None:
    def work(rank: int) -> bool:
        departure = Departure()
        if rank == 0:
            departure.ask()
            return True
        end = time.monotonic() + 30
        while not departure.asked and time.monotonic() < end:
            time.sleep(0.01)
        return departure.asked

    assert ranks_are_threads(work) == [True, True]
