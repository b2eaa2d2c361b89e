"""``drivetrain extend``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any


def test_a_finished_training_goes_on(command: Any, trained: Path) -> None:
    shutil.copytree(trained, command.folder / "out")
    code, out, err = command("extend", "out", "--max-iter", "6")
    assert code == 0, err
    assert "Extended from 4 to 6 iterations" in out
    assert out.count("Start inference") == 1  # at the new end; what was found at the old one is known
    assert "EvalHook has the results of iteration 3 from before" in out
    lines = [json.loads(line) for line in Path("out/metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "lr" in line] == [3, 5]
    assert [line["iteration"] for line in lines if "bbox/AP" in line] == [1, 3, 5]
    assert "MAX_ITER: 6" in Path("out/config.yaml").read_text()


def test_to_no_more_than_before(command: Any, trained: Path) -> None:
    shutil.copytree(trained, command.folder / "out")
    sentence = command.refused("extend", "out", "--max-iter", "4")
    assert "SOLVER.MAX_ITER is 4" in sentence and "made for 4 iterations" in sentence and "--max-iter" in sentence
    assert "made for 4" in command.refused("extend", "out")
