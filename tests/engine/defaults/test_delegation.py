"""Attributes that belong to another trainer, and the step under the name that another trainer would have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from drivetrain.engine.defaults.delegation import Delegated, OwnStep
from drivetrain.engine.hooks import CallbackHook
from drivetrain.engine.train_loop import SimpleTrainer
from drivetrain.testing import tiny_trainer


class Owner:
    model = Delegated[Any]("model")
    _step_trainer: Any = None


def test_own_until_another_makes_the_step() -> None:
    owner = Owner()
    owner.model = 1
    assert owner.model == 1
    owner._step_trainer = SimpleNamespace(model=2)
    assert owner.model == 2
    owner.model = 3
    assert owner._step_trainer.model == 3
    owner._step_trainer = None
    assert owner.model == 1


def test_missing_is_an_attribute_error_that_says_what_to_do() -> None:
    with pytest.raises(AttributeError, match="Owner has no model yet: set it or _trainer first"):
        Owner().model  # noqa: B018
    assert not hasattr(Owner(), "model")
    assert isinstance(Owner.model, Delegated)


class Overriding(SimpleTrainer):
    """Its overrides call those of the trainer within."""

    fetched = 0

    @property
    def _trainer(self) -> OwnStep:
        return OwnStep(self)

    def fetch(self) -> Any:
        self.fetched += 1
        return super().fetch()

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}


def test_overrides_that_call_the_step_within() -> None:
    plain = tiny_trainer()
    plain.train(0, 4)
    parts = tiny_trainer()
    trainer = Overriding(parts.model, parts.data_loader, parts.optimizer)
    backwards: list[int] = []
    trainer.register_hooks([CallbackHook(after_backward=lambda t: backwards.append(t.iter))])
    trainer.train(0, 4)
    assert trainer.fetched == 4 and backwards == [0, 1, 2, 3]
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, trainer.model.state_dict()[name])
    state = trainer.state_dict()["_trainer"]
    assert state["iteration"] == 3 and state["optimizer"]["state"] and "hooks" not in state

    trainer._trainer.note = 5  # type: ignore[attr-defined]
    assert trainer.note == 5  # type: ignore[attr-defined]
    trainer.model = torch.nn.Linear(1, 1)
    assert trainer._trainer.model is trainer.model and isinstance(trainer._trainer, SimpleTrainer)
