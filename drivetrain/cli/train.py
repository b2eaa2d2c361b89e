"""``drivetrain train``: train a model on your images, from a config file or from a few options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from drivetrain.engine.defaults.arguments import default_argument_parser
from drivetrain.errors import ConfigError

from .options import add_dataset_options, apply_datasets, help_formatter

__all__ = ["build_config", "run", "train"]

_EPILOG = """\
examples:
  Train a tiny detector (0.6 million parameters) that learns on a CPU, on images with COCO annotations:
    drivetrain train --train-json train.json --train-images images --val-json val.json --val-images images \\
        --model fcos_tiny --max-iter 3000 --output output/first

  Train from a config file, change a key on the way, continue where it stopped:
    drivetrain train --config-file recipes/bccd_tiny.yaml --resume SOLVER.BASE_LR=0.0005

'drivetrain demo' makes a dataset of its own and trains on it; 'drivetrain config --keys' lists all config keys.
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments: those of every training script, and short ways to datasets, model and length."""
    result = default_argument_parser(epilog=_EPILOG)
    result.prog = "drivetrain train"
    result.description = "Train a model on your images."
    result.formatter_class = help_formatter()
    add_dataset_options(result)
    group = result.add_argument_group("short ways to config keys")
    group.add_argument("--model", metavar="NAME", help="MODEL.NAME; without a config file, chooses good settings too")
    group.add_argument("--max-iter", type=int, metavar="N", help="SOLVER.MAX_ITER")
    group.add_argument("--output", metavar="DIR", help="OUTPUT_DIR")
    return result


def build_config(args: argparse.Namespace) -> Any:
    """The config that the arguments describe.

    Raises:
        ConfigError: something in it is wrong; every problem is named.
    """
    from drivetrain.engine.defaults.config import get_cfg
    from drivetrain.engine.defaults.quickstart import quickstart

    cfg = get_cfg()
    if args.config_file:
        cfg.merge_from_file(args.config_file)
        if args.model:
            cfg.MODEL.NAME = args.model
        if args.max_iter is not None:
            cfg.SOLVER.MAX_ITER = args.max_iter
    else:
        quickstart(cfg, args.model or "fcos_tiny", args.max_iter)
    if args.output:
        cfg.OUTPUT_DIR = args.output
    apply_datasets(cfg, args)
    cfg.merge_from_list(args.opts)
    if not cfg.DATASETS.TRAIN and not args.eval_only:
        raise ConfigError(
            "there is nothing to train on: give --train-json and --train-images, or a config file with DATASETS.TRAIN"
        )
    cfg.freeze()
    return cfg


def run(argv: Sequence[str]) -> int:
    """Run the command; see :func:`drivetrain.cli.main.main` for the exit code."""
    args = parser().parse_args(argv)
    cfg = build_config(args)
    from drivetrain.engine.launcher import launch

    launch(
        train,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(cfg, args),
    )
    return 0


def train(cfg: Any, args: argparse.Namespace) -> Any:
    """Train (or, with ``--eval-only``, evaluate) in this process, then show what came out.

    Returns:
        The evaluation's results.

    Raises:
        UserInputError: the config, a file or a folder is wrong; before iteration 0.
    """
    from drivetrain.engine.defaults.data import resolve_config
    from drivetrain.engine.defaults.setup import default_setup, make_output_dir
    from drivetrain.engine.defaults.trainer import DefaultTrainer
    from drivetrain.runtime import comm

    from .report import show_results

    resolve_config(cfg)  # before a folder or a log file is made
    make_output_dir(cfg.OUTPUT_DIR)
    if not (args.resume or args.eval_only):
        _check_fresh(cfg.OUTPUT_DIR)
    default_setup(cfg, args)
    if args.eval_only:
        from .eval import evaluate

        return evaluate(cfg)
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    if trainer.start_iter >= trainer.max_iter:
        raise ConfigError(
            f"no iteration is left: the checkpoint in {cfg.OUTPUT_DIR} has finished iteration {trainer.start_iter - 1} "
            f"and SOLVER.MAX_ITER is {trainer.max_iter}; set SOLVER.MAX_ITER higher to go on"
        )
    if comm.is_main_process() and sys.stdout.isatty():
        trainer.register_hooks([_progress(trainer.max_iter)])
    results = trainer.train()
    if comm.is_main_process():
        show_results(trainer, results)
    return results


def _check_fresh(output_dir: str) -> None:
    """Refuse to write over another training."""
    from drivetrain.checkpoint import CheckpointFolder

    if CheckpointFolder(output_dir).files():
        raise ConfigError(
            f"OUTPUT_DIR={output_dir!r} holds the checkpoints of a training: add --resume to continue it, or choose "
            "another folder with --output"
        )


def _progress(max_iter: int) -> Any:
    """A hook that keeps a progress bar on the terminal up to date; it decides itself how often."""
    from drivetrain.engine.hooks import PeriodicWriter
    from drivetrain.events.writers import ProgressBar

    return PeriodicWriter([ProgressBar(max_iter)], period=1)
