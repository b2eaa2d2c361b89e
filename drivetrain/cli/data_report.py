"""What ``drivetrain data inspect`` finds, and how it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .terminal import printable

if TYPE_CHECKING:
    from drivetrain.data.formats.defects import DefectReport
    from drivetrain.data.formats.entry import ReadDataset
    from drivetrain.data.formats.sources import Source
    from drivetrain.data.inspection import Inspection

__all__ = ["inspect_source", "print_inspection"]

_MOST_MAPS = 2000
_MOST_CLASSES = 60  # rows of the table; all are in the JSON
_MOST_GROUPS = 5


def inspect_source(
    source: Source, report: DefectReport, *, quick: bool = False
) -> tuple[ReadDataset | None, Inspection | None]:
    """Read a dataset, check its files, and count what is in it.

    Args:
        source: where it lies.
        report: gets every defect.
        quick: open no image and no label map.

    Returns:
        The data and what is in it, as far as it could be read.
    """
    from drivetrain.data.formats.coco_panoptic import check_panoptic_maps
    from drivetrain.data.formats.sem_seg import check_label_maps
    from drivetrain.data.formats.sources import read_source
    from drivetrain.data.inspection import check_image_files, duplicate_images, inspect_dataset

    read = read_source(source, report)
    if read is None or not read.records:
        return None, None
    if not quick:
        if source.format in ("coco", "coco_panoptic", "voc"):  # of the others the sizes are those of the files
            check_image_files(read.records, report)
        names = read.metadata.get("stuff_classes")
        if source.format == "coco_panoptic":
            check_panoptic_maps(read.records, report, _MOST_MAPS)
        elif source.format == "sem_seg":
            classes = len(names) if names else None
            check_label_maps(read.records, classes, read.metadata["ignore_label"], report, _MOST_MAPS)
    found = inspect_dataset(read, most_maps=0 if quick else _MOST_MAPS)
    if not quick:
        found.repeated_images = duplicate_images(read.records)
    return read, found


def print_inspection(source: Source, found: Inspection | None, report: DefectReport) -> None:
    """Print tables of what is in a dataset, and its defects."""
    from rich.console import Console

    console = Console(width=120, soft_wrap=False, highlight=False)
    split = f", split {source.split}" if source.split else ""
    print(printable(f"{source.path} ({source.format}{split})"))
    if found is not None:
        for line in _lines(found):
            print(printable(line))
        console.print(_class_table(found))
        if found.box_sides:
            console.print(_size_table(found))
            scales = ", ".join(f"{count:,} {name}" for name, count in found.box_scales.items())
            print(f"{scales} (COCO's areas: below 32 x 32 pixels, below 96 x 96, larger)")
        if len(found.classes) > _MOST_CLASSES:
            print(f"... and {len(found.classes) - _MOST_CLASSES} more classes; --json has all")
    print(printable(f"defects:\n{report.to_text()}" if report else "no defects", keep="\n"))


def _lines(found: Inspection) -> list[str]:
    sizes = ", ".join(f"{w} x {h} ({count:,})" for (w, h), count in found.image_sizes[:5])
    more = found.more_sizes + max(0, len(found.image_sizes) - 5)
    parts = [_count(found.objects, "object")] if found.objects else []
    named = (("with a mask", found.masks), ("with keypoints", found.keypoints), ("as a crowd", found.crowds))
    parts += [f"{count:,} {what}" for what, count in named if count]
    lines = [_count(found.images, "image") + (f": {', '.join(parts)}" if parts else "")]
    lines.append(f"image sizes (width x height): {sizes}{f', and {more:,} others' if more else ''}")
    if found.label_maps:
        lines.append(f"classes counted in {found.label_maps:,} label maps")
    if found.empty:
        lines.append(f"{_count(found.empty, 'image')} without an object: {_some(found.empty_examples, found.empty)}")
    if found.repeated_objects:
        lines.append(
            f"with the class and box of another one of their image: {_count(found.repeated_objects, 'object')}"
        )
    groups = found.repeated_images[:_MOST_GROUPS]
    lines += [f"the same image {len(group)} times: {_some(group, len(group))}" for group in groups]
    if len(found.repeated_images) > _MOST_GROUPS:
        lines.append(f"... and {len(found.repeated_images) - _MOST_GROUPS:,} more groups of equal images")
    return lines


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _some(names: Sequence[str], total: int) -> str:
    return ", ".join(names[:3]) + (", ..." if total > 3 else "")


def _class_table(found: Inspection) -> Any:
    """A row for each class."""
    columns = ["class", "objects", "images", "share"] if found.objects else ["class", "images", "share"]
    table = _table(columns)
    for row in found.classes[:_MOST_CLASSES]:
        objects = [f"{row.objects:,}"] if found.objects else []
        table.add_row(_text(row.name), *objects, f"{row.images:,}", f"{row.share:.1%}")
    return table


def _size_table(found: Inspection) -> Any:
    """Quantiles of the boxes."""
    from drivetrain.data.inspection import QUANTILES

    table = _table(["boxes", *(f"{q:.0%}" for q in QUANTILES)])
    table.add_row("side, pixels (root of the area)", *(f"{v:.1f}" for v in found.box_sides))
    table.add_row("share of the image", *(f"{v:.2%}" for v in found.box_shares))
    table.add_row("width / height", *(f"{v:.2f}" for v in found.aspect_ratios))
    return table


def _table(columns: Sequence[str]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    return table


def _text(name: str) -> Any:
    from rich.text import Text

    return Text(printable(name))
