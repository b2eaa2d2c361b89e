"""Dataset records in numpy arrays that all worker processes share.

A list of a million record dicts costs more than a gigabyte in each process and makes Python's garbage collector visit
every one. A ``RecordStore`` keeps the same records as a few flat arrays (see ``columns``), makes the dict of one record
when it is asked for, and, once saved, lets any number of processes map the same files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from drivetrain.errors import DatasetError, OutputError

from .column_builder import pack_records
from .columns import COLUMNS, unpack_record

__all__ = ["RecordStore"]

Record = dict[str, Any]
Array = np.ndarray[Any, Any]
IntArray = np.ndarray[Any, np.dtype[np.int32]]

FORMAT, VERSION, HEADER = "drivetrain records", 2, "header.json"


class RecordStore(Sequence[Record]):
    """A sequence of dataset records: ``store[i]`` is a fresh dict equal to the record that was put in.

    Sequences of numbers come back as lists of floats and tuples as lists; ``bbox_mode`` comes back as a BoxMode. Make
    one with ``from_records`` or ``open``.

    Attributes:
        folder: where the files lie that this store maps; None for a store in memory. A store with a folder is pickled
            as the folder's name, so that other processes map the same files.
        facts: what was stored about the records as a whole, made of what JSON holds.
    """

    def __init__(
        self,
        columns: Mapping[str, Array],
        folder: str | None = None,
        digest: str | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.facts = folder, dict(facts or {})
        self._columns = {name: _plain_array(columns[name]) for name in COLUMNS}
        self._digest = digest

    @classmethod
    def from_records(cls, records: Iterable[Mapping[str, Any]], facts: Mapping[str, Any] | None = None) -> RecordStore:
        """A store of ``records`` in memory; DatasetError names a record with a value that cannot be stored."""
        return cls(pack_records(records), facts=facts)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, verify: bool = False) -> RecordStore:
        """Map the store saved in ``folder``; nothing is read until it is used.

        Args:
            folder: where ``save`` wrote it.
            verify: read everything once and compare it with the digests.

        Raises:
            DatasetError: the folder holds no store, one of another version, or one that is damaged.
        """
        path = Path(folder).resolve()
        header = _read_header(path)
        columns = {name: _map_column(path, name, header) for name in COLUMNS}
        if verify:
            for name, column in columns.items():
                if _column_digest(column) != header["columns"][name]["sha256"]:
                    raise DatasetError(f"record store {str(path)!r} is damaged: {name}.npy is not what was saved")
        return cls(columns, str(path), str(header["digest"]), header["facts"])

    def save(self, folder: str | os.PathLike[str]) -> RecordStore:
        """Write the store to ``folder`` and return it opened from there.

        The files are written beside it and take its place when they are complete; a store already there is replaced.

        Raises:
            OutputError: the folder cannot be written, or holds something that is not a store.
        """
        target = Path(folder).absolute()
        if target.exists() and not (target / HEADER).is_file() and (not target.is_dir() or any(target.iterdir())):
            raise OutputError(f"{str(target)!r} exists and is not a record store; choose another folder")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            try:
                self._write(temporary)
                _replace(temporary, target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        except OSError as err:
            raise OutputError(f"record store {str(target)!r} cannot be written: {err.strerror or err}") from err
        return RecordStore.open(target)

    def __len__(self) -> int:
        return len(self._columns["records"]) - 1

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [unpack_record(self._columns, i) for i in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"record {index} of a store of {len(self)}")
        return unpack_record(self._columns, int(place))

    def file_names(self) -> Iterator[str]:
        """The file name of each record, "" for none, without making the records."""
        text, bounds = self._columns["record_text"], self._columns["records"][:-1, 2:4]
        return (text[a:b].tobytes().decode("utf-8", "surrogatepass") for a, b in bounds.tolist())

    @property
    def heights(self) -> IntArray:
        """(N,) heights in pixels; 0 where a record has none."""
        return self._columns["heights"].astype(np.int32)

    @property
    def widths(self) -> IntArray:
        """(N,) widths in pixels; 0 where a record has none."""
        return self._columns["widths"].astype(np.int32)

    @property
    def num_annotations(self) -> IntArray:
        """(N,) the number of annotations of each record, crowds included."""
        return np.diff(self._columns["records"][:, 4]).astype(np.int32)

    @property
    def num_objects(self) -> IntArray:
        """(N,) the number of annotations of each record that are not crowds."""
        return self._columns["objects"].astype(np.int32)

    def categories(self) -> tuple[IntArray, IntArray]:
        """The place of the record and the class (0 for none) of every annotation, crowds too, both (M,), in order."""
        places = np.repeat(np.arange(len(self), dtype=np.int32), self.num_annotations)
        return places, self._columns["annotations"][:, 2].astype(np.int32)

    def objects(self) -> tuple[IntArray, IntArray]:
        """The place of the record and the class of every annotation that is not a crowd, both (M,), in order."""
        places, classes = self.categories()
        plain = self._columns["annotations"][:, 3] == 0
        return places[plain], classes[plain]

    def class_counts(self, num_classes: int) -> Array:
        """(num_classes,) int64, the number of annotations of each class, crowds left out.

        Raises:
            DatasetError: an annotation's class is not in 0 ... ``num_classes`` - 1; names the first such record.
        """
        places, classes = self.objects()
        wrong = np.flatnonzero((classes < 0) | (classes >= num_classes))
        if len(wrong):
            i = int(wrong[0])
            name = self[int(places[i])].get("file_name")
            raise DatasetError(
                f"image {name!r} has an annotation with category_id {classes[i]}, but there are {num_classes} "
                f"classes (0 to {num_classes - 1})"
            )
        return np.bincount(classes, minlength=num_classes)

    @property
    def digest(self) -> str:
        """SHA-256 over everything stored: equal for equal records in equal order."""
        if self._digest is None:
            self._digest = _digest({name: _describe(column) for name, column in self._columns.items()})
        return self._digest

    @property
    def nbytes(self) -> int:
        """The size of all arrays in bytes."""
        return sum(int(column.nbytes) for column in self._columns.values())

    def __reduce__(self) -> tuple[Callable[..., RecordStore], tuple[Any, ...]]:
        if self.folder is not None:
            return _reopen, (self.folder, self.digest)
        return RecordStore, (self._columns, None, self._digest, self.facts)

    def __repr__(self) -> str:
        place = f"mapped from {self.folder!r}" if self.folder else "in memory"
        return f"RecordStore({len(self):,} records, {self.nbytes / 2**20:.1f} MiB {place})"

    def _write(self, folder: Path) -> None:
        described = {name: _describe(column) for name, column in self._columns.items()}
        for name, column in self._columns.items():
            with open(folder / f"{name}.npy", "wb") as file:
                np.save(file, column, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        header = {
            "format": FORMAT,
            "version": VERSION,
            "digest": _digest(described),
            "facts": self.facts,
            "columns": described,
        }
        with open(folder / HEADER, "w", encoding="utf-8") as text:
            json.dump(header, text, indent=1)
            text.flush()
            os.fsync(text.fileno())
        folder.chmod(0o755)  # a temporary folder is made for its owner alone


def _reopen(folder: str, digest: str) -> RecordStore:
    """A store by reference, for pickle: it must still be the one that was sent."""
    store = RecordStore.open(folder)
    if store.digest != digest:
        raise DatasetError(f"record store {folder!r} was replaced while a process was starting; start again")
    return store


def _replace(temporary: Path, target: Path) -> None:
    """Put ``temporary`` in the place of ``target``, which is moved away first when it exists."""
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
        os.rename(target, old / "store")
        os.rename(temporary, target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.rename(temporary, target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_header(folder: Path) -> dict[str, Any]:
    place = f"record store {str(folder)!r}"
    try:
        header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{str(folder)!r} holds no record store: there is no {HEADER} in it") from None
    except (OSError, ValueError, RecursionError) as err:
        raise DatasetError(f"{place} cannot be read: {err}") from err
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DatasetError(f"{place} cannot be read: its {HEADER} is not one of a record store")
    if header.get("version") != VERSION:
        raise DatasetError(f"{place} has version {header.get('version')!r}, this program reads {VERSION}; make it anew")
    columns = header.get("columns")
    sound = isinstance(columns, dict) and all(
        isinstance(columns.get(n), dict) and {"dtype", "shape", "sha256"} <= set(columns[n]) for n in COLUMNS
    )
    if not sound or not isinstance(header.get("digest"), str) or not isinstance(header.get("facts"), dict):
        raise DatasetError(f"{place} is damaged: its {HEADER} does not describe every column")
    return header


def _map_column(folder: Path, name: str, header: dict[str, Any]) -> Array:
    path = folder / f"{name}.npy"
    try:
        column: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as err:
        raise DatasetError(f"record store {str(folder)!r} is damaged: {path.name}: {err}") from err
    wanted = header["columns"][name]
    if [str(column.dtype), list(column.shape)] != [wanted["dtype"], wanted["shape"]]:
        raise DatasetError(
            f"record store {str(folder)!r} is damaged: {path.name} holds {column.dtype} {list(column.shape)}, its "
            f"header says {wanted['dtype']} {wanted['shape']}"
        )
    return column


def _plain_array(column: Array) -> Array:
    """The array without numpy's memmap class, whose every slice costs microseconds."""
    view = column.view(np.ndarray)
    view.flags.writeable = False
    return view


def _describe(column: Array) -> dict[str, Any]:
    return {"dtype": str(column.dtype), "shape": list(column.shape), "sha256": _column_digest(column)}


def _column_digest(column: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(column).data if column.size else b"").hexdigest()


def _digest(described: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
