"""The manifest: a small JSON file that says, for each checkpoint of a folder, what it is and its digest."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

from drivetrain.checkpoint.files import check_file_name
from drivetrain.errors import CheckpointError, CorruptCheckpointError

__all__ = ["MANIFEST_NAME", "Entry", "Manifest"]

MANIFEST_NAME = "checkpoints.json"
_VERSION = 1
_MOST_ENTRIES = 20_000


@dataclass(frozen=True)
class Entry:
    """One saved file.

    Attributes:
        file: its name in the folder.
        bytes: its size.
        sha256: its digest in hexadecimal.
        roles: what it is used as: ``last``, ``best``, ``final``, ``emergency``, ``ema``, ... A role belongs
            to one file at a time.
        iteration: the last finished iteration (from 0), or None where unknown.
        metric: name -> value of the evaluation it was chosen by; empty where there is none.
        time: when it was saved, ISO 8601 in UTC.
        versions: library -> version that wrote it.
        class_names: the model's classes in the order of their indices.
        channel_order: the channel order of the model's input, ``"RGB"`` or ``"BGR"``; empty where unknown.
        config_sha256: digest of the config's text; empty where there is none.
        pending: True while the file is being put in place: whether it is the old or the new one shows its
            digest.
        extra: further keys, kept as they were read.
    """

    file: str
    bytes: int
    sha256: str
    roles: tuple[str, ...] = ()
    iteration: int | None = None
    metric: dict[str, float] = field(default_factory=dict)
    time: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    channel_order: str = ""
    config_sha256: str = ""
    pending: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: Any, source: str, shared: Mapping[str, Any] = MappingProxyType({})) -> Entry:
        """Check and take over one element of the JSON list.

        Args:
            data: the element.
            source: where it comes from, for messages.
            shared: checked values of what it lacks.

        Raises:
            CorruptCheckpointError: a field is missing or of another type, or the file name leads out of the folder.
        """
        if not isinstance(data, dict):
            raise CorruptCheckpointError(f"{source} holds {type(data).__name__} where an object is expected")
        try:
            check_file_name(data.get("file"), source)
        except CheckpointError as error:
            raise CorruptCheckpointError(str(error)) from None
        values = {key: value for key, value in data.items() if key in _VALID}
        for name in ("roles", "class_names"):
            if name in values and _is_texts(values[name]):
                values[name] = tuple(values[name])
        if "metric" in values and isinstance(values["metric"], dict):
            values["metric"] = {k: math.nan if v is None else v for k, v in values["metric"].items()}
        values.setdefault("bytes", None)
        values.setdefault("sha256", None)
        for name, value in values.items():
            if not _VALID[name](value):
                raise CorruptCheckpointError(f"{source} has the value {value!r:.80} for {name!r} of {data['file']!r}")
        return cls(**{**shared, **values}, extra={key: value for key, value in data.items() if key not in _VALID})

    @cached_property
    def text(self) -> str:
        """The JSON object on one line, without class names; NaN is written as null, since JSON has none."""
        data: dict[str, Any] = {name: getattr(self, name) for name in _VALID if name != "class_names"}
        data["metric"] = {k: v if math.isfinite(v) else None for k, v in self.metric.items()}
        if not self.pending:
            del data["pending"]
        return json.dumps({**data, **self.extra})

    def without(self, roles: Collection[str]) -> Entry:
        """Without some roles."""
        left = tuple(role for role in self.roles if role not in roles)
        return self if left == self.roles else replace(self, roles=left)


@dataclass(frozen=True)
class Manifest:
    """The entries of a folder, oldest first, and the keys of the file that this version does not know."""

    entries: tuple[Entry, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | bytes, source: str = MANIFEST_NAME) -> Manifest:
        """Read the JSON text.

        Raises:
            CorruptCheckpointError: it is not a manifest, or a file name in it leads out of the folder.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CorruptCheckpointError(f"{source} is not valid JSON ({error})") from error
        if not isinstance(data, dict) or not isinstance(data.get("checkpoints"), list):
            raise CorruptCheckpointError(f"{source} has no list 'checkpoints'")
        if len(data["checkpoints"]) > _MOST_ENTRIES:
            raise CorruptCheckpointError(f"{source} lists more than {_MOST_ENTRIES} checkpoints")
        names = data.get("class_names", ())
        if not _is_texts(names):
            raise CorruptCheckpointError(f"{source} has the value {names!r:.80} for 'class_names'")
        shared = {"class_names": tuple(names)}
        entries = tuple(Entry.parse(item, source, shared) for item in data["checkpoints"])
        return cls(entries, {k: v for k, v in data.items() if k not in ("checkpoints", "class_names", "version")})

    def to_text(self) -> str:
        """The JSON text with a newline at the end: a line for each checkpoint, and the class names that they share."""
        names = self.entries[-1].class_names if self.entries else ()
        entries = ",\n".join(
            e.text if e.class_names == names else f'{e.text[:-1]}, "class_names": {json.dumps(e.class_names)}}}'
            for e in self.entries
        )
        others = {"class_names": names, **self.extra}.items()
        more = "".join(f",\n{json.dumps(key)}: {json.dumps(value)}" for key, value in others)
        return f'{{"version": {_VERSION},\n"checkpoints": [\n{entries}\n]{more}}}\n'

    def find(self, file: str) -> list[Entry]:
        """The entries for a file: one, or the old and the pending one while it is being replaced."""
        return [entry for entry in self.entries if entry.file == file]

    def role(self, role: str) -> Entry | None:
        """The file that has a role, or None."""
        return next((entry for entry in reversed(self.entries) if role in entry.roles), None)

    def announce(self, entry: Entry) -> Manifest:
        """With an entry for a file that is about to get its name; the roles stay where they are."""
        return replace(self, entries=(*self.entries, replace(entry, roles=(), pending=True)))

    def commit(self, entry: Entry) -> Manifest:
        """With an announced entry in place of the older ones of its file; its roles are taken from the other files.

        Roles that a replaced entry had and the new one does not claim go with the file. What another process announced
        for the file since stays: either content may be in place.
        """
        own = self.find(entry.file)
        announced = max((place for place, old in enumerate(own) if old.sha256 == entry.sha256), default=-1)
        replaced = own[: announced + 1]
        inherited = [role for old in replaced for role in old.roles if role not in entry.roles]
        roles = (*entry.roles, *dict.fromkeys(inherited))
        kept = (old.without(roles) for old in self.entries if old not in replaced)
        return replace(self, entries=(*kept, replace(entry, roles=roles, pending=False)))

    def without(self, files: set[str]) -> Manifest:
        """Without the entries of some files."""
        return replace(self, entries=tuple(entry for entry in self.entries if entry.file not in files))


def _is_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_iteration(value: Any) -> bool:
    return value is None or (type(value) is int and abs(value) < 1 << 63)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(type(item) is float or _is_iteration(item) for item in value.values())


def _is_text_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and all(c in "0123456789abcdef" for c in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


_VALID = {
    "file": _is_text,
    "bytes": _is_count,
    "sha256": _is_digest,
    "roles": _is_texts,
    "iteration": _is_iteration,
    "metric": _is_numbers,
    "time": _is_text,
    "versions": _is_text_map,
    "class_names": _is_texts,
    "channel_order": _is_text,
    "config_sha256": _is_text,
    "pending": _is_flag,
}
