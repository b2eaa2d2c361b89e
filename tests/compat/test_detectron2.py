"""The import for notebooks."""

from __future__ import annotations

import subprocess
import sys


def test_importing_it_is_enough() -> None:
    program = "import drivetrain.compat.detectron2, detectron2; print(detectron2.__version__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "0.6\n"
