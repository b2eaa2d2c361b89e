"""Sums and means of losses, clearing of gradients, and the recorder."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from drivetrain.engine.finite import FiniteGuard
from drivetrain.engine.losses import LossRecorder, clear_gradients, mean_losses, sum_losses, world_size
from drivetrain.errors import NonFiniteLossError, TrainingError
from drivetrain.events import EventStorage


def watched(values: list[float]) -> FiniteGuard:
    """A guard, as with several ranks, after a step for each of these losses."""
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    guard = FiniteGuard(distributed=True)
    for iteration, value in enumerate(values):
        optimizer.zero_grad()
        loss = (weight * value).sum()
        torch.autograd.backward(loss, guard.judge(loss, iteration)[0])
        guard.step(optimizer, iteration)
    return guard


def test_recorder_raises_from_what_it_reads() -> None:
    storage = EventStorage()
    recorder = LossRecorder(FiniteGuard(), world_size=1)
    recorder.write(storage, 3, {"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, 0.25)
    assert storage.latest() == {
        "rank_data_time": (0.25, 3),
        "data_time": (0.25, 3),
        "total_loss": (3.0, 3),
        "a": (1.0, 3),
        "b": (2.0, 3),
    }
    with pytest.raises(FloatingPointError, match="iteration 4 .*a=inf"):
        recorder.write(storage, 4, {"a": torch.tensor(math.inf)}, 0.0)
    assert not recorder.pending


def test_a_total_of_the_models_own_is_recorded_as_it_is() -> None:
    storage = EventStorage()
    losses = {"total_loss": torch.tensor(5.0), "a": torch.tensor(1.0)}
    LossRecorder(FiniteGuard(), world_size=1).write(storage, 0, losses, 0.0)
    assert storage.latest()["total_loss"] == (5.0, 0) and storage.latest()["a"] == (1.0, 0)


def test_reading_the_device_names_the_bad_iteration_and_its_losses() -> None:
    values = [1.0, math.nan, 1.0]
    guard, storage = watched(values), EventStorage()
    recorder = LossRecorder(guard, world_size=1)
    for iteration, value in enumerate(values):
        storage.put_scalar("total_loss", value, cur_iter=iteration)
    assert recorder.pending
    stop, bad = recorder.read_device(storage, 2, stop=False)
    assert not stop
    assert bad is not None and (bad.steps, bad.iteration) == (2, 1)  # the third was kept out as well
    assert math.isnan(bad.losses["total_loss"])
    with pytest.raises(NonFiniteLossError, match=r"at iteration 1 \(total_loss=nan\)"):
        guard.refuse(*bad)


def test_reading_the_device_without_bad_steps() -> None:
    recorder = LossRecorder(watched([1.0]), world_size=1)
    assert recorder.read_device(EventStorage(), 0, stop=False) == (False, None)
    assert recorder.read_device(EventStorage(), 0, stop=True) == (True, None)


def test_mean_losses() -> None:
    first = mean_losses({}, {"a": torch.tensor(2.0, requires_grad=True), "b": torch.tensor(4.0)}, 2)
    both = mean_losses(first, {"a": torch.tensor(6.0), "c": torch.tensor(1.0)}, 2)
    assert both == {"a": torch.tensor(4.0), "b": torch.tensor(2.0), "c": torch.tensor(0.5)}
    assert not both["a"].requires_grad


def test_world_size_without_a_group() -> None:
    assert world_size() == 1


def test_sum_losses() -> None:
    assert sum_losses({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, 0) == 3.0
    alone = torch.tensor(1.0)
    assert sum_losses({"a": alone}, 0) is alone
    for losses in ({"a": 1.0}, {}):
        with pytest.raises(TrainingError, match="at iteration 7"):
            sum_losses(losses, 7)  # type: ignore[arg-type]


def test_clearing_gradients_is_zero_grad() -> None:
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    optimizer = torch.optim.SGD([{"params": weights[:1]}, {"params": weights[1:]}], lr=0.1)
    sum(w.sum() for w in weights[:2]).backward()  # type: ignore[union-attr]
    clear_gradients(optimizer)
    assert all(weight.grad is None for weight in weights)


def test_a_zero_grad_of_the_users_own_is_called() -> None:
    calls: list[Any] = []

    class Own(torch.optim.SGD):
        def zero_grad(self, set_to_none: bool = True) -> None:
            calls.append(self)

    weight = torch.nn.Parameter(torch.ones(2))
    own, replaced = Own([weight], lr=0.1), torch.optim.SGD([weight], lr=0.1)
    replaced.zero_grad = lambda set_to_none=True: calls.append(replaced)  # type: ignore[method-assign]
    weight.sum().backward()
    clear_gradients(own)
    clear_gradients(replaced)
    assert calls == [own, replaced] and weight.grad is not None
