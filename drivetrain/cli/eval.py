"""``drivetrain eval``: evaluate a checkpoint."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drivetrain.engine.defaults.arguments import OverrideParser
from drivetrain.errors import ConfigError, OutputError

from .folders import undone_on_bad_input
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
    from drivetrain.engine.defaults.config import get_cfg
    from drivetrain.engine.defaults.weights import config_of_checkpoint
    from drivetrain.runtime.logging import setup_logger

    setup_logger()
    if args.config_file:
        cfg = get_cfg()
        cfg.merge_from_file(args.config_file)
    else:
        cfg, _ = config_of_checkpoint(args.checkpoint, get_cfg())
        cfg.OUTPUT_DIR = str(Path(args.checkpoint).parent)  # a file does not say where else to write
    cfg.MODEL.WEIGHTS = args.checkpoint
    apply_datasets(cfg, args)
    cfg.merge_from_list(args.opts)
    if args.json:
        _check_folder(args.json)
    with undone_on_bad_input(Path(cfg.OUTPUT_DIR) / "inference"):
        results = evaluate(cfg)
    if args.json:
        _write_json(Path(args.json), results)
    return 0


def _check_folder(path: str) -> None:
    """Find out before the evaluation that its figures could not be written."""
    if Path(path).is_dir() or not os.access(Path(path).parent, os.W_OK):
        raise OutputError(f"--json {path} cannot be written: give a file in a folder that exists and is yours")


def _write_json(path: Path, results: Any) -> None:
    """Write the figures whole or not at all; those that are not numbers (nan) become null, as JSON knows no other."""
    from drivetrain.checkpoint.files import atomic_write

    text = json.dumps(_finite(results), indent=1)
    atomic_write(path, lambda file: file.write(text.encode()))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TRAIN = ()  # not needed, and maybe not on this machine
    cfg = resolve_config(cfg)
    model = DefaultTrainer.build_model(cfg)
    load_for_inference(model, cfg.MODEL.WEIGHTS)
    return DefaultTrainer.test(cfg, model)
