"""Datasets as Pascal VOC: ``JPEGImages``, ``Annotations``, ``ImageSets/Main/SPLIT.txt`` and ``classes.txt``."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drivetrain.errors import OutputError

from .class_names import CLASSES_FILE
from .entry import ReadDataset
from .writing import Losses, box_xywh, class_names, file_names, put_images, segments_as_annotations

__all__ = ["write_voc"]

_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def write_voc(folder: Path, splits: Mapping[str, ReadDataset], image_files: str) -> Losses:
    """Write every split into one folder; images of one name in several splits get the split's before it.

    Args:
        folder: exists, and is empty.
        splits: name -> dataset.
        image_files: ``"copy"``, ``"link"`` or ``"none"``.

    Returns:
        What was lost.

    Raises:
        OutputError: a name has a character that XML cannot hold.
    """
    losses = Losses()
    names_of = {split: file_names(read, flat=True) for split, read in splits.items()}
    stems = [os.path.splitext(name)[0] for names in names_of.values() for name in names]
    if len(set(stems)) < len(stems):
        names_of = {split: [f"{split}_{name}" for name in names] for split, names in names_of.items()}
    for part in ("Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for split, read in splits.items():
        names = names_of[split]
        put_images(read, names, folder / "JPEGImages", image_files)
        classes = class_names(read)
        for record, name in zip(read.records, names, strict=True):
            tree = _tree(record, name, classes, losses)
            tree.write(folder / "Annotations" / f"{os.path.splitext(name)[0]}.xml", encoding="utf-8")
        listing = "".join(f"{os.path.splitext(name)[0]}\n" for name in names)
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(listing, encoding="utf-8")
    classes = class_names(next(iter(splits.values())))
    (folder / CLASSES_FILE).write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    return losses


def _tree(
    record: Mapping[str, Any], name: str, classes: list[str], losses: Losses
) -> ElementTree.ElementTree[ElementTree.Element]:
    root = ElementTree.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", name)
    size = ElementTree.SubElement(root, "size")
    for side, value in (("width", record["width"]), ("height", record["height"]), ("depth", 3)):
        _add(size, side, str(value))
    _add(root, "segmented", "0")
    for annotation in segments_as_annotations(record, losses):
        if annotation.get("iscrowd"):
            losses["crowd regions (left out)"] += 1
            continue
        losses["masks"] += bool(annotation.get("segmentation"))
        losses["keypoints"] += any(v > 0 for v in (annotation.get("keypoints") or ())[2::3])
        item = ElementTree.SubElement(root, "object")
        _add(item, "name", classes[annotation["category_id"]])
        _add(item, "pose", "Unspecified")
        _add(item, "truncated", "0")
        _add(item, "difficult", str(int(annotation.get("difficult", 0))))
        box = ElementTree.SubElement(item, "bndbox")
        x, y, width, height = box_xywh(annotation)
        for corner, value in (("xmin", x + 1), ("ymin", y + 1), ("xmax", x + width), ("ymax", y + height)):
            _add(box, corner, f"{value:.10g}")
    ElementTree.indent(root)
    return ElementTree.ElementTree(root)


def _add(parent: ElementTree.Element, tag: str, text: str) -> None:
    if _NOT_XML.search(text):
        raise OutputError(f"the name {text!r} has a character that an XML file cannot hold: give it another name")
    ElementTree.SubElement(parent, tag).text = text
