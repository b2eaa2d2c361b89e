"""One XML file of a Pascal VOC dataset, read without following anything in it.

A document type declaration is refused: it can define entities that grow to gigabytes, or name other files.
"""

from __future__ import annotations

import math
import os
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from typing import NoReturn

from drivetrain.errors import DatasetError

from .folder_files import read_bytes

__all__ = ["VocFile", "VocObject", "read_voc_xml"]

_LIMIT = 1 << 24  # bytes; an object takes about 300
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocObject:
    """An object as the file has it.

    Attributes:
        where: its place in the file, for messages.
        name: its class.
        box: xmin, ymin, xmax, ymax, counted from 1, the last pixel included.
        difficult: 0 or 1.
        problem: what is wrong with it; the other values mean nothing then.
    """

    where: str
    name: str = ""
    box: tuple[float, float, float, float] = (0, 0, 0, 0)
    difficult: int = 0
    problem: str = ""


@dataclass(frozen=True)
class VocFile:
    """What a file says of its image.

    Attributes:
        file_name: of the image, unchecked; ``""`` when it is not given.
        size: (height, width); None when it is not given, or 0.
        objects: in the order of the file.
    """

    file_name: str
    size: tuple[int, int] | None
    objects: list[VocObject]


def read_voc_xml(path: str | os.PathLike[str]) -> VocFile:
    """Read an annotation file.

    Raises:
        DatasetError: it is missing, too large, not XML, or has a document type declaration; names the file.
    """
    name = os.fspath(path)
    parser = ElementTree.XMLParser(target=_Builder(name))
    try:
        parser.feed(read_bytes(name, _LIMIT))
        root: ElementTree.Element = parser.close()
    except ElementTree.ParseError as err:
        line, column = err.position
        reason = str(err).split(":")[0]
        raise DatasetError(f"{name!r} is not XML at line {line}, column {column}: {reason}") from None
    except (ValueError, LookupError) as err:  # an unknown encoding
        if isinstance(err, DatasetError):
            raise
        raise DatasetError(f"{name!r} is not XML: {err}") from None
    if root.tag != "annotation":
        raise DatasetError(f"{name!r} is not a Pascal VOC file: it begins with <{root.tag[:60]}>, not <annotation>")
    items = [_object(element, f"object {number}") for number, element in enumerate(root.findall("object"), 1)]
    return VocFile((root.findtext("filename") or "").strip(), _size(root), items)


class _Builder(ElementTree.TreeBuilder):
    """Builds the tree, and refuses a document type before anything in it is read."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def doctype(self, name: str, public: str | None, system: str | None) -> NoReturn:
        """Called at ``<!DOCTYPE``."""
        raise DatasetError(
            f"{self._name!r} has a document type declaration (<!DOCTYPE {name[:60]}>), which no annotation needs and "
            "which can fill all memory: remove it"
        )


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    sides = [_number(root.findtext(f"size/{side}")) for side in ("height", "width")]
    whole = [int(side) for side in sides if side is not None and 0 < side < 2**31 and side == int(side)]
    return (whole[0], whole[1]) if len(whole) == 2 else None


def _object(element: ElementTree.Element, where: str) -> VocObject:
    name = (element.findtext("name") or "").strip()
    where = f"{where} ({name[:60]})" if name else where
    if not name:
        return VocObject(where, problem="has no <name>")
    corners = {corner: element.findtext(f"bndbox/{corner}") for corner in _CORNERS}
    x0, y0, x1, y1 = (_number(text) for text in corners.values())
    if x0 is None or y0 is None or x1 is None or y1 is None:
        received = ", ".join(f"{c} {t.strip()[:40]!r}" if t else f"no {c}" for c, t in corners.items())
        return VocObject(where, problem=f"has {received}; its <bndbox> must have four numbers")
    text = (element.findtext("difficult") or "").strip()
    difficult = 0 if text in ("", "Unspecified") else _number(text)
    if difficult not in (0, 1):
        return VocObject(where, problem=f"has <difficult> {text[:40]!r}; it is 0 or 1")
    return VocObject(where, name, (x0, y0, x1, y1), int(difficult))


def _number(text: str | None) -> float | None:
    """The finite number that a text is; None for anything else."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
