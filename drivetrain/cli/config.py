"""``drivetrain config``: the config keys with their meaning, or a config in full."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence

from drivetrain.engine.defaults.arguments import OverrideParser
from drivetrain.errors import ConfigError, did_you_mean

from .options import add_file_options, help_formatter

__all__ = ["run"]

_EPILOG = """\
examples:
  All keys of the solver, each with type, default and meaning:
    drivetrain config --keys SOLVER

  The config that a file and overrides make, in full:
    drivetrain config SOLVER.BASE_LR=0.01 MODEL.NAME retinanet_tiny
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    result = OverrideParser(
        prog="drivetrain config",
        description="Show the config keys, or a config in full.",
        epilog=_EPILOG,
        formatter_class=help_formatter(),
    )
    add_file_options(result)
    result.add_argument(
        "--keys", nargs="?", const="", metavar="TEXT", help="list the keys that contain TEXT (all without one)"
    )
    result.add_overrides()
    return result


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    from drivetrain.engine.defaults.config import get_cfg

    cfg = get_cfg()
    if args.keys is not None:
        infos = list(cfg.describe())
        chosen = [info for info in infos if args.keys.lower() in info.key.lower()]
        if not chosen:
            raise ConfigError(f"no key contains {args.keys!r}{did_you_mean(args.keys, [i.key for i in infos])}")
        for info in chosen:
            print(f"{info.key} ({info.type_text}) = {info.default!r}")
            print(textwrap.indent(textwrap.fill(info.doc, 100), "    "))
        return 0
    if args.config_file:
        cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.validate()
    print(cfg.dump(), end="")
    return 0
