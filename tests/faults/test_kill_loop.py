"""SIGKILL at random moments: the training ends as if nothing had happened. See kill_loop.py for what is compared."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_loop.py")
ROOT = SCRIPT.parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3000, check=False)


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_nothing_diverges(ranks: str) -> None:
    result = run("--kills", "4", "--ranks", ranks, "--seed", "1")
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    assert "failed resumes 0, divergent 0" in result.stdout


@pytest.mark.parametrize("part", ["optimizer", "data_loader"])
def test_without_a_part_of_the_state_it_diverges(part: str) -> None:
    result = run("--kills", "3", "--without", part, "--seed", "2")
    assert result.returncode == 1, result.stdout + result.stderr[-3000:]
    assert "failed resumes 0" in result.stdout and "divergent 0" not in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("part", ["rng", "EMA", "buffers"])
def test_without_the_other_parts_too(part: str) -> None:
    result = run("--kills", "8", "--without", part)
    assert result.returncode == 1 and "failed resumes 0" in result.stdout, result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("ranks", ["1", "2"])
def test_two_hundred_times(ranks: str) -> None:
    result = run("--kills", "200", "--ranks", ranks)
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
