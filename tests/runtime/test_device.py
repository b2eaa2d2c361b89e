from __future__ import annotations

import pytest
import torch

from drivetrain.errors import UserInputError
from drivetrain.runtime import comm
from drivetrain.runtime.device import resolve_device


@pytest.fixture
def machine(monkeypatch):
    """Sets how many CUDA devices there are, whether there is MPS, and the local rank."""

    def make(cuda=0, mps=False, local_rank=0):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
        monkeypatch.setattr(comm, "get_local_rank", lambda: local_rank)

    return make


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [
        ({}, "auto", "cpu"),
        ({"mps": True}, "auto", "mps"),
        ({"cuda": 2, "mps": True}, "auto", "cuda:0"),
        ({"cuda": 2, "local_rank": 1}, "auto", "cuda:1"),
        ({"cuda": 2, "local_rank": 1}, "cuda", "cuda:1"),
        ({"cuda": 2, "local_rank": 1}, "cuda:0", "cuda:0"),
        ({"cuda": 2}, "cpu", "cpu"),
        ({"cuda": 2}, " CUDA:1 ", "cuda:1"),
        ({}, "cpu:0", "cpu"),
        ({"mps": True}, "mps:0", "mps"),
    ],
)
def test_names(machine, given, name, expected):
    machine(**given)
    assert resolve_device(name) == torch.device(expected)


@pytest.mark.parametrize(
    ("given", "name", "text"),
    [
        ({}, "cuda", "'cuda' was asked for, but .*use 'auto' or 'cpu'"),
        ({}, "mps", "finds no mps device"),
        ({}, "xpu", "finds no xpu device"),
        ({"cuda": 2}, "cuda:2", "shows 2 "),
        ({"cuda": 1, "local_rank": 3}, "cuda", "process 3 of this machine needs cuda device 3"),
        ({}, "cudda", "did you mean 'cuda'"),
        ({}, "gpu", "is not one of auto, cpu"),
        ({}, "", "is not one of"),
        ({}, "cuda:", "is not one of"),
        ({}, "cuda:-1", "is not one of"),
        ({}, "cuda:one", "is not one of"),
        ({}, "auto:1", "is not one of"),
        ({}, "cpu:1", "one cpu device"),
        ({}, "meta", "is not one of"),
    ],
)
def test_what_is_not_there_is_refused(machine, given, name, text):
    machine(**given)
    with pytest.raises(UserInputError, match=text) as caught:
        resolve_device(name)
    assert repr(name) in str(caught.value) or "local_rank" in given
    assert "\n" not in str(caught.value)
