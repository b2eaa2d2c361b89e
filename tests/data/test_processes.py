"""Worker processes: how they start and end."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from drivetrain.data import processes
from drivetrain.data.processes import AtEnd, init_worker, stop_workers, workers_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and fork")


def outlive(folder: Path) -> None:
    """A worker that gets each signal once, then SIGTERM again."""
    init_worker(0)
    for name in ("SIGINT", "SIGUSR1", "SIGTERM"):
        os.kill(os.getpid(), getattr(signal, name))
        (folder / name).touch()
    os.kill(os.getpid(), signal.SIGTERM)
    (folder / "never").touch()


def wait_for_ever(folder: Path) -> None:
    processes._GRACE = 1
    init_worker(0)
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        signal.pause()


def run(function: Any, folder: Path) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=function, args=(folder,))
    process.start()
    process.join(20)
    return process.exitcode


def test_a_worker_outlives_the_signals_meant_for_the_training_but_not_a_second_sigterm(tmp_path: Path) -> None:
    assert run(outlive, tmp_path) == -signal.SIGTERM
    assert {path.name for path in tmp_path.iterdir()} == {"SIGINT", "SIGUSR1", "SIGTERM"}


def test_a_worker_that_nobody_ends_goes_some_time_after_sigterm(tmp_path: Path) -> None:
    assert run(wait_for_ever, tmp_path) == -signal.SIGALRM


def test_at_end_is_called_once() -> None:
    class Owner:
        pass

    calls: list[str] = []
    owner = Owner()
    AtEnd(owner, lambda: calls.append("gone"))
    assert calls == []
    del owner
    gc.collect()
    assert calls == ["gone"]
    watch = AtEnd(None, lambda: calls.append("asked"))
    watch()
    assert calls == ["gone", "asked"]


def in_child(folder: Path) -> None:
    WATCHES[0]()
    (folder / "done").touch()


WATCHES: list[AtEnd] = []


def test_at_end_leaves_a_forked_copy_alone(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    WATCHES.append(AtEnd(None, mark.touch))
    try:
        assert run(in_child, tmp_path) == 0
        assert (tmp_path / "done").exists() and not mark.exists()
    finally:
        WATCHES.pop()()
    assert mark.exists()


def test_workers_end_with_the_block_even_when_a_traceback_holds_the_iterator() -> None:
    batches: Any = iter(DataLoader(list(range(10)), num_workers=1))  # type: ignore[arg-type]
    with pytest.raises(KeyError), workers_of(batches):
        next(batches)
        (worker,) = batches._workers
        assert worker.is_alive()
        raise KeyError
    assert not worker.is_alive()
    stop_workers(batches)  # once more does nothing
    stop_workers(iter([1]))  # nor does an iterator without workers
