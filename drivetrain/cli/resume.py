"""``drivetrain resume``: continue a training that was interrupted."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drivetrain.engine.defaults.arguments import default_argument_parser
from drivetrain.errors import ConfigError

from .options import add_run_options, help_formatter

__all__ = ["config_of_folder", "continue_training", "folder_parser", "run", "take_argument"]

_EPILOG = """\
example:
  A training that was ended by Ctrl-C, by the cluster or by a crash goes on where its last checkpoint was made:
    drivetrain demo --max-iter 100 --output demo_output
    drivetrain train --config-file demo_output/config.yaml --output output/cut --time-limit 5
    drivetrain resume output/cut
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    return folder_parser("resume", "Continue a training from its last checkpoint, with its own config.", _EPILOG)


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    return continue_training(parser(), argv, "resume")


def continue_training(parser: argparse.ArgumentParser, argv: Sequence[str], begin: Any) -> int:
    """Train on in the folder that is the first argument."""
    from .train import repeatable, start

    with repeatable(parser.prog, argv) as command:
        args = parser.parse_args(argv)
        args.command = command
        cfg = config_of_folder(take_argument(args, "output folder of a training"))
        if getattr(args, "max_iter", None) is not None:
            cfg.SOLVER.MAX_ITER = args.max_iter
        cfg.merge_from_list(args.opts)
        cfg.freeze()
        start(cfg, args, begin)
    return 0


def folder_parser(command: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """The arguments of a command that works on the output folder of a training."""
    result = default_argument_parser(epilog=epilog)
    result.prog = f"drivetrain {command}"
    result.usage = f"drivetrain {command} DIR [options] [KEY=VALUE ...]"
    result.description = description
    result.formatter_class = help_formatter()
    add_run_options(result)
    return result


def take_argument(args: argparse.Namespace, what: str) -> str:
    """The first of the trailing arguments, which is no override.

    Raises:
        ConfigError: there is none.
    """
    if not args.opts or "=" in args.opts[0]:
        raise ConfigError(f"no {what} is given: name it as the first argument")
    return str(args.opts.pop(0))


def config_of_folder(folder: str) -> Any:
    """The config that a training left in its output folder, with ``OUTPUT_DIR`` as the folder is called now.

    Raises:
        ConfigError: it left none, or it cannot be read.
    """
    from drivetrain.engine.defaults.config import get_cfg
    from drivetrain.engine.defaults.weights import config_from_text

    path = Path(folder) / "config.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path} cannot be read ({reason}): give the output folder of a training") from error
    cfg = config_from_text(text, get_cfg())
    cfg.OUTPUT_DIR = folder
    return cfg
