from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from drivetrain.checkpoint import Checkpointer
from drivetrain.engine.hooks import EarlyStopping, HookBase, PreemptionCheckpointer, ValidationLoss
from drivetrain.engine.train_loop import SimpleTrainer
from drivetrain.events.storage import get_event_storage
from drivetrain.testing import assert_same_training, tiny_loader, tiny_trainer


class Sum(nn.Module):
    """Losses that are plain functions of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, batch: list[float]) -> dict[str, torch.Tensor]:
        assert self.training
        get_event_storage().put_scalar("inner", 1.0)
        mean = torch.tensor(batch).mean() + self.weight * 0
        return {"a": mean, "b": 10 * mean}


def trainer_of(model: nn.Module, data: Any) -> SimpleTrainer:
    return SimpleTrainer(model, data, torch.optim.SGD(model.parameters(), lr=0.1))


def test_batches_weigh_by_their_samples() -> None:
    trainer = trainer_of(Sum(), [[1.0]] * 9)
    trainer.register_hooks([ValidationLoss([[1.0, 2.0, 3.0], [10.0]], period=2)])
    trainer.train(0, 5)
    history = trainer.storage.history("validation_loss")
    assert [i for _, i in history.values()] == [1, 3, 4]
    assert history.latest() == pytest.approx(11 * 4.0)
    assert trainer.storage.history("validation/a").latest() == pytest.approx(4.0)
    assert trainer.storage.history("validation/b").latest() == pytest.approx(40.0)
    assert trainer.storage.smoothing_hints()["validation_loss"] is False
    assert len(trainer.storage.history("inner").values()) == 5  # only what training itself put


def test_one_tensor_as_loss() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return (batch * self.weight).mean()

    trainer = trainer_of(One(), [torch.zeros(2)] * 3)
    trainer.register_hooks([ValidationLoss([torch.ones(3), torch.full((1,), 5.0)], 0)])
    trainer.train(0, 2)
    assert trainer.storage.history("validation_loss").values() == [(pytest.approx(2.0), 1)]
    assert not [name for name in trainer.storage.histories() if name.startswith("validation/")]


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        ([{"image": 1}, {"image": 2}], 2),
        (torch.zeros(5, 2), 5),
        ([torch.zeros(3, 2), torch.zeros(3)], 3),
        ((torch.zeros(4, 2), torch.zeros(4)), 4),
        ({"x": torch.zeros(6), "y": torch.zeros(6)}, 6),
    ],
)
def test_the_number_of_samples(batch: Any, size: int) -> None:
    from drivetrain.engine.hooks.validation_loss import _batch_size

    assert _batch_size(batch) == size


def test_watching_never_changes_training() -> None:
    def watched() -> Any:
        trainer = tiny_trainer()
        trainer.register_hooks([ValidationLoss(tiny_loader(batches=2, seed=7), 2)])
        return trainer

    assert_same_training(tiny_trainer, watched, max_iter=5)


def test_the_same_weights_have_the_same_loss_whatever_was_drawn_before() -> None:
    trainer = tiny_trainer(lr=0.0)
    trainer.register_hooks([ValidationLoss(tiny_loader(batches=2, seed=7), 1)])
    trainer.train(0, 3)
    values = {value for value, _ in trainer.storage.history("validation_loss").values()}
    assert len(values) == 1


def test_it_is_the_loss_in_the_trainers_precision() -> None:
    kinds: list[torch.dtype] = []

    class Noting(Sum):
        def forward(self, batch: list[float]) -> dict[str, torch.Tensor]:
            kinds.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
            return super().forward(batch)

    model = Noting()
    trainer = SimpleTrainer(model, [[1.0]] * 2, torch.optim.SGD(model.parameters(), 0.1), precision="bf16")
    trainer.register_hooks([ValidationLoss([[1.0]], 0)])
    trainer.train(0, 1)
    assert kinds == [torch.bfloat16] * 2


def test_hooks_that_follow_evaluations_hear_of_it() -> None:
    class Listener(HookBase):
        heard: Any = None

        def after_evaluation(self, results: Any) -> None:
            self.heard = results

    trainer, listener = trainer_of(Sum(), [[1.0]] * 50), Listener()
    stop = EarlyStopping("validation_loss", patience=3, mode="min")
    trainer.register_hooks([ValidationLoss([[1.0]], 2), stop, listener])
    trainer.train(0, 40)
    assert listener.heard == {"validation_loss": 11.0, "validation/a": 1.0, "validation/b": 10.0}
    assert trainer.iter == 8  # the first is the best, three more are no better


def test_a_loader_that_is_used_up_is_said(caplog: pytest.LogCaptureFixture) -> None:
    trainer = trainer_of(Sum(), [[1.0]] * 9)
    trainer.register_hooks([ValidationLoss(iter([[1.0]]), 1)])
    trainer.train(0, 3)
    assert len(trainer.storage.history("validation_loss").values()) == 1
    assert "iterated again" in caplog.text


def test_what_a_signal_cut_short_is_made_up_for(tmp_path: Path) -> None:
    class Interrupted:
        def __init__(self, trainer: Any) -> None:
            self.trainer = trainer

        def __iter__(self) -> Iterator[Any]:
            for index, batch in enumerate(tiny_loader(batches=3, seed=7)):
                if index == 1 and self.trainer.iter == 3:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

    whole = tiny_trainer()
    whole.register_hooks([ValidationLoss(tiny_loader(batches=3, seed=7), 2)])
    whole.train(0, 6)
    cut = tiny_trainer()
    checkpointer = Checkpointer(cut.model, str(tmp_path), trainer=cut)
    cut.register_hooks([ValidationLoss(Interrupted(cut), 2), PreemptionCheckpointer(checkpointer)])
    with pytest.raises(SystemExit):
        cut.train(0, 6)
    assert [i for _, i in cut.storage.history("validation_loss").values()] == [1]
    resumed = tiny_trainer()
    resumed.register_hooks([ValidationLoss(tiny_loader(batches=3, seed=7), 2)])
    Checkpointer(resumed.model, str(tmp_path), trainer=resumed).resume_or_load("")
    resumed.train(resumed.iter + 1, 6)
    for name in ("validation_loss", "validation/loss_cls"):
        assert resumed.storage.history(name).values() == whole.storage.history(name).values()


def test_who_hears_of_it_can_save_that_it_is_through() -> None:
    class Saves(HookBase):
        states: list[Any]

        def after_evaluation(self, results: Any) -> None:
            self.states.append(loss.state_dict())

    saves, loss = Saves(), ValidationLoss([[1.0]], 2)
    saves.states = []
    trainer = trainer_of(Sum(), [[1.0]] * 9)
    trainer.register_hooks([loss, saves])
    trainer.train(0, 5)
    assert saves.states == [{"acted": 1}, {"acted": 3}, {"acted": 4}]
