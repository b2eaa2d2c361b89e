"""``drivetrain extend``: continue a training, finished or not, to more iterations than it was made for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .resume import continue_training, folder_parser

__all__ = ["run"]

_EPILOG = """\
example:
  A finished training goes on, from all its states; its learning rate follows the schedule of the new length:
    drivetrain demo --max-iter 100 --output demo_output
    drivetrain extend demo_output --max-iter 200
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    result = folder_parser("extend", "Continue a training to more iterations than it was made for.", _EPILOG)
    result.add_argument("--max-iter", type=int, metavar="N", help="SOLVER.MAX_ITER, larger than it was")
    return result


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    return continue_training(parser(), argv, "extend")
