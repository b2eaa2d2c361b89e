"""``drivetrain eval``: evaluate a checkpoint."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from drivetrain.engine.defaults.arguments import OverrideParser
from drivetrain.errors import ConfigError

from .options import add_dataset_options, add_file_options, apply_datasets, help_formatter

__all__ = ["evaluate", "run"]

_EPILOG = """\
example:
  Train for a minute, then evaluate what came out, on the images its training was evaluated on:
    drivetrain demo --max-iter 100 --output demo_output
    drivetrain eval demo_output/model_final.pth
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    result = OverrideParser(
        prog="drivetrain eval",
        description="Evaluate a checkpoint, by default as its training did.",
        epilog=_EPILOG,
        formatter_class=help_formatter(),
    )
    result.add_argument("--checkpoint", metavar="FILE", help="a checkpoint; may also be given without the flag")
    add_file_options(result)
    add_dataset_options(result, splits=("val",))
    result.add_argument("--json", metavar="FILE", help="write the figures to this file")
    result.add_overrides()
    return result


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    if args.checkpoint is None and args.opts and "=" not in args.opts[0]:
        args.checkpoint = args.opts.pop(0)
    if args.checkpoint is None:
        raise ConfigError("no checkpoint is given: drivetrain eval model_final.pth")
    from drivetrain.checkpoint.files import atomic_write
    from drivetrain.engine.defaults.config import get_cfg
    from drivetrain.engine.defaults.weights import config_of_checkpoint
    from drivetrain.runtime.logging import setup_logger

    setup_logger()
    if args.config_file:
        cfg = get_cfg()
        cfg.merge_from_file(args.config_file)
    else:
        cfg, _ = config_of_checkpoint(args.checkpoint, get_cfg())
    cfg.MODEL.WEIGHTS = args.checkpoint
    apply_datasets(cfg, args)
    cfg.merge_from_list(args.opts)
    results = evaluate(cfg)
    if args.json:
        text = json.dumps(results, indent=1)
        atomic_write(args.json, lambda file: file.write(text.encode()))
    return 0


def evaluate(cfg: Any) -> Any:
    """Evaluate ``MODEL.WEIGHTS`` on ``DATASETS.TEST`` and print the figures.

    Raises:
        UserInputError: there is nothing to evaluate on, or the weights do not fit.
    """
    from drivetrain.engine.defaults.data import resolve_config
    from drivetrain.engine.defaults.trainer import DefaultTrainer
    from drivetrain.engine.defaults.weights import load_for_inference

    if not cfg.DATASETS.TEST:
        raise ConfigError("there is nothing to evaluate on: give --val-json and --val-images, or set DATASETS.TEST")
    if not cfg.MODEL.WEIGHTS:
        raise ConfigError("there are no weights to evaluate: give a checkpoint, or set MODEL.WEIGHTS")
    cfg = resolve_config(cfg)
    model = DefaultTrainer.build_model(cfg)
    load_for_inference(model, cfg.MODEL.WEIGHTS)
    return DefaultTrainer.test(cfg, model)
