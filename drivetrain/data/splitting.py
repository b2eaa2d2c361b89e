"""A dataset cut into training, validation and test images, with every class in each as far as that goes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from drivetrain.errors import DatasetError

from .conversion import Conversion, read_splits, write_dataset
from .formats.entry import ReadDataset
from .formats.new_folder import new_folder
from .formats.sources import Source

__all__ = ["assign", "group_names", "split_dataset"]

Array = np.ndarray[Any, Any]


def split_dataset(
    source: Source,
    fractions: Mapping[str, float],
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    group_by: str | None = None,
    image_files: str = "copy",
) -> Conversion:
    """Cut a dataset into splits and write them into a new folder, in its own format.

    Of a COCO file the splits are files ``instances_SPLIT.json`` with all that it holds, also what cannot be used; the
    images stay where they are, under the names that they have. Of other formats the images are put into the folder, and
    what :func:`drivetrain.data.conversion.convert` keeps of their annotations is kept.

    Args:
        source: the dataset.
        fractions: split's name -> its share of the images; together 1.
        folder: a new folder; it appears when everything is written.
        seed: of what is left to chance.
        group_by: a regular expression; images in whose names it finds the same text (its first group, if it has one)
            stay together.
        image_files: for formats other than COCO, ``"copy"`` or ``"link"`` (hard links).

    Raises:
        DatasetError: the source is unusable, or the fractions or the expression are not what they should be.
        OutputError: the folder exists, or cannot be written.
    """
    _check_fractions(fractions)
    splits, reports = read_splits({"all": source})
    read = splits["all"]
    names = [os.path.relpath(record["file_name"], read.image_root).replace(os.sep, "/") for record in read.records]
    groups = group_names(names, group_by)
    chosen = assign(_class_counts(read.records), groups, list(fractions.values()), seed)
    places = {split: np.flatnonzero(chosen == number).tolist() for number, split in enumerate(fractions)}
    empty = [split for split, found in places.items() if not found]
    if empty:
        raise DatasetError(
            f"{len(names)} images in {len(set(groups))} groups leave none for {', '.join(map(repr, empty))}: choose "
            "other fractions, or smaller groups"
        )
    if source.format == "coco":
        result = _split_coco(source, read, places, folder)
    else:
        parts = {s: replace(read, records=[read.records[i] for i in p]) for s, p in places.items()}
        result = write_dataset(parts, source.format, folder, image_files=image_files)
    result.reports = reports
    return result


def group_names(names: Sequence[str], pattern: str | None) -> list[str]:
    """For each name what the pattern finds in it; the name itself without a pattern.

    Raises:
        DatasetError: the pattern is no regular expression, or finds nothing in a name.
    """
    if pattern is None:
        return list(names)
    try:
        expression = re.compile(pattern)
    except re.error as err:
        raise DatasetError(f"--group-by {pattern!r} is not a regular expression: {err}") from err
    found = []
    for name in names:
        match = expression.search(name)
        text = match.group(1 if expression.groups else 0) if match else None
        if text is None:
            raise DatasetError(f"--group-by {pattern!r} finds nothing in the name {name!r}; it must fit every name")
        found.append(text)
    return found


def assign(counts: Array, groups: Sequence[str], fractions: Sequence[float], seed: int) -> Array:
    """A split for each image, such that each split gets its share of the images and of every class's objects.

    Iterative stratification: Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data" (2011). The
    class with the fewest groups left is dealt out first, each of its groups to the split that lacks most of it; ties go
    to the split that lacks most images, then to chance.

    Args:
        counts: (N, classes), the objects of each class in each image.
        groups: of each image; images of one group get the same split.
        fractions: share of each split; together 1.
        seed: of what is left to chance.

    Returns:
        (N,), places in ``fractions``.
    """
    index: dict[str, int] = {}
    group_of = np.array([index.setdefault(group, len(index)) for group in groups], dtype=np.int64)
    images = np.bincount(group_of, minlength=len(index)).astype(np.float64)
    totals = np.zeros((len(index), counts.shape[1]), dtype=np.float64)
    np.add.at(totals, group_of, counts)
    shares = np.asarray(fractions, dtype=np.float64)
    lacking_images = shares * images.sum()
    lacking = shares[:, None] * totals.sum(axis=0)
    rng = np.random.default_rng(seed)
    chance = rng.permutation(len(index))
    chosen = np.full(len(index), -1, dtype=np.int64)

    def place(group: int, wanted: Array) -> None:
        room = lacking_images >= min(0.5 * images[group], lacking_images.max())  # of none that is full already
        wanted = np.where(room, wanted, -np.inf)
        best = np.flatnonzero(wanted >= wanted.max() - 1e-9)
        best = best[lacking_images[best] >= lacking_images[best].max() - 1e-9]
        split = int(best[rng.integers(len(best))])
        chosen[group] = split
        lacking_images[split] -= images[group]
        lacking[split] -= totals[group]

    present = totals > 0
    while (left := present[chosen < 0].sum(axis=0)).any():
        label = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin())
        members = np.flatnonzero(present[:, label] & (chosen < 0))
        for group in members[np.lexsort((chance[members], -totals[members, label]))].tolist():
            place(group, lacking[:, label].copy())
    empty = np.flatnonzero(chosen < 0)
    for group in empty[np.lexsort((chance[empty], -images[empty]))].tolist():
        place(group, lacking_images.copy())
    return chosen[group_of]


def _check_fractions(fractions: Mapping[str, float]) -> None:
    values = list(fractions.values())
    if len(values) < 2 or not all(0 < value < 1 for value in values) or abs(sum(values) - 1) > 1e-6:
        shown = ", ".join(f"{split}={value:g}" for split, value in fractions.items())
        raise DatasetError(f"the fractions must be two or more numbers between 0 and 1 that add up to 1, not {shown}")


def _class_counts(records: Sequence[Mapping[str, Any]]) -> Array:
    """(N, classes): the objects of each class in each image; of label maps, which are not read, nothing."""
    labels = [
        [record["class_id"]]
        if "class_id" in record
        else [item["category_id"] for item in record.get("annotations", record.get("segments_info", ()))]
        for record in records
    ]
    counts = np.zeros((len(labels), 1 + max((label for row in labels for label in row), default=0)), dtype=np.int64)
    for i, row in enumerate(labels):
        np.add.at(counts[i], row, 1)
    return counts


def _split_coco(
    source: Source, read: ReadDataset, places: Mapping[str, Sequence[int]], folder: str | os.PathLike[str]
) -> Conversion:
    """One file for each split, with everything that the whole has: keys that are not known are kept."""
    content = json.loads(Path(source.path).read_bytes())
    images = {image["id"]: image for image in content["images"]}
    with new_folder(folder) as temporary:
        for split, chosen in places.items():
            ids = {read.records[i]["image_id"] for i in chosen}
            part = {
                **content,
                "images": [image for key, image in images.items() if key in ids],
                "annotations": [entry for entry in content["annotations"] if entry["image_id"] in ids],
            }
            target = temporary / f"instances_{split}.json"
            target.write_text(json.dumps(part, separators=(",", ":")), encoding="utf-8")
    return Conversion(os.fspath(folder), {split: len(chosen) for split, chosen in places.items()})
