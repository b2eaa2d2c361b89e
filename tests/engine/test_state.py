"""The state of a SimpleTrainer: what is in it, that it loads safely, and that each part of it matters."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.checkpoint import Checkpointer
from drivetrain.engine import state
from drivetrain.engine.hooks import LRScheduler, PeriodicCheckpointer, PeriodicWriter
from drivetrain.engine.train_loop import HookBase, SimpleTrainer
from drivetrain.errors import CheckpointError, NonFiniteLossError, TrainingError
from drivetrain.events.writers import JSONWriter
from drivetrain.runtime.seeding import capture_rng_state


class Counted:
    """A loader with a position; batches draw from nothing but it."""

    def __init__(self) -> None:
        self.position = 0

    def __iter__(self) -> Any:
        while True:
            generator = torch.Generator().manual_seed(self.position)
            self.position += 1
            yield torch.randn(8, 4, generator=generator)

    def state_dict(self) -> dict[str, int]:
        return {"batches": self.position}

    def load_state_dict(self, saved: dict[str, int]) -> None:
        self.position = saved["batches"]


class Noisy(SimpleTrainer):
    """Draws from the global generator each step, as dropout does."""

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return super().forward(batch + torch.rand(()))


def resumed(make_trainer: Any, without: str = "") -> torch.Tensor:
    """The weights after 4 + 4 iterations with a stop in between; one part of the state may be left out."""
    first = make_trainer(Noisy, loader=Counted())
    torch.manual_seed(5)
    first.train(0, 4)
    buffer = io.BytesIO()
    torch.save({"trainer": first.state_dict(), "model": first.model.state_dict()}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    torch.manual_seed(99)
    second = make_trainer(Noisy, loader=Counted())
    second.model.load_state_dict(saved["model"])
    part = saved["trainer"]
    if without == "optimizer":
        part["optimizer"]["state"] = {}
    elif without:
        del part[without]
    second.load_state_dict(part)
    second.train(second.iter + 1, 8)
    return second.model.layer.weight.detach()


@pytest.fixture
def uninterrupted(make_trainer: Any) -> torch.Tensor:
    trainer = make_trainer(Noisy, loader=Counted())
    torch.manual_seed(5)
    trainer.train(0, 8)
    return trainer.model.layer.weight.detach()


def test_a_resumed_run_equals_the_uninterrupted_one(make_trainer: Any, uninterrupted: torch.Tensor) -> None:
    assert torch.equal(resumed(make_trainer), uninterrupted)


@pytest.mark.parametrize("part", ["optimizer", "rng", "data_loader"])
def test_each_part_is_needed(make_trainer: Any, uninterrupted: torch.Tensor, part: str) -> None:
    assert not torch.equal(resumed(make_trainer, without=part), uninterrupted)


def test_a_rank_that_the_checkpoint_does_not_know_draws_its_own_numbers(make_trainer: Any) -> None:
    known = {"0": capture_rng_state()}
    draws = []
    for rank, iteration in ((0, 3), (1, 3), (2, 3), (1, 4), (1, 3)):
        state._restore_rng(known, rank, iteration)
        draws.append(float(torch.rand(())))
    assert len(set(draws[:4])) == 4 and draws[4] == draws[1]


def test_gathered_generators_are_saved_with_the_iteration_they_belong_to(make_trainer: Any) -> None:
    trainer = make_trainer()
    trainer.train(0, 2)
    before = torch.get_rng_state()
    state.prepare_to_save(trainer)
    torch.rand(())
    assert torch.equal(state.capture(trainer)["rng"]["0"]["torch"], before)
    trainer.train(2, 3)
    assert not torch.equal(state.capture(trainer)["rng"]["0"]["torch"], before)


# Going back to a checkpoint


class Numbered(Counted):
    """Batches with their number, of which some are bad."""

    def __init__(self, *bad: int) -> None:
        super().__init__()
        self.bad = bad

    def __iter__(self) -> Any:
        while True:
            self.position += 1
            number = self.position - 1
            batch = torch.randn(8, 4, generator=torch.Generator().manual_seed(number))
            yield batch * math.nan if number in self.bad else batch


class Notes(HookBase):
    """The weights before each step, by iteration."""

    def __init__(self) -> None:
        self.weights: dict[int, torch.Tensor] = {}
        self.steps: list[int] = []

    def before_step(self) -> None:
        self.weights[self.trainer.iter] = self.trainer.model.layer.weight.detach().clone()
        self.steps.append(self.trainer.iter)


def rewinding(make_trainer: Any, folder: Path, *bad: int, save: bool = True) -> Any:
    trainer = make_trainer(loader=Numbered(*bad), non_finite="rewind")
    trainer.checkpointer = Checkpointer(trainer.model, str(folder), trainer=trainer)
    trainer.notes = Notes()
    writer = PeriodicWriter([JSONWriter(str(folder / "metrics.json"))], period=1)
    saving = PeriodicCheckpointer(trainer.checkpointer, 3) if save else None
    trainer.register_hooks([trainer.notes, LRScheduler(scheduler=lambda p: 1 - p), saving, writer])
    return trainer


def test_rewind_goes_back_and_on_with_the_data_after_the_bad_batch(
    make_trainer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = rewinding(make_trainer, tmp_path, 4)
    trainer.train(0, 7)
    assert trainer.notes.steps == [0, 1, 2, 3, 4, 3, 4, 5, 6]
    assert "iteration 4" in caplog.text and "Going back to iteration 3, 1 iterations are lost" in caplog.text

    class Without(Numbered):
        def __iter__(self) -> Any:
            numbers = [0, 1, 2, *range(5, 20)]
            return (torch.randn(8, 4, generator=torch.Generator().manual_seed(number)) for number in numbers)

    expected = make_trainer(loader=Without())
    expected.register_hooks([LRScheduler(scheduler=lambda p: 1 - p)])
    expected.train(0, 7)
    assert torch.equal(trainer.model.layer.weight, expected.model.layer.weight)
    momentum = [t.optimizer.state[t.model.layer.weight]["momentum_buffer"] for t in (trainer, expected)]
    assert torch.equal(*momentum)
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").open()]
    assert [line["iteration"] for line in lines] == list(range(7))
    rates = [value for value, _ in expected.storage.history("lr").values()]
    assert [line["lr"] for line in lines] == pytest.approx(rates)


def test_rewinding_to_one_checkpoint_again_and_again_ends(make_trainer: Any, tmp_path: Path) -> None:
    trainer = rewinding(make_trainer, tmp_path, 4, 6, 8, 10)
    with pytest.raises(NonFiniteLossError):
        trainer.train(0, 30)
    assert trainer.notes.steps == [0, 1, 2, 3, 4, *[3, 4] * 3]
    enough = rewinding(make_trainer, tmp_path / "enough", 4, 6, 8)
    enough.train(0, 7)
    assert enough.iter == 7


def test_rewinding_needs_a_checkpoint(make_trainer: Any, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match="iteration 1"):
        rewinding(make_trainer, tmp_path, 1).train(0, 5)
    with pytest.raises(NonFiniteLossError, match="iteration 4"):
        rewinding(make_trainer, tmp_path / "none", 4, save=False).train(0, 5)
    with pytest.raises(TrainingError, match="SimpleTrainer has no attribute 'checkpointer'"):
        make_trainer(loader=Numbered(1), non_finite="rewind").train(0, 5)


def test_a_state_from_elsewhere_leaves_the_rest(make_trainer: Any) -> None:
    trainer = make_trainer()
    before = torch.get_rng_state()
    state.restore(trainer, {"optimizer": trainer.optimizer.state_dict()})
    assert torch.equal(torch.get_rng_state(), before)
    assert set(state.capture(trainer)) == {"optimizer", "non_finite", "rng"}


def test_a_state_of_another_optimizer_is_refused_before_the_first_step(make_trainer: Any) -> None:
    trainer = make_trainer()
    other = torch.optim.AdamW(trainer.model.parameters())
    with pytest.raises(CheckpointError, match="not of SGD"):
        state.restore(trainer, {"optimizer": other.state_dict()})
