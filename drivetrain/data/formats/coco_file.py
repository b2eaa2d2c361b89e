"""Reading a COCO annotation file into its sections, with the place of whatever is malformed."""

from __future__ import annotations

import contextlib
import gc
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from drivetrain.errors import did_you_mean

from .defects import Defect, DefectReport, Severity, first_repeated

__all__ = ["CocoFile", "Section", "parse_json", "paused_gc", "read_coco_file"]

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

_SECTIONS = ("images", "annotations", "categories")


class Section:
    """The entries of one section of the file, and which of them passed every check so far.

    An entry that failed a check is left out of the later ones, so that one mistake is told once.

    Attributes:
        name: ``"images"``, ``"annotations"`` or ``"categories"``.
        entries: dicts; an entry that is not one is replaced by an empty dict and marked as failed.
        ok: bool (N,), True for the entries that are still good.
    """

    def __init__(
        self, name: str, entries: list[Any], report: DefectReport, places: Sequence[int] | None = None
    ) -> None:
        """Take the entries of a section, or some of them, which stand at ``places`` in the file."""
        self.name = name
        self.report = report
        self._places = places
        self.ok: BoolArray = np.ones(len(entries), dtype=bool)
        malformed = np.fromiter((type(entry) is not dict for entry in entries), bool, len(entries))
        self.entries: list[dict[str, Any]] = entries
        if malformed.any():
            self.entries = [{} if bad else e for e, bad in zip(entries, malformed.tolist(), strict=True)]
            self.reject(malformed, "malformed entry", lambda i: f"is {_shown(entries[i])}, not an object")

    def __len__(self) -> int:
        return len(self.entries)

    def column(self, key: str, default: Any = None) -> list[Any]:
        """The value under ``key`` of every entry."""
        return [entry.get(key, default) for entry in self.entries]

    def where(self, i: int) -> str:
        """How entry ``i`` is named in messages."""
        entry = self.entries[i]
        facts = [f"{key} {_shown(entry[key])}" for key in ("id", "image_id") if key in entry]
        place = i if self._places is None else self._places[i]
        return f"{self.name}[{place}]" + (f" ({', '.join(facts)})" if facts else "")

    def note(self, bad: BoolArray, kind: str, message: Callable[[int], str], severity: Severity) -> None:
        """Report the still good entries in ``bad`` without leaving them out of later checks."""
        places = np.flatnonzero(bad & self.ok).tolist()
        self.report.add_many(kind, severity, places, lambda i: (self.where(i), message(i)))

    def reject(
        self,
        bad: BoolArray,
        kind: str,
        message: Callable[[int], str],
        severity: Severity = Severity.ERROR,
    ) -> None:
        """Report the still good entries in ``bad`` and mark them as failed."""
        self.note(bad, kind, message, severity)
        self.ok &= ~bad


@dataclass
class CocoFile:
    """The sections of one file; None for a section that is missing or not a list.

    Attributes:
        path: the file.
        images: its images.
        annotations: its annotations.
        categories: its categories.
        others: everything else in it, as ``info`` and ``licenses``, as the file has it.
    """

    path: str
    images: Section | None
    annotations: Section | None
    categories: Section | None
    others: dict[str, Any] = field(default_factory=dict)


def read_coco_file(json_file: str | os.PathLike[str], report: DefectReport) -> CocoFile | None:
    """Read ``json_file`` and split it into sections; what is wrong goes to ``report``.

    Returns:
        None when the file cannot be read or is not JSON with an object on top.
    """
    path = os.fspath(json_file)
    content = _read_json(path, report)
    if content is None:
        return None
    if not isinstance(content, dict):
        hint = "; a list is a results file, not annotations" if isinstance(content, list) else ""
        _error(report, "wrong top level", f"{path} holds a JSON {_json_type(content)}, not an object{hint}")
        return None
    images, annotations, categories = (_section(content, name, report) for name in _SECTIONS)
    others = {name: value for name, value in content.items() if name not in _SECTIONS}
    return CocoFile(path, images, annotations, categories, others)


@contextlib.contextmanager
def paused_gc() -> Iterator[None]:
    """Keep Python's cycle collector off while millions of small objects are made; it would visit each many times."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read_json(path: str, report: DefectReport) -> Any:
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        _error(report, "missing file", f"annotation file {path!r} does not exist{_neighbours(path)}")
        return None
    except OSError as err:
        _error(report, "unreadable file", f"annotation file {path!r} cannot be read: {err.strerror or err}")
        return None
    if not content.strip():
        _error(report, "not JSON", f"annotation file {path!r} is empty")
        return None
    try:
        value = parse_json(content)
    except json.JSONDecodeError as err:
        place = f"line {err.lineno}, column {err.colno}"
        _error(report, "not JSON", f"annotation file {path!r} is not valid JSON at {place}: {err.msg}")
        return None
    except (ValueError, RecursionError) as err:  # not text, a number of absurd length, absurd nesting
        _error(report, "not JSON", f"annotation file {path!r} is not valid JSON: {err}")
        return None
    if value is None:
        _error(report, "wrong top level", f"{path} holds a JSON null, not an object")
    return value


def parse_json(content: bytes) -> Any:
    """The value that JSON text stands for; a ValueError if it is malformed, or an object has a name twice."""
    return json.loads(content, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a name that comes twice, of which JSON readers keep one or the other, is refused."""
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = first_repeated(name for name, _ in pairs)
        raise ValueError(f"an object has the name {twice!r} twice")
    return value


def _section(content: dict[str, Any], name: str, report: DefectReport) -> Section | None:
    if name not in content:
        hint = did_you_mean(name, content) or f" (it has: {', '.join(map(repr, content)) or 'nothing'})"
        _error(report, "missing section", f"the section {name!r} is missing{hint}", report.source)
        return None
    entries = content[name]
    if not isinstance(entries, list):
        message = f"the section {name!r} is a JSON {_json_type(entries)}, not a list"
        _error(report, "wrong section", message, report.source)
        return None
    return Section(name, entries, report)


def _error(report: DefectReport, kind: str, message: str, source: str = "") -> None:
    report.add(Defect(kind, "", f"{source}: {message}" if source else message, Severity.ERROR))


def _neighbours(path: str) -> str:
    """A hint of files of a similar name in the same folder."""
    folder = os.path.dirname(path) or "."
    try:
        names = os.listdir(folder)
    except OSError:
        return f"; the folder {folder!r} does not exist either"
    return did_you_mean(os.path.basename(path), names)


def _json_type(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def _shown(value: Any) -> str:
    """``value`` as in the file (control characters escaped), cut short."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
