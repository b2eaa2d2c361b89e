"""``drivetrain finetune``: start a training from the weights of another one, on the same or on other classes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from .options import add_dataset_options, apply_datasets
from .resume import folder_parser, take_argument

__all__ = ["build_config", "run"]

_EPILOG = """\
example:
  The demo's detector goes on learning on other images; layers that do not fit other classes begin anew:
    drivetrain demo --max-iter 100 --output demo_output
    drivetrain finetune demo_output/model_final.pth --output output/tuned --max-iter 50 SOLVER.BASE_LR=0.0002 \\
        --train-json demo_output/data/instances_val.json --train-images demo_output/data/images/val
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    result = folder_parser("finetune", "Start a training from a checkpoint's model, config and weights.", _EPILOG)
    result.usage = "drivetrain finetune CHECKPOINT --output DIR [options] [KEY=VALUE ...]"
    add_dataset_options(result)
    result.add_argument("--output", required=True, metavar="DIR", help="OUTPUT_DIR")
    result.add_argument("--max-iter", type=int, metavar="N", help="SOLVER.MAX_ITER (default: as in the checkpoint)")
    return result


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    from .train import repeatable, start

    with repeatable("drivetrain finetune", argv) as command:
        args = parser().parse_args(argv)
        args.command = command
        start(build_config(args), args, "finetune")
    return 0


def build_config(args: argparse.Namespace) -> Any:
    """The checkpoint's config, changed by the arguments and frozen.

    Raises:
        UserInputError: the checkpoint or an argument is wrong.
    """
    checkpoint = take_argument(args, "checkpoint to start from")
    from drivetrain.engine.defaults.config import get_cfg
    from drivetrain.engine.defaults.weights import config_of_checkpoint

    cfg, _ = config_of_checkpoint(checkpoint, get_cfg())
    cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS = args.output, checkpoint
    if args.train_json:
        cfg.MODEL.NUM_CLASSES = 0  # those of the new data
    if args.max_iter is not None:
        cfg.SOLVER.MAX_ITER = args.max_iter
    apply_datasets(cfg, args)
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    return cfg
