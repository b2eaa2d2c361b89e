from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from drivetrain.engine.hooks import agreement as module
from drivetrain.engine.hooks.agreement import Agreement


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
