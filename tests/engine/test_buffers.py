"""Copies of a model's buffers."""

from __future__ import annotations

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
