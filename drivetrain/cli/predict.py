"""``drivetrain predict``: draw what a checkpoint sees in images, videos, folders of them and globs."""

from __future__ import annotations

import argparse
import glob
from collections.abc import Mapping, Sequence
from pathlib import Path

from drivetrain.engine.defaults.arguments import Parser
from drivetrain.errors import DatasetError, OutputError, UserInputError

from .drawings import draw_all, drawing_names
from .folders import undone_on_bad_input
from .options import help_formatter

__all__ = ["find_inputs", "run"]

_IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}

_EPILOG = """\
example:
  Train for a minute, then draw what came out into demo_output/drawn:
    drivetrain demo --max-iter 100 --output demo_output
    drivetrain predict demo_output/model_final.pth demo_output/data/images/val --output demo_output/drawn
  Videos become videos; reading them needs one more library, pip install 'drivetrain[video]':
    drivetrain predict output/first/model_best.pth street.mp4 --batch-size 4
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    result = Parser(
        prog="drivetrain predict",
        description="Draw boxes, names and scores of what a checkpoint sees, and write them to predictions.json.",
        epilog=_EPILOG,
        formatter_class=help_formatter(),
    )
    result.add_argument("checkpoint", help="a checkpoint saved by a training")
    result.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="images, videos, folders of them, or globs in quotes"
    )
    result.add_argument("--output", default="predictions", metavar="DIR", help="where drawings go (%(default)s)")
    result.add_argument("--score", type=float, default=0.5, help="draw what has at least this score (%(default)s)")
    result.add_argument("--batch-size", type=int, default=1, metavar="N", help="images or frames per call of the model")
    result.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="config keys to change")
    return result


def find_inputs(inputs: Sequence[str]) -> list[Path]:
    """The files that arguments name: files as they are, folders' images and videos, and what globs match; sorted.

    Raises:
        DatasetError: an argument names no file.
    """
    from drivetrain.engine.defaults.video import is_video

    found: dict[Path, None] = {}
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            matches = [p for p in sorted(path.iterdir()) if p.suffix.lower() in _IMAGES or is_video(p)]
        elif path.is_file():
            matches = [path]
        else:
            matches = [Path(p) for p in sorted(glob.glob(text, recursive=True)) if Path(p).is_file()]
        if not matches:
            reason = "the folder holds no images and no videos" if path.is_dir() else "there is no such file"
            raise DatasetError(f"{text!r} gives nothing to predict on: {reason}")
        found.update(dict.fromkeys(matches))
    return list(found)


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    if not 0 <= args.score <= 1:
        raise UserInputError(f"--score {args.score} must be between 0 and 1")
    if args.batch_size < 1:
        raise UserInputError(f"--batch-size {args.batch_size} must be at least 1")
    folder = Path(args.output)
    targets = drawing_names(find_inputs(args.inputs), folder)
    _check_distinct(targets, folder)
    from drivetrain.engine.defaults.predictor import DefaultPredictor

    predictor = DefaultPredictor.from_checkpoint(args.checkpoint, args.set)
    with undone_on_bad_input(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"--output {folder}: the folder cannot be made: {error.strerror or error}") from error
        drawn = draw_all(predictor, targets, folder / "predictions.json", args.score, args.batch_size)
    seen = f"{drawn.objects} objects with a score of {args.score} or more in " if drawn.has_objects else ""
    print(f"{seen}{drawn.where}: {folder}")
    return 0


def _check_distinct(targets: Mapping[Path, Path], folder: Path) -> None:
    """Refuse to draw over the inputs themselves."""
    sources = {path.resolve() for path in targets}
    for target in targets.values():
        if target.resolve() in sources:
            raise OutputError(f"--output {folder}: drawing would overwrite the input {target}; choose another folder")
