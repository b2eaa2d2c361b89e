"""``drivetrain predict``: draw what a checkpoint sees in images, folders of images and globs."""

from __future__ import annotations

import argparse
import glob
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from drivetrain.engine.defaults.arguments import Parser
from drivetrain.errors import DatasetError, OutputError, UserInputError

from .folders import undone_on_bad_input
from .options import help_formatter

__all__ = ["find_images", "run"]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}

_EPILOG = """\
example:
  Train for a minute, then draw what came out into demo_output/drawn:
    drivetrain demo --max-iter 100 --output demo_output
    drivetrain predict demo_output/model_final.pth demo_output/data/images/val --output demo_output/drawn
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
    result.add_argument("inputs", nargs="+", metavar="IMAGE", help="images, folders of images, or globs in quotes")
    result.add_argument("--output", default="predictions", metavar="DIR", help="where pictures go (%(default)s)")
    result.add_argument("--score", type=float, default=0.5, help="draw what has at least this score (%(default)s)")
    result.add_argument("--batch-size", type=int, default=1, metavar="N", help="images per call of the model")
    result.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="config keys to change")
    return result


def find_images(inputs: Sequence[str]) -> list[Path]:
    """The image files that arguments name: files as they are, folders' images, and what globs match; sorted.

    Raises:
        DatasetError: an argument names no image.
    """
    found: dict[Path, None] = {}
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            matches = [p for p in sorted(path.iterdir()) if p.suffix.lower() in _SUFFIXES]
        elif path.is_file():
            matches = [path]
        else:
            matches = [Path(p) for p in sorted(glob.glob(text, recursive=True)) if Path(p).is_file()]
        if not matches:
            reason = "the folder holds no images" if path.is_dir() else "there is no such file"
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
    images, folder = find_images(args.inputs), Path(args.output)
    _check_distinct(images, folder)
    from drivetrain.engine.defaults.predictor import DefaultPredictor

    predictor = DefaultPredictor.from_checkpoint(args.checkpoint, args.set)
    with undone_on_bad_input(folder):
        entries = _write_all(predictor, images, folder, args)
    drawn = sum(len(entry["instances"]) for entry in entries)
    print(f"{drawn} objects with a score of {args.score} or more in {len(entries)} images: {folder}")
    return 0


def _check_distinct(images: Sequence[Path], folder: Path) -> None:
    """Refuse to draw over the images themselves."""
    sources = {path.resolve() for path in images}
    for target in _targets(images, folder):
        if target.resolve() in sources:
            raise OutputError(f"--output {folder}: drawing would overwrite the image {target}; choose another folder")


def _write_all(predictor: Any, images: Sequence[Path], folder: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Write all pictures and ``predictions.json``; its entries."""
    from drivetrain.checkpoint.files import atomic_write

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--output {folder}: the folder cannot be made: {error.strerror or error}") from error
    entries = list(_draw_all(predictor, images, folder, args.score, args.batch_size))
    text = json.dumps(entries, indent=1)
    atomic_write(folder / "predictions.json", lambda file: file.write(text.encode()))
    return entries


def _draw_all(
    predictor: Any, images: Sequence[Path], folder: Path, score: float, batch_size: int
) -> Iterator[dict[str, Any]]:
    """Predict on each image, write its picture, and yield its entry of predictions.json."""
    from drivetrain.data.images import read_image
    from drivetrain.visualization import draw_predictions, save_image

    names = list(predictor.metadata.get("thing_classes", []))
    outputs = predictor(iter(images), batch_size=batch_size)
    for path, target, output in zip(images, _targets(images, folder), outputs, strict=True):
        instances = output["instances"].to("cpu")
        picture = draw_predictions(read_image(str(path), "RGB"), instances, names, score_threshold=score)
        save_image(target, picture)
        kept = instances[instances.scores >= score]
        yield {
            "file_name": str(path),
            "picture": str(target),
            "height": instances.image_size[0],
            "width": instances.image_size[1],
            "instances": [
                {"category": names[c] if c < len(names) else str(c), "category_id": c, "score": s, "bbox_xyxy": box}
                for c, s, box in zip(
                    kept.pred_classes.tolist(), kept.scores.tolist(), kept.pred_boxes.tensor.tolist(), strict=True
                )
            ],
        }


def _targets(images: Sequence[Path], folder: Path) -> Iterator[Path]:
    """A picture's file for each image; images of one name in different folders do not overwrite each other."""
    used: set[str] = set()
    for path in images:
        name, count = path.stem, 2
        while name in used:
            name, count = f"{path.stem}_{count}", count + 1
        used.add(name)
        yield folder / f"{name}.jpg"
