from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from drivetrain.engine.hooks.undisturbed import undisturbed
from drivetrain.testing import TinyModel, tiny_loader


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_generators_flags_and_buffers_come_back_also_after_an_error() -> None:
    model = TinyModel()
    model.norm.eval()  # a part that its user keeps frozen
    model.norm.running_mean.fill_(float("nan"))  # bit for bit, whatever the bits
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    expected = draw()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    buffers = {name: (buffer, buffer.clone()) for name, buffer in model.named_buffers()}
    with pytest.raises(KeyError), undisturbed(model, buffers=True):
        draw()
        model.train()
        model(next(iter(tiny_loader())))
        model.norm.running_var = torch.zeros(4)  # another tensor in its place
        model.eval()
        raise KeyError
    assert draw() == expected
    assert model.training and model.head.training and not model.norm.training
    for name, buffer in model.named_buffers():
        assert buffer is buffers[name][0]
        assert torch.equal(buffer.nan_to_num(7.0), buffers[name][1].nan_to_num(7.0))


def test_buffers_are_left_alone_unless_asked_and_no_model_is_fine() -> None:
    model = TinyModel()
    with undisturbed(model):
        model.norm.running_mean.fill_(3.0)
    assert model.norm.running_mean.eq(3.0).all()
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with undisturbed(None):
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected)
