"""A file layer that records, stops or fails, and a small training state."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from drivetrain.checkpoint import Checkpointer, FileLayer


class Crash(BaseException):
    """Stands for the process being killed."""


class FaultyLayer(FileLayer):
    """Records the names of operations; from operation ``stop_at`` on nothing is done any more, as after a kill;
    operation ``fail_at`` raises an OSError.
    """

    def __init__(self, stop_at: int | None = None, fail_at: int | None = None, code: int = errno.ENOSPC) -> None:
        self.stop_at, self.fail_at, self.code = stop_at, fail_at, code
        self.operations: list[tuple[str, str]] = []
        self.dead = False

    def _step(self, operation: str, name: str) -> None:
        number = len(self.operations)
        if self.dead or number == self.stop_at:
            self.dead = True
            raise Crash(f"{operation} {name}")
        self.operations.append((operation, name))
        if number == self.fail_at:
            raise OSError(self.code, "injected", name)

    def create(self, path: Path) -> IO[bytes]:
        self._step("create", path.name)
        return super().create(path)

    def write(self, handle: IO[bytes], data: bytes | memoryview) -> None:
        if len(self.operations) == self.stop_at:
            super().write(handle, bytes(data)[: len(data) // 2])  # a kill within a write leaves a part
            handle.flush()
        self._step("write", Path(handle.name).name)
        super().write(handle, data)

    def sync(self, handle: IO[bytes]) -> None:
        self._step("sync", Path(handle.name).name)
        super().sync(handle)

    def replace(self, source: Path, target: Path) -> None:
        self._step("replace", target.name)
        super().replace(source, target)

    def sync_folder(self, folder: Path) -> None:
        self._step("sync_folder", folder.name)
        super().sync_folder(folder)

    def remove(self, path: Path) -> None:
        self._step("remove", path.name)
        super().remove(path)


class GatedLayer(FileLayer):
    """Creates no file before ``open`` is set."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def create(self, path: Path) -> IO[bytes]:
        assert self.open.wait(30)
        return super().create(path)


class Counter:
    """Something with a state beside the model."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


@pytest.fixture
def faulty() -> type[FaultyLayer]:
    return FaultyLayer


@pytest.fixture
def gated() -> type[GatedLayer]:
    return GatedLayer


@pytest.fixture
def crash() -> type[Crash]:
    return Crash


@pytest.fixture
def counter() -> type[Counter]:
    return Counter


@pytest.fixture
def training(tmp_path: Path) -> Callable[..., tuple[Checkpointer, Callable[[int], None]]]:
    """Makes a checkpointer over a tiny model, and a function that sets all its state to a number."""

    def make(folder: str = "run", **kwargs: Any) -> tuple[Checkpointer, Callable[[int], None]]:
        model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
        other = Counter()
        checkpointer = Checkpointer(model, str(tmp_path / folder), counter=other, **kwargs)

        def set_all(value: int) -> None:
            other.value = value
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.fill_(value)

        set_all(0)
        return checkpointer, set_all

    return make
