"""Processes that make batches, and what happens when they die."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import get_worker_info

from drivetrain.data import pool as module
from drivetrain.data.pool import WorkerPool
from drivetrain.errors import TrainingError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


class Source:
    """Tasks are numbers; some of them make trouble."""

    def __getitems__(self, task: Any) -> Any:
        if task == "crash":
            raise KeyError("a bug")
        if task == "leave":
            os._exit(3)
        if isinstance(task, Path) and not task.exists():  # the first time
            task.touch()
            os.kill(os.getpid(), signal.SIGUSR2)
        if task == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        info = get_worker_info()
        return task, os.getpid(), info and (info.id, info.num_workers), torch.full((300, 300), 7.0)

    def describe(self, task: Any) -> str:
        return f"image of {task!r}"


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    made = WorkerPool(Source(), 2)
    yield made
    made.stop()


def tasks_of(results: Iterator[Any]) -> list[Any]:
    return [result[0] for result in results]


def test_batches_come_in_order_from_all_workers_and_end(pool: WorkerPool) -> None:
    assert list(pool) == []
    pool.feed(iter(range(11)))
    results = list(pool)
    assert [r[0] for r in results] == list(range(11))
    assert [r[2] for r in results[:4]] == [(0, 2), (1, 2), (0, 2), (1, 2)]
    assert len({r[1] for r in results}) == 2 and os.getpid() not in {r[1] for r in results}
    assert all(torch.equal(r[3], torch.full((300, 300), 7.0)) for r in results)
    assert list(pool) == []


def test_new_tasks_take_the_place_of_old_ones_in_the_same_processes(pool: WorkerPool) -> None:
    pool.feed(iter(range(100)))
    before = {next(pool)[1] for _ in range(3)}
    pool.feed(iter(range(200, 205)))
    results = list(pool)
    assert [r[0] for r in results] == [200, 201, 202, 203, 204]
    assert {r[1] for r in results} == before
    pool.stop()
    pool.feed(iter([1]))
    assert tasks_of(pool) == [1]


def test_batches_that_are_kept_stay_as_they_are(pool: WorkerPool) -> None:
    class Images(Source):
        def __getitems__(self, task: Any) -> Any:
            return torch.full((3, 200, 200), task, dtype=torch.uint8)

    pool._source = Images()
    pool.feed(iter(range(60)))
    kept, places = [], set()
    for number, batch in enumerate(pool):
        places.add(batch.data_ptr())
        if number % 7 == 0:
            kept.append((number, batch))
    assert len(kept) == 9 and all((batch == number).all() for number, batch in kept)
    assert 9 < len(places) < 25  # the memory of the others was used again
    pool.feed(iter(range(100, 140)))
    next(pool)
    pool.feed(iter(range(200, 240)))  # those that were on their way are dropped
    again = {batch.data_ptr() for batch in pool}
    assert len(again - places) < 8 and all((batch == number).all() for number, batch in kept)


def test_a_bug_keeps_its_type_and_the_next_batch_comes(pool: WorkerPool) -> None:
    pool.feed(iter([0, "crash", 2]))
    assert next(pool)[0] == 0
    with pytest.raises(KeyError, match="(?s)loader process 1.*__getitems__.*a bug"):
        next(pool)
    assert tasks_of(pool) == [2]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR2])
def test_killed_workers_are_replaced_and_the_sequence_stays(
    pool: WorkerPool, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    pool.feed(iter(range(40)))
    seen, victims = [], set()
    for result in pool:
        seen.append(result[0])
        if result[0] % 10 == 3:
            victims.add(result[1])
            os.kill(result[1], number)
    assert seen == list(range(40))
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == len(victims) == 4
    assert signal.Signals(number).name in warnings[0] and ("memory runs out" in warnings[0]) == (number == 9)


def test_a_batch_that_kills_once_is_made_again(pool: WorkerPool, tmp_path: Path) -> None:
    pool.feed(iter([0, tmp_path / "x", 2, 3, 4]))
    assert tasks_of(pool) == [0, tmp_path / "x", 2, 3, 4]


@pytest.mark.parametrize(("task", "how"), [("poison", "was ended by SIGKILL"), ("leave", "ended with exit code 3")])
def test_a_batch_that_always_kills_is_named(pool: WorkerPool, task: str, how: str) -> None:
    pool.feed(iter([0, 1, task, 3]))
    time.sleep(0.2)  # the batch before it is made, and lost with the process
    assert next(pool)[0] == 0 and next(pool)[0] == 1
    with pytest.raises(TrainingError, match=rf"3 loader processes died.*{how}.*image of '{task}'.*NUM_WORKERS"):
        next(pool)


def test_a_worker_that_is_killed_while_idle_or_stopped(pool: WorkerPool) -> None:
    """SIGSTOP first, so that it dies with tasks in its pipe that it has not read."""
    pool.feed(iter(range(30)))
    pid = next(pool)[1]
    os.kill(pid, signal.SIGSTOP)
    seen = [next(pool)[0]]
    os.kill(pid, signal.SIGKILL)
    assert seen + tasks_of(pool) == list(range(1, 30))
    pool.feed(iter(range(5)))
    os.kill(next(pool)[1], signal.SIGKILL)
    time.sleep(0.1)
    pool.feed(iter(range(50, 60)))  # sends to a dead process
    assert tasks_of(pool) == list(range(50, 60))


def test_an_error_that_is_not_a_death_is_raised(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    pool.feed(iter(range(5)))
    next(pool), next(pool)

    def fails() -> Any:
        raise OSError(24, "Too many open files")

    class Broken:
        poll = staticmethod(lambda *_: True)
        recv = staticmethod(fails)
        send = close = staticmethod(lambda *_: None)

    worker = pool._workers[0]
    connection, worker._connection = worker._connection, Broken()  # type: ignore[assignment]
    with pytest.raises(OSError, match="Too many open files"):
        next(pool)
    worker._connection = connection


def test_a_death_is_noticed_though_another_process_holds_the_connection(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    held = []
    pipe = module.multiprocessing.Pipe

    def leaky_pipe() -> Any:
        ours, theirs = pipe()
        held.append(os.dup(theirs.fileno()))
        return ours, theirs

    monkeypatch.setattr(module.multiprocessing, "Pipe", leaky_pipe)
    pool.feed(iter(range(8)))
    os.kill(next(pool)[1], signal.SIGKILL)
    assert tasks_of(pool) == list(range(1, 8))
    for descriptor in held:
        os.close(descriptor)


def test_replacing_workers_leaves_no_descriptor_and_no_process_behind(pool: WorkerPool) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("needs /proc")

    def kill_some() -> int:
        pool.feed(iter(range(12)))
        for result in pool:
            if result[0] in (2, 7):
                os.kill(result[1], signal.SIGKILL)
        workers = list(pool._workers)
        del result
        pool.stop()
        gc.collect()
        assert not any(worker.is_alive() for worker in workers)
        workers.clear()  # they have the memory of their batches, as many blocks as there was time for
        return len(list(descriptors.iterdir()))

    first = kill_some()
    assert kill_some() <= first


def test_a_stuck_worker_is_killed_at_the_end(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    pool.feed(iter(range(4)))
    pid = next(pool)[1]
    workers = list(pool._workers)
    os.kill(pid, signal.SIGSTOP)
    pool.stop()
    assert not any(worker.is_alive() for worker in workers)


ORPHANS = """
import os, signal, sys
from drivetrain.data import pool
pool._PATIENCE = 0.2
class Source:
    def __getitems__(self, task):
        return os.getpid()
pool = pool.WorkerPool(Source(), 2)
pool.feed(iter(range(9)))
print(next(pool), next(pool), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_workers_end_when_the_training_process_is_killed() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHANS], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    pids = [int(p) for p in done.stdout.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 30
    while any(running(p) for p in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(running(p) for p in pids)


def running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
