"""Versions, a port, a stop watch."""

from __future__ import annotations

import socket
import time

import pytest
import torch

from drivetrain.compat.environment import TORCH_VERSION, Timer, find_free_port
from drivetrain.errors import UserInputError


def test_torch_version() -> None:
    assert torch.__version__.startswith(".".join(map(str, TORCH_VERSION)) + ".") and TORCH_VERSION >= (2, 0)


def test_a_free_port_can_be_bound() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", find_free_port()))


def test_a_paused_timer_stands_still() -> None:
    timer = Timer()
    timer.pause()
    before = timer.seconds()
    time.sleep(0.01)
    assert timer.seconds() == before and timer.is_paused()
    with pytest.raises(UserInputError, match="paused already"):
        timer.pause()
    timer.resume()
    time.sleep(0.01)
    assert before + 0.01 <= timer.seconds() < before + 5 and timer.avg_seconds() == pytest.approx(
        timer.seconds() / 2, rel=0.2
    )
    with pytest.raises(UserInputError, match="not paused"):
        timer.resume()
