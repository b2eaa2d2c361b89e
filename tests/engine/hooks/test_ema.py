from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.checkpoint import Checkpointer
from drivetrain.engine.hooks import EMA, CallbackHook, HookBase
from drivetrain.engine.train_loop import TrainerBase
from drivetrain.errors import IncompatibleWeightsError, TrainingError
from drivetrain.testing import TinyModel, assert_same_training, tiny_trainer


class Scalar(TrainerBase):
    """A model of one weight, which takes given values."""

    def __init__(self, values: list[float], dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.model = torch.nn.Linear(1, 1, bias=False, dtype=dtype)
        self.values = values
        self.set(0.0)

    def set(self, value: float) -> None:
        with torch.no_grad():
            self.model.weight.fill_(value)

    def run_step(self) -> None:
        self.set(self.values[self.iter])


def average(hook: EMA) -> float:
    return float(hook.average["weight"])


@settings(max_examples=25)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20), st.floats(0, 1))
def test_the_closed_form(values: list[float], decay: float) -> None:
    trainer, hook = Scalar(values), EMA(decay, warmup=False)
    trainer.register_hooks([hook])
    trainer.train(0, len(values))
    n = len(values)
    # average_n = d^n w_0 + (1 - d) sum_i d^(n - 1 - i) w_i, with w_0 = 0 before training
    expected = (1 - decay) * sum(decay ** (n - 1 - i) * value for i, value in enumerate(values))
    assert average(hook) == pytest.approx(expected, abs=1e-9)
    assert hook.updates == n


def test_the_warm_up_forgets_the_first_weights_fast() -> None:
    values = [1.0, 2.0, 4.0, 8.0]
    trainer, hook = Scalar(values), EMA(0.25)
    trainer.register_hooks([hook])
    trainer.train(0, 4)
    expected = 0.0
    for value, decay in zip(values, (1 / 10, 2 / 11, 3 / 12, 0.25), strict=True):
        expected = decay * expected + (1 - decay) * value
    assert average(hook) == pytest.approx(expected, abs=1e-12)


def test_the_average_of_16_bit_weights_is_kept_in_32_bit() -> None:
    trainer, hook = Scalar([1.0] * 50, torch.bfloat16), EMA(0.999, warmup=False)
    trainer.register_hooks([hook])
    trainer.train(0, 50)
    assert average(hook) == pytest.approx(1 - 0.999**50, rel=1e-4)  # in bfloat16 it would not get so far
    with hook.applied():
        assert trainer.model.weight.dtype == torch.bfloat16
        assert float(trainer.model.weight.detach()) == pytest.approx(1 - 0.999**50, rel=1e-2)
    assert float(trainer.model.weight.detach()) == 1.0


def test_applied_weights_come_and_go_bit_for_bit() -> None:
    trainer, hook = tiny_trainer(), EMA(0.9)
    trainer.register_hooks([hook])
    trainer.train(0, 5)
    own = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with pytest.raises(KeyError), EMA.applied_in([HookBase(), hook]):
        with hook.applied():  # once more changes nothing
            pass
        state = trainer.model.state_dict()
        assert all(torch.equal(state[name], value) for name, value in hook.average.items())
        assert not torch.equal(state["head.weight"], own["head.weight"])
        assert torch.equal(state["norm.running_mean"], own["norm.running_mean"])
        raise KeyError
    assert all(torch.equal(value, own[name]) for name, value in trainer.model.state_dict().items())
    with EMA.applied_in([HookBase()]):
        assert torch.equal(trainer.model.head.weight, own["head.weight"])


def test_training_is_not_changed_by_it_nor_by_looking_at_it() -> None:
    def averaged() -> Any:
        trainer, hook = tiny_trainer(), EMA(0.9)

        def look(_: object) -> None:
            with hook.applied():
                pass

        trainer.register_hooks([hook, CallbackHook(after_step=look)])
        return trainer

    assert_same_training(tiny_trainer, averaged, max_iter=5)


def test_a_resumed_average_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    def build() -> tuple[Any, EMA, Checkpointer]:
        trainer, hook = tiny_trainer(), EMA(0.95)
        trainer.register_hooks([hook])
        return trainer, hook, Checkpointer(trainer.model, str(tmp_path), trainer=trainer)

    whole, expected, _ = build()
    whole.train(0, 8)
    first, _, checkpointer = build()
    first.train(0, 3)
    checkpointer.save("model_0000002", iteration=2)
    second, hook, checkpointer = build()
    checkpointer.resume_or_load("")
    assert hook.state_dict()["updates"] == 3  # also before training begins
    second.train(3, 8)
    assert hook.updates == 8
    assert all(torch.equal(value, hook.average[name]) for name, value in expected.average.items())


def test_a_checkpoint_holds_what_load_average_gives_to_a_model(tmp_path: Path) -> None:
    trainer, hook = tiny_trainer(), EMA(0.9)
    trainer.register_hooks([hook])
    trainer.train(0, 3)
    state = hook.state_dict()
    model = TinyModel()
    EMA.load_average(model, state)
    assert all(torch.equal(p, state["average"][name]) for name, p in model.named_parameters())
    with pytest.raises(IncompatibleWeightsError, match=r"the EMA state.*head"):
        EMA.load_average(TinyModel(num_classes=2), state)


def test_wrappers_are_looked_through_and_a_new_model_is_followed() -> None:
    trainer, hook = Scalar([5.0, 6.0]), EMA(0.0)
    trainer.register_hooks([hook])
    trainer.model = torch.nn.DataParallel(trainer.model)  # type: ignore[assignment]
    trainer.set = lambda v: trainer.model.module.weight.data.fill_(v)  # type: ignore[assignment,method-assign]
    trainer.train(0, 1)
    assert list(hook.average) == ["weight"] and average(hook) == 5.0
    trainer.model = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    trainer.set = lambda v: trainer.model.weight.data.fill_(v)  # type: ignore[assignment,method-assign]
    trainer.train(1, 2)
    assert average(hook) == 6.0


def test_a_bad_decay() -> None:
    with pytest.raises(TrainingError, match=r"decay=1.5"):
        EMA(1.5)


def test_a_model_that_was_changed_in_place_is_followed_from_the_next_training_on() -> None:
    trainer, hook = Scalar([5.0, 6.0]), EMA(0.5, warmup=False)
    trainer.register_hooks([hook])
    trainer.train(0, 1)
    assert average(hook) == 2.5
    trainer.model.weight = torch.nn.Parameter(torch.zeros(1, 1, dtype=torch.float64))
    trainer.train(1, 2)
    assert average(hook) == 0.5 * 2.5 + 0.5 * 6.0
