"""Loader processes are killed every few batches, and the batches are those of a loader that nobody disturbed."""

from __future__ import annotations

import os
import pickle
import random
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.data.loader import InferenceLoader, TrainLoader
from drivetrain.data.order import GlobalOrder
from drivetrain.errors import TrainingError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

COUNT, BATCH = 60, 4


def sample(record: int, rng: np.random.Generator) -> dict[str, Any]:
    """Large and small tensors, and a description longer than a pipe holds."""
    image = torch.from_numpy(rng.integers(0, 256, (3, 120, 160), dtype=np.uint8))
    draws = (random.random(), float(torch.rand(())))
    return {"id": record, "image": image, "draws": draws, "pid": os.getpid(), "notes": "n" * 40_000}


def content(batch: list[dict[str, Any]]) -> list[bytes]:
    return [pickle.dumps([s["id"], s["image"].numpy().tobytes(), s["draws"], s["notes"]]) for s in batch]


def loader(workers: int) -> TrainLoader:
    return TrainLoader(range(COUNT), GlobalOrder(COUNT, BATCH, 7), sample, num_workers=workers)


@pytest.fixture(scope="module")
def undisturbed() -> list[list[bytes]]:
    made = loader(0)
    return [content(next(made)) for _ in range(40)]


def processes(made: TrainLoader) -> list[int]:
    return [worker._process.pid for worker in made._running._pool._workers]  # type: ignore[union-attr, misc]


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_those_of_an_undisturbed_loader(
    undisturbed: list[list[bytes]], workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    made, chance = loader(workers), random.Random(workers)
    batches, killed = [], set()
    for number in range(40):
        batches.append(content(next(made)))
        if number % 4 == 1:
            victim = chance.choice(processes(made))
            killed.add(victim)
            os.kill(victim, signal.SIGKILL)
    assert batches == undisturbed
    assert len(caplog.records) >= len(killed) - 1 > 5  # the last one may not have been missed
    assert all(
        "was ended by SIGKILL" in r.getMessage() and "a new one goes on" in r.getMessage() for r in caplog.records
    )
    assert made.position == 40
    made.close()


def test_all_at_once_and_while_none_is_waited_for(undisturbed: list[list[bytes]]) -> None:
    """As the system may kill them during a step: the signal must not reach the training."""
    made = loader(3)
    batches = [content(next(made)) for _ in range(5)]
    for victim in processes(made):
        os.kill(victim, signal.SIGKILL)
    for _ in range(200):
        torch.ones(100, 100) @ torch.ones(100, 100)
    batches += [content(next(made)) for _ in range(5)]
    made.seek(3)
    os.kill(processes(made)[0], signal.SIGKILL)
    assert [content(next(made)) for _ in range(4)] == undisturbed[3:7]
    assert batches == undisturbed[:10]
    made.close()


def test_an_image_that_always_kills_is_named_and_the_loader_stays_there() -> None:
    records = [{"file_name": f"{k}.jpg"} for k in range(40)]
    made = TrainLoader(records, GlobalOrder(40, 5, 0, shuffle=False), deadly_record, num_workers=2)
    assert [len(next(made)) for _ in range(3)] == [5, 5, 5]
    for _ in range(2):
        with pytest.raises(TrainingError, match=r"3 loader processes died.*'15.jpg', '16.jpg', '17.jpg', '18.jpg'"):
            next(made)
    assert made.position == 3
    made.seek(4)
    assert next(made)[0]["file_name"] == "20.jpg"
    made.close()


def deadly_record(record: dict[str, Any]) -> dict[str, Any]:
    if record["file_name"] == "17.jpg":
        os.kill(os.getpid(), signal.SIGKILL)
    return record


@pytest.mark.parametrize("workers", [1, 2])
def test_evaluation_gets_every_sample_once_too(workers: int, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []
    made = InferenceLoader(list(range(30)), lambda record: (record, os.getpid()), batch_size=3, num_workers=workers)
    for number, batch in enumerate(made):
        seen += [record for record, _ in batch]
        if number in (1, 4):
            os.kill(batch[0][1], signal.SIGKILL)
    assert seen == list(range(30))
    # The first death costs batches; the second may come when all that the process had to make is on its way already.
    assert len(caplog.records) in (1, 2)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_worker_killed_while_it_writes_holds_nobody_up(undisturbed: list[list[bytes]]) -> None:
    """Batches pile up unread, each too large for a pipe; then all that write are stopped and killed."""
    made = loader(3)
    batches = [content(next(made)) for _ in range(3)]
    for victim in processes(made):
        os.kill(victim, signal.SIGSTOP)
    for victim in processes(made):
        os.kill(victim, signal.SIGKILL)
    batches += [content(next(made)) for _ in range(6)]
    assert batches == undisturbed[:9]
    made.close()
