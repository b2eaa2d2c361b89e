"""The guard against losses and gradients that are not finite, in its form for devices and ranks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from drivetrain.engine.finite import FiniteGuard, NonFiniteCheck, Rewind, _clip_and_step
from drivetrain.errors import NonFiniteLossError, TrainingError


def step(guard: FiniteGuard, value: float, iteration: int, weight: torch.nn.Parameter, optimizer: Any) -> None:
    """One step of ``weight * value`` in the way used on devices and with several ranks."""
    optimizer.zero_grad()
    loss = (weight * value).sum()
    torch.autograd.backward(loss, guard.seed(loss, iteration))
    guard.step(optimizer, iteration)


def parts(policy: Any = "raise", **options: Any) -> tuple[FiniteGuard, torch.nn.Parameter, torch.optim.Optimizer]:
    weight = torch.nn.Parameter(torch.ones(3))
    return FiniteGuard(policy, distributed=True, **options), weight, torch.optim.SGD([weight], lr=0.1, momentum=0.9)


def test_judging_a_loss() -> None:
    assert FiniteGuard().judge(torch.tensor(2.0), 0) == (None, True)
    assert FiniteGuard().judge(torch.tensor(math.inf), 0) == (None, False)
    seed, known = FiniteGuard(distributed=True).judge(torch.tensor(math.inf), 0)
    assert seed is not None and math.isnan(seed) and known, "learned of later"
    seed, known = FiniteGuard().judge(torch.tensor(1.0, device="meta"), 0)
    assert seed is not None and seed.is_meta and known, "never read from a device"


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
        guard.keep_buffers(model)
        optimizer.zero_grad()
        loss = model(torch.randn(4, 2) * scale).sum()
        seed, known = guard.judge(loss, iteration)
        if not known:
            guard.put_back_buffers()
            continue
        torch.autograd.backward(loss, seed)
        guard.step(optimizer, iteration)
        if math.isnan(scale):
            assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert int(model.num_batches_tracked) == 2
    assert torch.isfinite(model.running_var).all()


def test_what_a_step_began_with_is_remembered_for_a_while() -> None:
    class Loader:
        position = 7

    states = []
    guard, alone = FiniteGuard(memory=2, distributed=True), FiniteGuard(memory=2)
    for iteration in range(3):
        states.append(torch.get_rng_state())
        guard.remember(iteration, Loader() if iteration else [])
        alone.remember(iteration, Loader())
        torch.rand(())
    assert guard.start_of(0) is None
    for iteration in (1, 2):
        start = guard.start_of(iteration)
        assert start is not None
        assert start.position == 7 and torch.equal(start.rng, states[iteration])
    # Where each step is judged before the next, its own start is enough.
    last = alone.start_of(2)
    assert alone.start_of(1) is None and last is not None
    assert torch.equal(last.rng, states[2]) and FiniteGuard().start_of(0) is None


def test_going_back_is_asked_for_by_an_exception_that_is_no_error() -> None:
    with pytest.raises(Rewind) as caught:
        FiniteGuard("rewind").refuse(1, 3, {"loss": math.nan})
    assert not isinstance(caught.value, Exception)
    assert "iteration 3 (loss=nan)" in str(caught.value.error)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bad", [None, float("inf"), -float("inf"), float("nan")])
def test_gradients_that_are_not_finite_are_found_and_others_left_alone(dtype: torch.dtype, bad: float | None) -> None:
    check = NonFiniteCheck()
    grads = [torch.randn(3, 2).to(dtype), torch.randn(5)]
    if bad is not None:
        grads[0][1, 1] = bad
    before = [grad.clone() for grad in grads]
    for _ in range(2):  # what one call found is not there in the next
        found = check(grads)
        assert found is not None and bool(found > 0) == (bad is not None)
        assert all(torch.equal(a, b) or bad is not None for a, b in zip(grads, before, strict=True))
        grads, before, bad = [torch.ones(2)], [torch.ones(2)], None
    assert check([]) is None and not check.now([])


def test_reading_at_once_and_later_in_turn() -> None:
    check = NonFiniteCheck()
    good, bad = [torch.ones(2)], [torch.tensor([1.0, math.nan])]
    assert [check.now(grads) for grads in (good, bad, good, bad, bad, good)] == [False, True, False, True, True, False]
    assert [float(check(grads) or 0) for grads in (good, bad, good)] == [0.0, 1.0, 0.0]
    assert not check.now(good)


@pytest.mark.parametrize("bad", [False, True])
def test_sparse_gradients_are_looked_at_too(bad: bool) -> None:
    table = torch.nn.Embedding(4, 2, sparse=True)
    (table(torch.tensor([1, 1])).sum() * (float("inf") if bad else 1.0)).backward()
    check, grads = NonFiniteCheck(), [torch.ones(1), table.weight.grad]
    found = check(grads)
    assert found is not None and bool(found > 0) == bad
    assert check.now(grads) == bad
