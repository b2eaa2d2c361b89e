"""Names that can be imported, and say at their use that they are not there."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from drivetrain.compat import stand_ins
from drivetrain.compat.table import STAND_INS
from drivetrain.errors import UserInputError
from drivetrain.evaluation import DatasetEvaluator


@pytest.mark.parametrize("path", STAND_INS)
def test_the_import_works_and_the_use_does_not(path: str, finder: None) -> None:
    module, _, name = path.rpartition(".")
    imported = getattr(importlib.import_module(module), name)
    with pytest.raises(UserInputError, match=r"has no counterpart in drivetrain: \w") as caught:
        imported("shapes_val")
    said = str(caught.value)
    assert said.startswith("detectron2.") and f".{name} has no" in said and said.endswith(STAND_INS[path])


def test_scripts_choose_an_evaluator_by_its_class() -> None:
    """The usual ``build_evaluator`` names all of them and makes one."""
    kinds: dict[str, Any] = {"cityscapes": stand_ins.CityscapesInstanceEvaluator, "coco": DatasetEvaluator}
    assert isinstance(kinds["coco"](), DatasetEvaluator) and issubclass(kinds["cityscapes"], DatasetEvaluator)
    with pytest.raises(UserInputError, match="CityscapesInstanceEvaluator has no"):
        kinds["cityscapes"]("cityscapes_fine_instance_seg_val")


def test_a_subclass_can_be_defined() -> None:
    class Mine(stand_ins.CityscapesSemSegEvaluator):
        pass

    with pytest.raises(UserInputError, match="CityscapesSemSegEvaluator has no"):
        Mine("x")
