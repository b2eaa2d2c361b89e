"""The checks of the model contract."""

from __future__ import annotations

import pytest
import torch

from drivetrain.errors import ModelError
from drivetrain.modeling import check_losses, check_outputs


def test_good_losses_pass() -> None:
    check_losses({"loss_a": torch.tensor(1.0), "loss_b": torch.tensor(float("nan"))})


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({}, "an empty dict"),
        ([{"instances": 1}], r"a list of 1 \(dict\)"),
        (torch.zeros(2), r"a tensor of shape \(2,\)"),
        (None, "None"),
        ({"loss_a": torch.zeros(3)}, r"its 'loss_a' is a tensor of shape \(3,\): reduce it"),
        ({"loss_a": 0.5}, r"its 'loss_a' is 0.5 \(a float\)$"),
        ({"ok": torch.tensor(0.0), "aux": {"x": 1}}, r"its 'aux' is a dict with the keys \['x'\]"),
    ],
)
def test_bad_losses_are_named(losses, message) -> None:
    with pytest.raises(ModelError, match=message):
        check_losses(losses)


def test_outputs() -> None:
    check_outputs([{"instances": 1}, {}], [{}, {}])
    with pytest.raises(ModelError, match=r"2 here, but this one returned 1"):
        check_outputs([{}], [{}, {}])
    with pytest.raises(ModelError, match=r"a dict with the keys \['loss'\]"):
        check_outputs({"loss": 1}, [{}])
    with pytest.raises(ModelError, match="entry 1 is 5"):
        check_outputs([{}, 5], [{}, {}])
