"""``drivetrain data``: look into datasets, convert them, cut them into splits, and draw some to begin with."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetrain.engine.defaults.arguments import Parser
from drivetrain.errors import ConfigError, DatasetError, OutputError

from .data_shapes import add_shapes, draw_shapes
from .options import help_formatter
from .terminal import printable

if TYPE_CHECKING:
    from drivetrain.data.conversion import Conversion
    from drivetrain.data.formats.defects import DefectReport
    from drivetrain.data.formats.sources import Source

__all__ = ["run"]

_DATA = "drivetrain demo --max-iter 10 --images 100 --output demo_output"
_FORMATS = ("coco", "coco_panoptic", "voc", "yolo", "sem_seg", "folder")

_EPILOG = f"""\
examples:
  A small dataset, what is in it, and 16 of its images with their annotations drawn:
    {_DATA}
    drivetrain data inspect demo_output/data/instances_train.json --output sheet.jpg

'drivetrain data inspect --help' and so on tell more, with an example of each.
"""
_INSPECT = f"""\
examples:
  Counts, sizes and defects, a sheet of 9 images, and everything as JSON:
    {_DATA}
    drivetrain data inspect demo_output/data/instances_train.json --output sheet.jpg --samples 9 --json report.json

A dataset with errors is described as far as it can be read, and the exit code is 2.
"""
_CONVERT = f"""\
examples:
  Two COCO files to one YOLO dataset with a data.yaml, and its validation images to Pascal VOC:
    {_DATA}
    drivetrain data convert train=demo_output/data/instances_train.json val=demo_output/data/instances_val.json \\
        --to yolo --output shapes_yolo
    drivetrain data convert val=shapes_yolo --to voc --output shapes_voc

From coco to coco everything in the files is kept but annotations that cannot be used, the parts of boxes outside their
images, and the images' folders; the same of coco_panoptic. Other formats get classes, boxes, masks and keypoints as far
as they have a place for them (what is lost is counted and told); of all else, such as areas, licences, attributes and
supercategories, nothing is kept.
"""
_SPLIT = f"""\
examples:
  Three files for training, validation and test; the images stay where they are:
    {_DATA}
    drivetrain data split demo_output/data/instances_train.json --fractions 0.8 0.1 0.1 --output splits

  Images that have the same text before the first '_' in their names stay together:
    drivetrain data split frames.json --fractions train=0.9 val=0.1 --group-by '^[^_]+' --output splits

The splits of a coco file hold all that it says. Those of other formats are written as 'drivetrain data convert' does.
"""
_SHAPES = """\
examples:
  Everything that recipes/shapes_*.yaml learn from, in half a minute, and a training that takes some minutes:
    drivetrain data shapes shapes
    drivetrain train --config-file recipes/shapes_ssd.yaml --output output/shapes_ssd

  A few images for semantic segmentation:
    drivetrain data shapes few_shapes --task segmentation --train 20 --val 5
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    result = Parser(
        prog="drivetrain data",
        description="Look into datasets, convert them to other formats, cut them into splits, and draw small ones.",
        epilog=_EPILOG,
        formatter_class=help_formatter(),
    )
    actions = result.add_subparsers(dest="action", required=True, metavar="inspect | convert | split | shapes")
    _add_inspect(_action(actions, "inspect", "count what is in a dataset, list its defects, draw samples", _INSPECT))
    _add_convert(_action(actions, "convert", "write a dataset in another format", _CONVERT))
    _add_split(_action(actions, "split", "cut a dataset into training, validation and test images", _SPLIT))
    add_shapes(_action(actions, "shapes", "draw small datasets of shapes, for every task", _SHAPES))
    return result


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    actions = {"inspect": _inspect, "convert": _convert, "split": _split, "shapes": draw_shapes}
    return actions[args.action](args)


def _action(actions: Any, name: str, text: str, epilog: str) -> argparse.ArgumentParser:
    description = f"{text[0].upper()}{text[1:]}."
    made: argparse.ArgumentParser = actions.add_parser(
        name, help=text, description=description, epilog=epilog, formatter_class=help_formatter()
    )
    return made


def _add_inspect(result: argparse.ArgumentParser) -> None:
    result.add_argument("source", metavar="DATASET", help="an annotation file, a data.yaml, or a dataset's folder")
    _add_place(result)
    result.add_argument("--output", metavar="FILE", help="draw samples into this picture (.jpg or .png)")
    result.add_argument("--samples", type=int, default=16, metavar="N", help="how many images are drawn (%(default)s)")
    result.add_argument("--seed", type=int, default=0, help="of the choice of these images (%(default)s)")
    result.add_argument("--json", metavar="FILE", help="write everything that was found to this file")
    result.add_argument(
        "--quick", action="store_true", help="do not open the images to compare their sizes and content"
    )


def _add_convert(result: argparse.ArgumentParser) -> None:
    result.add_argument(
        "sources",
        nargs="+",
        metavar="[SPLIT=]DATASET",
        help="as for inspect; several are the splits of one dataset, as train=a.json val=b.json; the name is also that "
        "of the split to read, unless --split tells another",
    )
    result.add_argument("--to", required=True, choices=_FORMATS, help="the format to write")
    result.add_argument("--output", required=True, metavar="DIR", help="a new folder")
    _add_place(result)
    _add_image_files(result, ("copy", "link", "none"))


def _add_split(result: argparse.ArgumentParser) -> None:
    result.add_argument("source", metavar="DATASET", help="as for inspect")
    result.add_argument(
        "--fractions",
        nargs="+",
        required=True,
        metavar="[SPLIT=]SHARE",
        help="two or more shares that add up to 1: 0.8 0.2 are those of train and val, a third one that of test",
    )
    result.add_argument("--output", required=True, metavar="DIR", help="a new folder")
    result.add_argument("--seed", type=int, default=0, help="of what is left to chance (%(default)s)")
    result.add_argument("--group-by", metavar="REGEX", help="images whose names have the same match stay together")
    _add_place(result)
    _add_image_files(result, ("copy", "link"))


def _add_place(result: argparse.ArgumentParser) -> None:
    """Options that say what the dataset is and where its parts are."""
    group = result.add_argument_group("the dataset")
    group.add_argument("--format", choices=_FORMATS, help="its format (default: what it looks like)")
    group.add_argument("--images", metavar="DIR", help="folder of the images (default: looked for near the file)")
    group.add_argument("--labels", metavar="DIR", help="folder of label maps or panoptic PNGs (default: likewise)")
    group.add_argument("--split", metavar="NAME", help="which of several splits (default: the training images)")
    group.add_argument(
        "--classes", metavar="NAMES", help="class names in order: a file with one on each line, or a,b,c"
    )


def _add_image_files(result: argparse.ArgumentParser, choices: Sequence[str]) -> None:
    result.add_argument(
        "--image-files",
        choices=choices,
        default="copy",
        help=f"what becomes of the images: {', '.join(choices)}; link makes hard links (%(default)s)",
    )


def _source(path: str, args: argparse.Namespace, split: str | None = None) -> Source:
    from drivetrain.data.formats.sources import find_source

    return find_source(
        path,
        format=args.format,
        images=args.images,
        labels=args.labels,
        split=args.split or split,
        classes=_classes(args.classes),
    )


def _classes(text: str | None) -> list[str] | None:
    if text is None:
        return None
    if os.path.isfile(text):
        from drivetrain.data.formats.class_names import read_class_names

        return read_class_names(text)
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise ConfigError(f"--classes {text!r} must be a file, or names with commas between them, each once")
    return names


def _inspect(args: argparse.Namespace) -> int:
    if args.samples < 1:
        raise ConfigError(f"--samples {args.samples} must be at least 1")
    if args.output and Path(args.output).suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise OutputError(f"--output {args.output} must end with .jpg or .png")
    source = _source(args.source, args)
    from drivetrain.data.formats.defects import DefectReport, Severity

    from .data_report import inspect_source, print_inspection

    report = DefectReport(source.path)
    read, found = inspect_source(source, report, quick=args.quick)
    print_inspection(source, found, report)
    if args.json:
        _write_json(args.json, source, found.as_dict() if found else None, report)
    if args.output and read is not None:
        from drivetrain.visualization import save_image

        from .samples import sample_sheet

        save_image(args.output, sample_sheet(read, args.samples, args.seed))
        print(f"samples: {args.output}")
    errors = report.count(Severity.ERROR)
    if errors:
        raise DatasetError(f"{source.path!r} has {errors:,} error{'' if errors == 1 else 's'}, told above")
    return 0


def _write_json(path: str, source: Source, found: Mapping[str, Any] | None, report: DefectReport) -> None:
    from drivetrain.checkpoint.files import atomic_write

    rows = [dict(zip(("severity", "kind", "count", "example"), row, strict=True)) for row in report.rows()]
    content = {"source": source.path, "format": source.format, "split": source.split, "found": found, "defects": rows}
    try:
        atomic_write(Path(path), lambda file: file.write(json.dumps(content, indent=1).encode()))
    except OSError as err:
        if isinstance(err, OutputError):
            raise
        raise OutputError(f"--json {path} cannot be written: {err.strerror or err}") from err


def _convert(args: argparse.Namespace) -> int:
    sources: dict[str, Source] = {}
    for text in args.sources:
        match = re.match(r"(\w+)=(.+)", text) if not os.path.exists(text) else None
        name, path = match.groups() if match else (None, text)
        source = _source(path, args, name)
        split = name or source.split_name
        if split in sources:
            raise ConfigError(f"two datasets are the split {split!r}: write train=DATASET, val=DATASET and so on")
        sources[split] = source
    from drivetrain.data.conversion import convert

    _print_written(convert(sources, args.to, args.output, image_files=args.image_files), args.to)
    return 0


def _split(args: argparse.Namespace) -> int:
    source = _source(args.source, args)
    from drivetrain.data.splitting import split_dataset

    result = split_dataset(
        source,
        _fractions(args.fractions),
        args.output,
        seed=args.seed,
        group_by=args.group_by,
        image_files=args.image_files,
    )
    _print_written(result, source.format)
    if source.format == "coco":
        print(f"their images are where they were: {printable(source.images)}")
    return 0


def _fractions(texts: Sequence[str]) -> dict[str, float]:
    """Split's name -> share."""
    named = ("train", "val") if len(texts) == 2 else ("train", "val", "test")
    fractions: dict[str, float] = {}
    for number, text in enumerate(texts):
        name, _, share = text.rpartition("=")
        try:
            value = float(share)
        except ValueError:
            raise ConfigError(f"--fractions {text!r} is no share: write 0.8, or train=0.8") from None
        if not name and number >= len(named):
            raise ConfigError(f"--fractions has {len(texts)} shares: give those after the third a name, as extra=0.1")
        name = name or named[number]
        if name in fractions or not re.fullmatch(r"\w+", name):
            raise ConfigError(f"--fractions {text!r}: each split needs a name of its own, of letters and digits")
        fractions[name] = value
    return fractions


def _print_written(result: Conversion, target: str) -> None:
    for report in result.reports.values():
        if report:
            print(printable(str(report), keep="\n"))
    for what, count in result.losses.items():
        print(f"lost: {what}, of {count:,} object{'' if count == 1 else 's'}")
    images = ", ".join(f"{split} {count:,}" for split, count in result.images.items())
    print(printable(f"{target}, images: {images}; in {result.folder}"))
