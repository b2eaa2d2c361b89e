"""Attributes that belong to another trainer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from drivetrain.engine.defaults.delegation import Delegated


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
