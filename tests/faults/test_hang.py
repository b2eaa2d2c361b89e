"""Ranks that hang: the others tell where each one is, and end. The trainings are those of hang_ranks.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("hang_ranks.py")
ROOT = SCRIPT.parents[2]
TIMEOUT = 2.0  # of a step
SOON = 20.0  # seconds in which a hang is told on a busy machine; twice the timeout on an idle one


class Ranks:
    """The processes and what they printed, which goes to files: a stopped one must not fill a pipe."""

    def __init__(self, folder: Path, how: str, ranks: int, abort: bool, timeout: float) -> None:
        self.folder = folder
        self.processes = []
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        for rank in range(ranks):
            arguments = [str(folder), str(rank), str(ranks), how, str(timeout), str(int(abort))]
            with (folder / f"output{rank}").open("w") as output:
                process = subprocess.Popen(
                    [sys.executable, str(SCRIPT), *arguments], env=environment, stdout=output, stderr=subprocess.STDOUT
                )
            self.processes.append(process)

    def output(self, rank: int) -> str:
        return (self.folder / f"output{rank}").read_text()

    def outputs(self) -> str:
        return "\n".join(f"rank {rank}:\n{self.output(rank)}" for rank in range(len(self.processes)))

    def wait_for(self, path: str) -> None:
        end = time.monotonic() + 90  # PyTorch is imported on a busy machine
        while not (self.folder / path).exists():
            assert time.monotonic() < end, self.outputs()
            time.sleep(0.02)

    def wait_for_text(self, text: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while text not in self.outputs():
            assert time.monotonic() < end, self.outputs()
            time.sleep(0.05)


@contextmanager
def started(folder: Path, how: str, *, ranks: int = 2, abort: bool, timeout: float = TIMEOUT) -> Iterator[Ranks]:
    group = Ranks(folder, how, ranks, abort, timeout)
    try:
        yield group
    finally:
        for process in group.processes:
            process.kill()
            process.wait()


def test_a_stopped_rank_is_named_by_the_one_that_waits_for_it(tmp_path: Path) -> None:
    with started(tmp_path, "stop", abort=True) as ranks:
        ranks.wait_for("hangs")
        assert ranks.processes[0].wait(timeout=SOON) == 1
        report = ranks.output(0)
        told = re.search(r"Rank 0 hangs: iteration \d+ has taken ([\d.]+) s \(more than 2 s\)", report)
        assert told and TIMEOUT <= float(told[1]) < 2 * TIMEOUT, report
        assert "The others seem to wait for rank 1, which shows no sign of life" in report
        (line,) = [line for line in report.splitlines() if "NO SIGN OF LIFE" in line]
        assert line.split()[0] == "1"
        if sys.platform == "linux":
            assert "its process is stopped" in line
        assert "Rank 1 did not tell its stacks" in report
        assert "Batch at hand: image_id " in report and "in run_step" in report and "Thread MainThread" in report
        assert ranks.processes[1].poll() is None  # whoever started it has to kill it
        collectives = list(tmp_path.glob("*-collectives/nccl_trace_rank_0"))
        assert f"Flight recorder: {collectives[0]}, pending collectives: gloo:all" in report


@pytest.mark.parametrize(
    ("how", "place"),
    [("loader", "in fetch of iteration 3"), ("hook", "in after_step of hook SleepyHook of iteration 3")],
)
def test_a_rank_that_sleeps_is_named_with_its_place_and_all_end(tmp_path: Path, how: str, place: str) -> None:
    with started(tmp_path, how, abort=True) as ranks:
        ranks.wait_for("hangs")
        assert [process.wait(timeout=SOON) for process in ranks.processes] == [1, 1]
        text = ranks.outputs()
        assert f"The others seem to wait for rank 1, {place}\n" in text, text
        assert "sleeps_for_ever" in text and "_engine_run_backward" in text  # of both ranks
        assert [p for p in tmp_path.iterdir() if "watchdog" in p.name and not p.name.endswith("-collectives")] == []


def test_without_abort_it_goes_on_waiting(tmp_path: Path) -> None:
    with started(tmp_path, "loader", abort=False) as ranks:
        ranks.wait_for("hangs")
        ranks.wait_for_text("The others seem to wait for rank 1, in fetch", SOON)
        time.sleep(1)
        assert [process.poll() for process in ranks.processes] == [None, None]


def test_a_slow_first_step_and_slow_evaluations_are_no_hang(tmp_path: Path) -> None:
    with started(tmp_path, "slow", abort=True) as ranks:
        assert [process.wait(timeout=90) for process in ranks.processes] == [0, 0], ranks.outputs()
        assert "hangs" not in ranks.outputs()
        assert [p.name for p in tmp_path.iterdir() if "watchdog" in p.name] == []


@pytest.mark.slow
def test_the_one_among_four(tmp_path: Path) -> None:
    with started(tmp_path, "stop", ranks=4, abort=True) as ranks:
        ranks.wait_for("hangs")
        codes = [ranks.processes[rank].wait(timeout=2 * SOON) for rank in (0, 2, 3)]
        assert codes == [1, 1, 1]
        blame = "The others seem to wait for rank 1, which shows no sign of life"
        assert sum(blame in ranks.output(rank) for rank in (0, 2, 3)) == 1  # one tells everything
