"""States that detectron2 saved beside the model."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from drivetrain.engine.defaults.foreign import adopt_states
from drivetrain.errors import CheckpointError
from drivetrain.solver import LRMultiplier


def parts(sizes: tuple[int, ...] = (2, 3)) -> Any:
    parameters = [torch.nn.Parameter(torch.ones(size)) for size in sizes]
    optimizer = torch.optim.SGD(parameters, lr=1.0, momentum=0.9)
    scheduler = LRMultiplier(optimizer, lambda progress: 1 - progress, max_iter=10)
    checkpointer = SimpleNamespace(checkpointables={})
    return SimpleNamespace(optimizer=optimizer, scheduler=scheduler, checkpointer=checkpointer, restored_parts=())


def stepped(trainer: Any, steps: int) -> Any:
    for _ in range(steps):
        for group in trainer.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.full_like(parameter, 0.1)
        trainer.optimizer.step()
        trainer.scheduler.step()
    return trainer


def states(trainer: Any) -> dict[str, Any]:
    scheduler = {"base_lrs": [1.0], "last_epoch": trainer.scheduler.last_epoch}
    return {"optimizer": trainer.optimizer.state_dict(), "scheduler": scheduler, "iteration": 2}


def test_the_training_goes_on_as_if_it_had_not_been_interrupted() -> None:
    before = stepped(parts(), 3)
    new = parts()
    for to, source in zip(new.optimizer.param_groups, before.optimizer.param_groups, strict=True):
        for a, b in zip(to["params"], source["params"], strict=True):
            a.data.copy_(b.data)
    adopt_states(new, copy.deepcopy(states(before)))
    assert new.restored_parts == ("optimizer", "scheduler")
    assert new.optimizer.param_groups[0]["lr"] == pytest.approx(0.7)
    for a, b in zip(
        stepped(new, 2).optimizer.param_groups[0]["params"],
        stepped(before, 2).optimizer.param_groups[0]["params"],
        strict=True,
    ):
        assert torch.equal(a, b)


def test_what_the_checkpointer_restores_by_itself_is_left_to_it() -> None:
    trainer = parts()
    trainer.checkpointer.checkpointables = {"optimizer": trainer.optimizer, "scheduler": trainer.scheduler}
    adopt_states(trainer, states(stepped(parts(), 1)))
    assert trainer.restored_parts == () and not trainer.optimizer.state


def test_the_state_of_other_parameters_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"state number 0 has the shape \[\(3,\)\].*parameter 0 of 2"):
        adopt_states(parts(), states(stepped(parts((3, 2)), 1)))
    with pytest.raises(CheckpointError, match="cannot be taken up"):
        adopt_states(parts(), states(stepped(parts((2,)), 1)))
