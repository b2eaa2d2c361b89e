from __future__ import annotations

import pytest
import torch

from drivetrain.checkpoint.compare import compare_state
from drivetrain.errors import IncompatibleWeightsError

T = torch.zeros


def test_equal_states_do_not_differ():
    state = torch.nn.BatchNorm1d(3).state_dict()
    difference = compare_state(state, state)
    assert not difference
    assert difference.matching == 5
    difference.raise_if_any("x")


def test_each_kind_of_difference_is_listed():
    difference = compare_state({"a": T(2), "b": T(3), "c": T(4)}, {"b": T(3), "c": T(5, 1), "d": T(1)})
    assert difference.missing == ("a",)
    assert difference.unexpected == ("d",)
    assert difference.shapes == (("c", (5, 1), (4,)),)
    assert difference.matching == 1
    with pytest.raises(IncompatibleWeightsError) as caught:
        difference.raise_if_any("w.pth")
    message = str(caught.value)
    for part in ("w.pth", "1 missing from the file (a)", "1 unexpected in the file (d)", "c: [5, 1] in the file, [4]"):
        assert part in message
    assert "\n" not in message


def test_long_lists_are_cut():
    text = compare_state({f"layer{i}": T(1) for i in range(100)}, {}).describe()
    assert "and 94 more" in text
    assert len(text) < 200


def test_old_files_without_batch_counts_fit_and_lazy_parameters_fit_anything():
    state = torch.nn.BatchNorm1d(3).state_dict()
    old = {k: v for k, v in state.items() if k != "num_batches_tracked"}
    assert not compare_state(state, old)
    lazy = torch.nn.LazyLinear(4)
    assert not compare_state(lazy.state_dict(), torch.nn.Linear(7, 4).state_dict())
