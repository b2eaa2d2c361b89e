"""Signals at every moment: the training exits in time and goes on as if nothing had happened. See signal_loop.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("signal_loop.py")
ROOT = SCRIPT.parents[2]


def run(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3000, check=False)
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    assert "problems 0" in result.stdout
    return result.stdout


def check(*moments: str) -> None:
    shown = run(*moments)
    for moment in moments:
        code = -9 if moment == "killed" else 75
        assert f"{moment}, 1 ranks: exit codes [{code}]" in shown, shown


def test_at_moments_of_a_training() -> None:
    check("evaluation", "precise_bn", "startup", "last")


@pytest.mark.slow
def test_at_other_moments() -> None:
    check("step", "figures", "save", "resume", "killed")


def test_to_one_of_two_ranks_within_an_evaluation() -> None:
    assert "evaluation, 2 ranks: exit codes [75, 75]" in run("--ranks", "2", "evaluation")


@pytest.mark.slow
def test_to_one_of_two_ranks_within_the_last_evaluation_and_within_its_figures() -> None:
    shown = run("--ranks", "2", "last", "figures")
    assert shown.count("exit codes [75, 75]") == 2, shown


@pytest.mark.slow
def test_to_one_of_two_ranks_in_a_step_and_to_both() -> None:
    shown = run("--ranks", "2", "step", "both")
    assert shown.count("exit codes [75, 75]") == 2, shown


@pytest.mark.slow
def test_fifty_times() -> None:
    shown = run("--random", "50")
    assert "50 random signals" in shown
    print(shown)
