"""Steps that run out of memory."""

from __future__ import annotations

import logging
import re
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.engine.hooks import CallbackHook
from drivetrain.engine.memory import StepOutOfMemoryError, _split, step_error
from drivetrain.engine.train_loop import SimpleTrainer
from drivetrain.errors import TrainingError
from drivetrain.testing import TinyLoader, TinyModel


class Limited(TinyModel):
    """Holds so many images at once; nothing in it is computed over the batch together."""

    def __init__(self, limit: int, where: str = "forward") -> None:
        super().__init__(dropout=0.0)
        self.limit, self.where = limit, where
        self.norm = torch.nn.Identity()
        self.sizes: list[int] = []

    def forward(self, batch: Any) -> Any:
        self.sizes.append(len(batch))
        losses = super().forward(batch)
        if len(batch) > self.limit:
            if self.where == "forward":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nSee documentation")
            losses["loss_box"].register_hook(self.fail)
        return losses

    def fail(self, gradient: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def trainer(limit: int, where: str = "forward", **options: Any) -> Any:
    torch.manual_seed(0)
    model = Limited(limit, where)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9)
    return SimpleTrainer(model, TinyLoader(batch_size=6), optimizer, **options)


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_the_error_says_what_was_in_the_step(where: str) -> None:
    broken = trainer(4, where)
    before = {name: value.clone() for name, value in broken.model.state_dict().items()}
    with pytest.raises(StepOutOfMemoryError) as caught:
        broken.train(0, 2)
    text = str(caught.value)
    assert f"iteration 0 ran out of memory in the {where} of a batch of 6 images of shapes [(3, 24, 32), " in text
    assert "with [1, 1, 1, 1, 1, 1] instances" in text and "Tried to allocate 20.00 GiB" in text
    assert "SOLVER.OOM_RETRY" in text and "\n" not in text
    assert isinstance(caught.value, TrainingError) and isinstance(caught.value, torch.OutOfMemoryError)
    assert all(torch.equal(value, before[name]) for name, value in broken.model.state_dict().items())


def test_on_a_cpu_peaks_by_phase_are_said_to_be_unknown() -> None:
    with pytest.raises(StepOutOfMemoryError) as caught:
        trainer(4).train(0, 2)
    found = re.search(r"peaks by phase are unknown on a CPU, that of the process is (\d+\.\d\d) GiB", str(caught.value))
    assert found and 0.1 < float(found[1]) < 100


def test_what_a_failed_forward_held_is_free_when_the_parts_are_made() -> None:
    class Holds(Limited):
        def __init__(self) -> None:
            super().__init__(2)
            self.held: list[Any] = []
            self.alive: list[int] = []

        def forward(self, batch: Any) -> Any:
            activations = torch.ones(3)
            self.alive.append(sum(reference() is not None for reference in self.held))
            self.held.append(weakref.ref(activations))
            return super().forward(batch)

    holding = trainer(2, oom_retry=True)
    holding.model = Holds()
    holding.optimizer = torch.optim.SGD(holding.model.parameters(), 0.05)
    holding.train(0, 1)
    assert holding.model.sizes[:2] == [6, 3] and len(holding.model.sizes) > 3
    assert set(holding.model.alive) == {0}


GIB = 2**30


class Device:
    """What an accelerator tells of its memory; the model says what it takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.peak = 0
        self.resets = 0
        monkeypatch.setattr("drivetrain.engine.memory.device_of", lambda model: torch.device("cuda"))
        monkeypatch.setattr("torch.accelerator.max_memory_allocated", lambda device: self.peak)
        monkeypatch.setattr("torch.accelerator.reset_peak_memory_stats", self.reset)

    def reset(self, device: torch.device) -> None:
        self.peak = 0
        self.resets += 1

    def take(self, size: float) -> None:
        self.peak = max(self.peak, int(size * GIB))


class Measured(Limited):
    """Takes a GiB per image in the forward, two in the backward."""

    device: Device

    def forward(self, batch: Any) -> Any:
        self.device.take(len(batch))
        torch.rand(1)
        losses = super().forward(batch)
        for loss in losses.values():
            loss.register_hook(lambda gradient: self.device.take(2 * len(batch)))
        return losses

    def fail(self, gradient: Any) -> Any:
        self.device.take(12)
        return super().fail(gradient)


def measured(where: str, device: Device) -> Any:
    made = trainer(4 if where != "optimizer step" else 6, where)
    made.model.__class__ = Measured
    made.model.device = device
    return made


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("forward", "peaks: forward 6.00 GiB (failed), backward not reached, optimizer step not reached; "),
        ("backward", "peaks: forward 6.00 GiB, backward 12.00 GiB (failed), optimizer step not reached; "),
    ],
)
def test_peaks_by_phase_where_the_device_tells_them(where: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    made = measured(where, device)
    state, rng = {k: v.clone() for k, v in made.model.state_dict().items()}, []
    made.register_hooks([CallbackHook(after_train=lambda t: rng.append(torch.rand(1)))])
    with pytest.raises(StepOutOfMemoryError) as caught:
        made.train(0, 2)
    text = str(caught.value)
    assert expected in text, text
    size = sum(p.nbytes for p in made.model.parameters())
    assert f"parameters, gradients and optimizer state hold {size / GIB:.2f} GiB, " in text
    assert all(torch.equal(value, state[name]) for name, value in made.model.state_dict().items())
    torch.manual_seed(0)
    trainer(6)
    torch.rand(1)  # of the one forward that the training made; its repetition drew nothing
    assert torch.equal(rng[0], torch.rand(1))


def test_steps_that_fit_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    made = measured("forward", device)
    made.model.limit = 6
    made.train(0, 3)
    assert device.resets == 0


def test_an_optimizer_step_that_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    made = measured("optimizer step", device)
    made.train(0, 1)
    device.take(20)
    error = step_error(made, TinyLoader(batch_size=6).batch(0), torch.OutOfMemoryError("Tried to allocate 8.00 GiB."))
    text = str(error)
    assert "iteration 1 ran out of memory in the optimizer step of a batch of 6 images" in text
    assert "peaks: forward 6.00 GiB, backward 12.00 GiB, optimizer step 20.00 GiB (failed); " in text
    assert "Tried to allocate 8.00 GiB" in text and "OOM_RETRY" not in text  # which would not help
    assert isinstance(error, torch.OutOfMemoryError)


def test_a_training_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = measured("optimizer step", Device(monkeypatch))

    def out_of_memory(*args: Any) -> bool:
        raise torch.OutOfMemoryError("Tried to allocate 8.00 GiB.")

    monkeypatch.setattr(made, "step", out_of_memory)
    with pytest.raises(StepOutOfMemoryError, match="ran out of memory in the optimizer step of a batch of 6 images"):
        made.train(0, 1)


def test_what_goes_wrong_while_measuring_does_not_hide_what_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device: torch.device) -> int:
        raise RuntimeError("device lost")

    made = measured("forward", Device(monkeypatch))
    monkeypatch.setattr("torch.accelerator.max_memory_allocated", broken)
    with pytest.raises(StepOutOfMemoryError, match=r"peaks by phase are unknown; .* Tried to allocate 20\.00 GiB"):
        made.train(0, 1)


def test_among_several_ranks_only_what_can_be_repeated_alone_is(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    made = measured("forward", device)
    monkeypatch.setattr("drivetrain.engine.memory.world_size", lambda: 2)
    with pytest.raises(StepOutOfMemoryError, match=r"peaks: forward 6\.00 GiB \(failed\), backward not reached"):
        made.train(0, 1)
    assert device.resets == 0 and made.model.sizes == [6]
    error = step_error(made, TinyLoader(batch_size=6).batch(0), torch.OutOfMemoryError("Tried to allocate 8.00 GiB."))
    assert "peaks: forward unknown, backward unknown, optimizer step 6.00 GiB (failed)" in str(error)


@pytest.mark.parametrize("zero_grad_before_forward", [False, True])
@pytest.mark.parametrize(("where", "accumulate"), [("forward", 1), ("backward", 1), ("forward", 2)])
def test_a_batch_made_in_parts_gives_the_same_weights(
    where: str, accumulate: int, zero_grad_before_forward: bool, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"accumulate": accumulate, "zero_grad_before_forward": zero_grad_before_forward}
    whole = trainer(6, **options)
    whole.train(0, 3)
    parts = trainer(2, where, oom_retry=True, **options)
    with caplog.at_level(logging.WARNING):
        parts.train(0, 3)
    expected = whole.model.state_dict()
    for name, value in parts.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)
    assert parts.model.sizes[:7] == [6, 3, 1, 2, 1, 2, 6]  # two parts were still too much
    assert "iteration 0 ran out of memory" in caplog.text and "made again in 4 parts" in caplog.text
    for name in ("total_loss", "loss_cls", "loss_box"):
        values = [[v for v, _ in t.storage.history(name).values()] for t in (whole, parts)]
        assert values[1] == pytest.approx(values[0], rel=1e-5)


@pytest.mark.parametrize("index", [0, 1])
def test_parts_that_did_fit_are_not_counted_twice(index: int) -> None:
    """Two parts of three images: the first fits, the second does not, so that parts are made again."""

    class Uneven(Limited):
        def forward(self, batch: Any) -> Any:
            losses = super().forward(batch)
            if len(batch) > 1 and any(item is self.large for item in batch):
                raise torch.OutOfMemoryError("Tried to allocate 20.00 GiB.")
            return losses

    batches = [TinyLoader(batch_size=6).batch(number) for number in range(2)]
    ends = []
    for large in (None, batches[index][-1]):
        made = trainer(6, oom_retry=True, accumulate=2)
        made.model.__class__ = Uneven
        made.model.large = large
        made.data_loader = batches
        made.train(0, 1)
        ends.append({name: value.clone() for name, value in made.model.state_dict().items()})
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-5, atol=1e-7)


def test_one_image_that_does_not_fit() -> None:
    with pytest.raises(StepOutOfMemoryError):
        trainer(0, oom_retry=True).train(0, 1)


def test_what_backward_added_to_earlier_batches_cannot_be_taken_back() -> None:
    with pytest.raises(StepOutOfMemoryError, match="in the backward"):
        accumulating = trainer(6, "backward", oom_retry=True, accumulate=2)
        accumulating.data_loader = [TinyLoader(batch_size=6).batch(0), TinyLoader(batch_size=7).batch(1)]
        accumulating.train(0, 1)


def test_a_bad_loss_in_a_part_is_found(tmp_path: Path) -> None:
    class Bad(Limited):
        def forward(self, batch: Any) -> Any:
            losses = super().forward(batch)
            return {**losses, "loss_cls": losses["loss_cls"] * float("nan")}

    bad = trainer(3, oom_retry=True)
    bad.model.__class__ = Bad
    with pytest.raises(FloatingPointError, match="iteration 0"):
        bad.train(0, 1)


def test_parts_are_as_equal_as_can_be() -> None:
    assert list(_split([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4, 5]]
    assert list(_split([1, 2, 3], 8)) == [[1], [2], [3]]
