"""The guard against losses that are not finite, in its form for devices and ranks, and the recorder."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from drivetrain.engine.losses import FiniteGuard, LossRecorder, mean_losses, sum_losses, world_size
from drivetrain.errors import NonFiniteLossError, TrainingError
from drivetrain.events import EventStorage


def step(guard: FiniteGuard, value: float, iteration: int, weight: torch.nn.Parameter, optimizer: Any) -> None:
    """One step of ``weight * value`` in the way used on devices and with several ranks."""
    optimizer.zero_grad()
    loss = (weight * value).sum()
    torch.autograd.backward(loss, guard.seed(loss, iteration))
    guard.step(optimizer, iteration)


def parts(policy: Any = "raise", **options: Any) -> tuple[FiniteGuard, torch.nn.Parameter, torch.optim.Optimizer]:
    weight = torch.nn.Parameter(torch.ones(3))
    return FiniteGuard(policy, distributed=True, **options), weight, torch.optim.SGD([weight], lr=0.1, momentum=0.9)


def test_which_losses_are_judged_on_the_host() -> None:
    assert FiniteGuard().on_host(torch.tensor(1.0))
    assert not FiniteGuard(distributed=True).on_host(torch.tensor(1.0))
    assert not FiniteGuard().on_host(torch.tensor(1.0, device="meta"))


def test_an_unknown_policy() -> None:
    with pytest.raises(TrainingError, match="'raise' or 'skip'"):
        FiniteGuard("ignore")  # type: ignore[arg-type]


def test_the_seed_is_one_or_nan() -> None:
    guard = FiniteGuard()
    assert guard.seed(torch.tensor(3.0), 0) == 1.0
    assert math.isnan(guard.seed(torch.tensor(math.inf), 1))
    assert guard.seed(torch.tensor(1.0, dtype=torch.bfloat16), 2).dtype == torch.bfloat16


def test_a_nan_loss_with_finite_gradients_is_caught() -> None:
    guard, weight, optimizer = parts()
    step(guard, 1.0, 0, weight, optimizer)
    before = weight.detach().clone()
    optimizer.zero_grad()
    loss = weight.sum() + torch.tensor(math.nan)  # the gradient is one
    torch.autograd.backward(loss, guard.seed(loss, 1))
    guard.step(optimizer, 1)
    assert torch.equal(weight, before)
    assert guard.first_bad_iteration(default=9) == 1
    assert float(guard.verdict() or 0) == 1


def test_an_infinite_gradient_of_a_finite_loss_is_caught() -> None:
    guard, weight, optimizer = parts()
    loss = torch.sqrt(weight - 1).sum()  # 0, with an infinite slope
    torch.autograd.backward(loss, guard.seed(loss, 4))
    guard.step(optimizer, 4)
    assert torch.equal(weight, torch.ones(3))
    assert guard.first_bad_iteration(default=9) == 4
    assert float(guard.verdict() or 0) == 1


def test_with_raise_no_later_step_is_made() -> None:
    guard, weight, optimizer = parts()
    for iteration, value in enumerate([1.0, math.nan, 1.0, 1.0]):
        step(guard, value, iteration, weight, optimizer)
    assert torch.allclose(weight, torch.full((3,), 0.9))
    assert guard.first_bad_iteration(default=9) == 1


def test_with_skip_only_that_step_is_left_out() -> None:
    skipping, weight, optimizer = parts("skip")
    for iteration, value in enumerate([1.0, math.nan, 1.0, 1.0]):
        step(skipping, value, iteration, weight, optimizer)
    clean, expected, other = parts()
    for iteration in range(3):
        step(clean, 1.0, iteration, expected, other)
    assert torch.equal(weight, expected)
    assert float(skipping.verdict() or 0) == 1
    assert float(skipping.verdict() or 0) == 0


def test_found_inf_is_given_to_optimizers_that_take_it() -> None:
    """As fused optimizers do on an accelerator; here one of the CPU stands in for its interface."""
    seen = []

    class Fused:
        _step_supports_amp_scaling = True
        found_inf: torch.Tensor

        def step(self) -> None:
            seen.append(float(self.found_inf))

    optimizer = Fused()
    FiniteGuard._step_on_device(optimizer, torch.tensor(1.0))
    assert seen == [1.0]
    assert not hasattr(optimizer, "found_inf")


def test_the_budget_of_skipped_steps() -> None:
    guard = FiniteGuard("skip", skip_budget=2)
    guard.refuse(2, 5, {"loss": math.nan})
    with pytest.raises(NonFiniteLossError, match=r"3 steps .* at iteration 6 \(loss=nan\), more than the 2"):
        guard.refuse(1, 6, {"loss": math.nan})
    other = FiniteGuard("skip")
    other.load_state_dict(guard.state_dict())
    assert other.skipped == 3


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


def test_reading_the_device_names_the_bad_iteration_and_its_losses() -> None:
    guard, weight, optimizer = parts()
    storage = EventStorage()
    recorder = LossRecorder(guard, world_size=1)
    for iteration, value in enumerate([1.0, math.nan, 1.0]):
        step(guard, value, iteration, weight, optimizer)
        storage.put_scalar("total_loss", value, cur_iter=iteration)
    assert recorder.pending
    with pytest.raises(NonFiniteLossError, match=r"at iteration 1 \(total_loss=nan\)"):
        recorder.read_device(storage, 2, stop=False)


def test_reading_the_device_without_bad_steps() -> None:
    guard, weight, optimizer = parts()
    step(guard, 1.0, 0, weight, optimizer)
    recorder = LossRecorder(guard, world_size=1)
    assert recorder.read_device(EventStorage(), 0, stop=False) is False
    assert recorder.read_device(EventStorage(), 0, stop=True) is True


def test_mean_losses() -> None:
    first = mean_losses({}, {"a": torch.tensor(2.0, requires_grad=True), "b": torch.tensor(4.0)}, 2)
    both = mean_losses(first, {"a": torch.tensor(6.0), "c": torch.tensor(1.0)}, 2)
    assert both == {"a": torch.tensor(4.0), "b": torch.tensor(2.0), "c": torch.tensor(0.5)}
    assert not both["a"].requires_grad


def test_world_size_without_a_group() -> None:
    assert world_size() == 1


def test_sum_losses() -> None:
    assert sum_losses({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, 0) == 3.0
    with pytest.raises(TrainingError, match="at iteration 7"):
        sum_losses({"a": 1.0}, 7)  # type: ignore[dict-item]
