"""``drivetrain weights convert``: from detectron2's weights to a checkpoint of this package."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from drivetrain.engine.defaults.arguments import Parser

from .options import help_formatter
from .terminal import printable

if TYPE_CHECKING:
    from drivetrain.checkpoint.foreign.matching import Matching

__all__ = ["run"]

_EPILOG = """\
examples:
  A model of detectron2's zoo, known by its file name:
    drivetrain weights convert model_final_280758.pkl --output faster_rcnn.pth

  A model of one's own, with the config.yaml that detectron2 wrote beside it:
    drivetrain weights convert output/model_final.pth --output mine.pth --classes cat dog

  Nothing is downloaded. The pickle is read as data: nothing in it can run.
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    result = Parser(
        prog="drivetrain weights",
        description="Convert weights of detectron2 (.pkl of its model zoo, own .pth, .pkl of a backbone) into a "
        "checkpoint that drivetrain's predictor, evaluation and trainings take.",
        epilog=_EPILOG,
        formatter_class=help_formatter(),
    )
    result.add_argument("action", choices=["convert"], help="what to do")
    result.add_argument("file", metavar="FILE", help="the weights")
    result.add_argument("--output", required=True, metavar="FILE", help="the checkpoint to write (.pth)")
    result.add_argument("--config-file", default="", metavar="FILE", help="the model's config (yaml)")
    result.add_argument("--zoo", default="", metavar="NAME", help="the model's config, by its name in the model zoo")
    result.add_argument("--classes", nargs="+", default=(), metavar="NAME", help="the class names, in order")
    result.add_argument("--partial", action="store_true", help="write what fits of weights that lack tensors")
    result.add_argument("--all", action="store_true", help="list the tensors that match, too")
    return result


def run(argv: Sequence[str]) -> int:
    """Run the command.

    Raises:
        ConfigError: the config is missing or wrong.
        CheckpointError: the weights cannot be used, or lack tensors of the model.
    """
    args = parser().parse_args(argv)
    from drivetrain.checkpoint.foreign.matching import read_weights
    from drivetrain.compat.unused_keys import warn_of_unused_keys
    from drivetrain.compat.weights_convert import class_names_of, config_for, match_config, write_checkpoint

    source = Path(args.file)
    cfg = config_for(source, args.config_file, args.zoo)
    warn_of_unused_keys(cfg)
    names = class_names_of(cfg, args.classes)
    weights = read_weights(source)
    matching = match_config(cfg, weights)
    _print_table(matching, everything=args.all)
    partial = args.partial or weights.by_ending
    write_checkpoint(Path(args.output), matching, cfg, str(source), names=names, partial=partial)
    written = "the whole model" if matching.complete else "a part of the model, for a training to start from"
    print(printable(f"{args.output}: {written} ({matching.summary()})"))
    return 0


def _print_table(matching: Matching, *, everything: bool) -> None:
    """A row for each tensor; those of the usual kind only if ``everything`` is asked for."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"missing": "red", "other shape": "red", "unexpected": "yellow"}
    table = Table(box=None, pad_edge=False)
    for column in ("", "in the model", "shape", "in the file", "shape there"):
        table.add_column(column, overflow="fold")
    for row in matching.rows:
        if everything or row.status != "matched":
            shapes = ["" if shape is None else str(list(shape)) for shape in (row.shape, row.file_shape)]
            cells = (row.name, shapes[0], row.in_file, shapes[1])
            table.add_row(Text(row.status, style=colours.get(row.status, "")), *(Text(printable(c)) for c in cells))
    if table.row_count:
        Console(width=180, soft_wrap=False).print(table)
