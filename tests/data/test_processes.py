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
from drivetrain.data.processes import AtEnd, init_worker, stop_workers, worker_context, workers_of

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


def _dirty_after_collection(prepare: bool, results: Any) -> None:
    if prepare:
        init_worker(0)

    def dirty() -> int:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))

    before = dirty()
    gc.collect()
    results.put(dirty() - before)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_the_garbage_collector_of_a_worker_does_not_copy_what_the_training_made() -> None:
    many = [[k] for k in range(300_000)]  # 20 MB or more
    context, grown = multiprocessing.get_context("fork"), []
    for prepare in (True, False):
        results = context.Queue()
        process = context.Process(target=_dirty_after_collection, args=(prepare, results))
        process.start()
        grown.append(results.get(timeout=60))
        process.join()
    assert len(many) == 300_000 and grown[0] < 4000 and grown[1] > 15_000  # kB


def _tell_methods(results: Any) -> None:
    results.put((multiprocessing.get_start_method(), worker_context().get_start_method()))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks on Linux alone")
def test_workers_of_a_spawned_process_are_forked() -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_tell_methods, args=(results,))
    process.start()
    assert results.get(timeout=120) == ("spawn", "fork")
    process.join()


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
