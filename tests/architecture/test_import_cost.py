"""What importing parts of the package loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
{statement}
own = sorted(m for m in sys.modules if m == "drivetrain" or m.startswith("drivetrain."))
heavy = sorted(m for m in {heavy!r} if m in sys.modules)
print(len(own), ",".join(own), "|", ",".join(heavy))
"""
HEAVY = ("torchvision", "timm", "transformers", "pycocotools", "faster_coco_eval", "tensorboard", "rich", "PIL")


def loaded(statement: str) -> tuple[int, str, str]:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(statement=statement, heavy=HEAVY)],
        capture_output=True,
        text=True,
        check=True,
    )
    count, rest = result.stdout.split(" ", 1)
    own, heavy = rest.split("|")
    return int(count), own.strip(), heavy.strip()


def test_the_train_loop_is_light() -> None:
    count, own, heavy = loaded("import drivetrain.engine.train_loop")
    assert count <= 11, own
    assert not heavy


@pytest.mark.parametrize("package", ["drivetrain", "drivetrain.engine", "drivetrain.data", "drivetrain.modeling"])
def test_packages_resolve_names_lazily(package: str) -> None:
    count, own, heavy = loaded(f"import {package}")
    assert count <= 2, own
    assert not heavy
