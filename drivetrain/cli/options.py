"""Options that several commands share, and the config they make."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from drivetrain.errors import ConfigError

__all__ = ["add_dataset_options", "add_file_options", "add_run_options", "apply_datasets", "help_formatter"]


def help_formatter() -> Any:
    """The class that formats help texts."""
    from rich_argparse import RawDescriptionRichHelpFormatter

    class Formatter(RawDescriptionRichHelpFormatter):
        text_markup = False  # 'drivetrain[video]' is a text
        group_name_formatter = str  # COCO stays COCO

    return Formatter


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--config-file``."""
    parser.add_argument("--config-file", default="", metavar="FILE", help="path to a config file (yaml)")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--time-limit`` and ``--max-restarts``."""
    parser.add_argument(
        "--time-limit",
        type=float,
        metavar="SECONDS",
        help="save and exit with code 75 after so long, as at SIGTERM or Ctrl-C; 'drivetrain resume' goes on",
    )
    parser.add_argument(
        "--max-restarts",
        type=int,
        default=0,
        metavar="N",
        help="with several processes: when one fails, start all again from the last checkpoint, so often at most",
    )


def add_dataset_options(parser: argparse.ArgumentParser, splits: Sequence[str] = ("train", "val")) -> None:
    """Add ``--train-json``, ``--train-images`` and the like."""
    group = parser.add_argument_group("datasets in COCO format")
    for split in splits:
        group.add_argument(f"--{split}-json", metavar="FILE", help=f"annotations of the {split} images")
        group.add_argument(f"--{split}-images", metavar="DIR", help=f"folder of the {split} images")


def apply_datasets(cfg: Any, args: argparse.Namespace) -> None:
    """Write the datasets given by options into ``DATASETS``, by absolute paths, so that the saved config holds them.

    Raises:
        ConfigError: only one of a pair is given.
    """
    for split, key in (("train", "TRAIN"), ("val", "TEST")):
        json_file, images = getattr(args, f"{split}_json", None), getattr(args, f"{split}_images", None)
        if not json_file and not images:
            continue
        if not (json_file and images):
            given, missing = (f"--{split}-json", f"--{split}-images")[:: 1 if json_file else -1]
            raise ConfigError(f"{given} is given without {missing}: annotations and images belong together")
        entry = {"format": "coco", "json": os.path.abspath(json_file), "images": os.path.abspath(images)}
        cfg.DATASETS.REGISTER = {**cfg.DATASETS.get("REGISTER", {}), split: entry}
        cfg.DATASETS[key] = (split,)
