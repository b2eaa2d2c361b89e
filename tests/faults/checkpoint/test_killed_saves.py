"""Real processes, killed in the middle of saving; see killed_saves.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("killed_saves.py")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def killed(kills: int, seed: int = 0) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROGRAM), f"--kills={kills}", f"--seed={seed}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout))


def test_a_few_kills() -> None:
    counts = killed(6)
    assert counts["kills"] == 6 and counts["iterations"] >= 5


@pytest.mark.slow
def test_two_hundred_kills() -> None:
    counts = killed(200, seed=1)
    print(counts)
    assert counts["kills"] == 200 and counts["within_a_save"] > 0
