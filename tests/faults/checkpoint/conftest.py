"""File layers that record or fail, and a small training whose whole state is one number."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from drivetrain.checkpoint import Checkpointer, FileLayer, PeriodicCheckpointer


class Run:
    """A model and a counter that are all set to one number, which is the iteration that they are saved after."""

    def __init__(self, folder: Path, layer: FileLayer | None = None) -> None:
        self.model = torch.nn.Linear(2, 1)
        self.value = -1
        self.checkpointer = Checkpointer(self.model, str(folder), run=self)
        self.checkpointer.layer = layer or FileLayer()
        self.periodic = PeriodicCheckpointer(self.checkpointer, 1, max_to_keep=2)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]

    def set(self, value: int) -> None:
        self.value = value
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.fill_(value)

    def step(self, iteration: int) -> None:
        """An iteration with its periodic checkpoint, when that is written."""
        self.set(iteration)
        self.periodic.step(iteration)
        self.checkpointer.wait()

    def best(self, iteration: int) -> None:
        """The best model, when that is written."""
        self.set(iteration)
        self.checkpointer.save_in_background("model_best", iteration=iteration)
        self.checkpointer.wait()

    def whole(self) -> int:
        """The number that everything is set to; fails if it is a mixture."""
        values = {self.value, *(x for p in self.model.parameters() for x in p.flatten().tolist())}
        assert len(values) == 1, f"mixed state {values}"
        return self.value


@dataclass
class Operation:
    """What was done to the folder; a file is known by a number, whatever its name."""

    kind: str
    name: str = ""
    file: int = -1
    data: bytes = b""


class RecordingLayer(FileLayer):
    """Does everything, and notes it."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._files: dict[str, int] = {}
        self._count = 0

    def create(self, path: Path) -> IO[bytes]:
        self._count += 1
        self._files[path.name] = self._count
        self.operations.append(Operation("create", path.name, self._count))
        return super().create(path)

    def write(self, handle: IO[bytes], data: bytes | memoryview) -> None:
        self.operations.append(Operation("write", file=self._files[Path(handle.name).name], data=bytes(data)))
        super().write(handle, data)

    def sync(self, handle: IO[bytes]) -> None:
        self.operations.append(Operation("sync", file=self._files[Path(handle.name).name]))
        super().sync(handle)

    def replace(self, source: Path, target: Path) -> None:
        self._files[target.name] = self._files.pop(source.name)
        self.operations.append(Operation("rename", target.name, self._files[target.name], source.name.encode()))
        super().replace(source, target)

    def sync_folder(self, folder: Path) -> None:
        self.operations.append(Operation("sync_folder"))
        super().sync_folder(folder)

    def remove(self, path: Path) -> None:
        self.operations.append(Operation("remove", path.name))
        super().remove(path)


@dataclass
class FailingLayer(FileLayer):
    """Operation ``at`` raises an OSError; with ``lasting``, so does every one after it that needs space."""

    at: int
    code: int = errno.ENOSPC
    lasting: bool = False
    count: int = 0
    failed: list[str] = field(default_factory=list)

    def _step(self, kind: str, needs_space: bool = False) -> None:
        self.count += 1
        if self.count - 1 == self.at or (self.lasting and needs_space and self.count - 1 > self.at):
            self.failed.append(kind)
            raise OSError(self.code, "injected")

    def create(self, path: Path) -> IO[bytes]:
        self._step("create", needs_space=True)
        return super().create(path)

    def write(self, handle: IO[bytes], data: bytes | memoryview) -> None:
        self._step("write", needs_space=True)
        super().write(handle, data)

    def sync(self, handle: IO[bytes]) -> None:
        self._step("sync")
        super().sync(handle)

    def replace(self, source: Path, target: Path) -> None:
        self._step("replace")
        super().replace(source, target)

    def sync_folder(self, folder: Path) -> None:
        self._step("sync_folder")
        super().sync_folder(folder)

    def remove(self, path: Path) -> None:
        if not path.name.endswith(".tmp"):  # what cleans up after the failure
            self._step("remove")
        super().remove(path)


@pytest.fixture
def make_run() -> type[Run]:
    return Run


@pytest.fixture
def recording() -> type[RecordingLayer]:
    return RecordingLayer


@pytest.fixture
def failing() -> type[FailingLayer]:
    return FailingLayer


@pytest.fixture
def saved_run(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a folder with three periodic checkpoints (2, 3 kept) and a best one (of 1)."""

    def make(name: str) -> Path:
        run = Run(tmp_path / name)
        run.step(1)
        run.best(1)
        run.step(2)
        run.step(3)
        return tmp_path / name

    return make
