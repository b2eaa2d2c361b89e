"""``drivetrain replay``: make the step again whose loss or gradient was not finite, and tell where it went wrong."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .options import help_formatter

if TYPE_CHECKING:
    from drivetrain.engine.defaults.replay import Replay

__all__ = ["run"]

_EPILOG = """\
example:
  A learning rate that is far too high ends a training; look at the batch that it ended with:
    drivetrain demo --max-iter 20 --output demo_output
    drivetrain train --config-file demo_output/config.yaml --output output/wild SOLVER.BASE_LR=1e30
    drivetrain replay output/wild/bad_batch_2.pt
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    result = argparse.ArgumentParser(
        prog="drivetrain replay",
        description="Make the step again whose loss or gradient was infinite or NaN.",
        epilog=_EPILOG,
        formatter_class=help_formatter(),
    )
    result.add_argument("file", help="bad_batch_<iteration>.pt of a training's output folder")
    result.add_argument("--device", default="cpu", help="where to compute (default: cpu)")
    return result


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    from drivetrain.engine.defaults.replay import replay

    print("\n".join(_lines(replay(args.file, device=args.device))))
    return 0


def _lines(found: Replay) -> list[str]:
    lines = [f"Iteration {found.iteration}"]
    if found.weights_iteration != found.iteration:
        lines.append(
            f"  with the weights of iteration {found.weights_iteration}: the step was left out, others followed"
        )
    lines += [
        f"  losses in the training: {_shown(found.recorded)}",
        f"  losses now:             {_shown(found.losses)}",
    ]
    if found.largest:
        lines.append(f"  largest weight before the step: {found.largest}")
    finite = not found.module and not found.gradients and all(map(math.isfinite, found.losses.values()))
    if finite:
        lines.append("  Everything is finite now: look at precision, device and libraries, which may differ.")
    if found.module:
        lines.append(f"  the first output that is not finite: {found.module}")
    if found.gradients:
        lines.append(f"  gradients that are not finite: {_listed(found.gradients)}")
    if found.images:
        lines.append("Each image alone:")
    for name, losses in found.images:
        bad = not all(map(math.isfinite, losses.values()))
        lines.append(f"  {'BAD ' if bad else 'ok  '}{name}  {_shown(losses)}")
    return lines


def _shown(losses: Mapping[str, float]) -> str:
    return "  ".join(f"{name}={value:.6g}" for name, value in losses.items())


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
