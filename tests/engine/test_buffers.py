"""Copies of a model's buffers."""

from __future__ import annotations

import pytest
import torch

from drivetrain.engine.buffers import KeptBuffers


def test_buffers_are_put_back_and_parameters_left_alone() -> None:
    model = torch.nn.BatchNorm1d(2)
    kept = KeptBuffers(model)
    kept.keep()
    model(torch.randn(4, 2))
    with torch.no_grad():
        model.weight.fill_(5.0)
    kept.put_back()
    assert torch.equal(model.running_mean, torch.zeros(2)) and int(model.num_batches_tracked) == 0
    assert torch.equal(model.weight, torch.full((2,), 5.0))


def test_only_where_a_tensor_says_so() -> None:
    model = torch.nn.BatchNorm1d(2)
    kept = KeptBuffers(model)
    kept.keep()
    model(torch.randn(4, 2))
    moved = model.running_mean.clone()
    kept.put_back(torch.tensor(False))
    assert torch.equal(model.running_mean, moved) and int(model.num_batches_tracked) == 1
    kept.put_back(torch.tensor(True))
    assert torch.equal(model.running_mean, torch.zeros(2)) and int(model.num_batches_tracked) == 0


def test_a_model_without_any() -> None:
    kept = KeptBuffers(torch.nn.Linear(1, 1))
    kept.keep()
    kept.put_back()
    assert kept._copies == []


class Rebinds(torch.nn.Module):
    """Puts new tensors in the places of its buffers, as the centre of a self-supervised loss often is."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(2))
        self.register_buffer("grid", torch.zeros(2))
        self.register_buffer("none", None)

    def forward(self, size: int) -> None:
        self.center = 0.5 * self.center + 1.0
        self.grid = torch.ones(size)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("where", [None, torch.tensor(True), torch.tensor(False)])
def test_buffers_that_were_replaced(size: int, where: torch.Tensor | None) -> None:
    model = Rebinds()
    kept = KeptBuffers(model)
    for step in range(2):
        kept.keep()
        before, grid = model.center.clone(), model.grid.clone()
        model(size + step)
        after = model.center.clone()
        kept.put_back(where)
        put_back = where is None or bool(where)
        assert torch.equal(model.center, before if put_back else after)
        assert torch.equal(model.grid, grid if put_back else torch.ones(size + step))
        model(size)  # a step that counts
