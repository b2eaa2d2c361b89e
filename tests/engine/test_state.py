"""The state of a SimpleTrainer: what is in it, that it loads safely, and that each part of it matters."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch

from drivetrain.engine import state
from drivetrain.engine.train_loop import SimpleTrainer


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


def test_a_state_from_elsewhere_leaves_the_rest(make_trainer: Any) -> None:
    trainer = make_trainer()
    before = torch.get_rng_state()
    state.restore(trainer, {"optimizer": trainer.optimizer.state_dict()})
    assert torch.equal(torch.get_rng_state(), before)
    assert set(state.capture(trainer)) == {"optimizer", "non_finite", "rng"}
