"""The guard against losses that are not finite, in its form for devices and ranks, and the recorder."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from drivetrain.engine.losses import (
    FiniteGuard,
    LossRecorder,
    Rewind,
    _clip_and_step,
    mean_losses,
    sum_losses,
    world_size,
)
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
    with pytest.raises(TrainingError, match="'raise', 'skip' or 'rewind'"):
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
    clipped: list[Any] = []
    _clip_and_step(optimizer, clipped.append, torch.tensor(1.0))
    assert seen == [1.0]
    assert clipped == [optimizer]
    assert not hasattr(optimizer, "found_inf")


def test_the_budget_of_skipped_steps() -> None:
    guard = FiniteGuard("skip", budget=2)
    guard.refuse(2, 5, {"loss": math.nan})
    with pytest.raises(NonFiniteLossError, match=r"3 steps .* at iteration 6 \(loss=nan\), more than the 2"):
        guard.refuse(1, 6, {"loss": math.nan})
    other = FiniteGuard("skip")
    other.load_state_dict(guard.state_dict())
    assert other.skipped == 3


def test_on_the_host_a_bad_gradient_leaves_the_step_out() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    guard, clipped = FiniteGuard(), []
    torch.sqrt(weight - 1).sum().backward()  # a loss of 0 with an infinite slope
    assert guard.step(optimizer, 0, clipped.append) is False
    assert torch.equal(weight, torch.ones(3)) and not optimizer.state and not clipped
    optimizer.zero_grad()
    weight.sum().backward()
    assert guard.step(optimizer, 1, clipped.append) is True
    assert torch.equal(weight, torch.full((3,), 0.9)) and clipped == [optimizer]


@pytest.mark.parametrize("distributed", [False, True])
def test_a_skipped_step_leaves_no_trace_in_buffers(distributed: bool) -> None:
    """Running statistics that became NaN would stay so."""
    torch.manual_seed(0)
    model = torch.nn.BatchNorm1d(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guard = FiniteGuard("skip", distributed=distributed)
    for iteration, scale in enumerate([1.0, math.nan, 2.0]):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        guard.begin(iteration, None, model)
        optimizer.zero_grad()
        loss = model(torch.randn(4, 2) * scale).sum()
        if guard.on_host(loss):
            if math.isnan(loss.item()):
                guard.put_back_buffers()
                continue
            loss.backward()
        else:
            torch.autograd.backward(loss, guard.seed(loss, iteration))
        guard.step(optimizer, iteration)
        if math.isnan(scale):
            assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert int(model.num_batches_tracked) == 2
    assert torch.isfinite(model.running_var).all()


def test_what_a_step_began_with_is_remembered_for_a_while() -> None:
    class Loader:
        position = 7

    guard, model = FiniteGuard(memory=2), torch.nn.Linear(1, 1)
    state = torch.get_rng_state()
    for iteration in range(3):
        guard.begin(iteration, Loader() if iteration else [], model)
    assert guard.start_of(0) is None
    start = guard.start_of(2)
    assert start is not None and start.position == 7 and torch.equal(start.rng, state)


def test_going_back_is_asked_for_by_an_exception_that_is_no_error() -> None:
    with pytest.raises(Rewind) as caught:
        FiniteGuard("rewind").refuse(1, 3, {"loss": math.nan})
    assert not isinstance(caught.value, Exception)
    assert "iteration 3 (loss=nan)" in str(caught.value.error)


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
    stop, bad = recorder.read_device(storage, 2, stop=False)
    assert not stop
    assert bad is not None and (bad.steps, bad.iteration) == (2, 1)  # the third was kept out as well
    assert math.isnan(bad.losses["total_loss"])
    with pytest.raises(NonFiniteLossError, match=r"at iteration 1 \(total_loss=nan\)"):
        guard.refuse(*bad)


def test_reading_the_device_without_bad_steps() -> None:
    guard, weight, optimizer = parts()
    step(guard, 1.0, 0, weight, optimizer)
    recorder = LossRecorder(guard, world_size=1)
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
    with pytest.raises(TrainingError, match="at iteration 7"):
        sum_losses({"a": 1.0}, 7)  # type: ignore[dict-item]
