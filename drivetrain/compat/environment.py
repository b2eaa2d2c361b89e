"""What scripts ask of their surroundings: versions, a free port, the time."""

from __future__ import annotations

import socket
from time import perf_counter

import torch

from drivetrain.errors import UserInputError

__all__ = ["TORCH_VERSION", "Timer", "__version__", "find_free_port"]

__version__ = "0.6"
"""The version of detectron2 whose interface this is, for scripts that ask for a minimum."""

TORCH_VERSION = tuple(int(part) for part in str(torch.__version__).split("+")[0].split(".")[:2])
"""Major and minor version of PyTorch."""


def find_free_port() -> int:
    """A TCP port that is free now; ``launch`` needs none, for ``dist_url="auto"`` finds its own place to meet."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Timer:
    """Counts seconds from its making on, less those while it was paused."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start again at 0."""
        self._start = perf_counter()
        self._paused: float | None = None
        self._total_paused = 0.0
        self._count_start = 1

    def pause(self) -> None:
        """Stop counting; UserInputError if it is paused already."""
        if self._paused is not None:
            raise UserInputError("this Timer is paused already: call resume() before pause()")
        self._paused = perf_counter()

    def is_paused(self) -> bool:
        """Whether it is paused."""
        return self._paused is not None

    def resume(self) -> None:
        """Go on counting; UserInputError if it is not paused."""
        if self._paused is None:
            raise UserInputError("this Timer is not paused: call pause() before resume()")
        self._total_paused += perf_counter() - self._paused
        self._paused = None
        self._count_start += 1

    def seconds(self) -> float:
        """Seconds counted so far."""
        end = perf_counter() if self._paused is None else self._paused
        return end - self._start - self._total_paused

    def avg_seconds(self) -> float:
        """Seconds per run from a start or ``resume`` to the next ``pause``."""
        return self.seconds() / self._count_start
