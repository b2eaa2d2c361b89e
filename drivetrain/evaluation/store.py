"""What evaluators keep of a model's outputs: columns of numbers, in memory up to a limit and on disk beyond it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import numpy as np
import torch

from drivetrain.errors import EvaluationError, OutputError
from drivetrain.runtime import comm

__all__ = ["MEMORY_LIMIT", "ByteRows", "Column", "Piece", "PredictionStore", "Rows", "gather_store"]

MEMORY_LIMIT = 256 << 20
"""Bytes that a store keeps in memory by default."""

_PIECE = 16 << 20  # bytes that travel between processes at a time

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ByteRows:
    """Byte strings of different lengths, end to end.

    Attributes:
        data: uint8, all of the bytes.
        ends: int64 (N,), where each string ends in ``data``.
    """

    data: Array
    ends: Array

    def __len__(self) -> int:
        """The number of strings."""
        return len(self.ends)

    def __getitem__(self, rows: slice | Array) -> list[bytes]:
        """The strings of a slice, or at integer places."""
        places = range(*rows.indices(len(self))) if isinstance(rows, slice) else rows.tolist()
        return [self.data[self.ends[row - 1] if row else 0 : self.ends[row]].tobytes() for row in places]


Column = Array | ByteRows
"""One value per row: numbers of the shape (N, ...), or N byte strings. Both take slices and integer places."""
Rows = Mapping[str, Any]
"""The rows of one image by column, arrays (n, ...) and lists of n byte strings; no columns when there are no rows."""


class Piece(NamedTuple):
    """Images that follow each other, and their rows."""

    start: int
    stop: int
    first_row: int
    last_row: int


class PredictionStore:
    """Rows of numbers for one image after the other: detections, segments, cells of a confusion matrix.

    The first rows say which columns there are. What does not fit into memory goes to files without a name, whose
    space the system frees when they are closed, also when the process is killed.

    Attributes:
        image_ids: the images in the order in which they came.
        counts: the number of rows of each.
    """

    def __init__(self, memory_limit: int = MEMORY_LIMIT, folder: str | os.PathLike[str] | None = None) -> None:
        """Start empty.

        Args:
            memory_limit: bytes that are kept in memory.
            folder: an existing folder for the files; the system's for temporary files by default.
        """
        self.image_ids: list[int | str] = []
        self.counts: list[int] = []
        self._limit = memory_limit
        self._folder = folder
        self._columns: dict[str, _Numbers | _Bytes] = {}
        self._on_disk = False

    def append(self, image_id: int | str, rows: Rows) -> None:
        """Add the rows of one image.

        Raises:
            EvaluationError: the columns are not those of the rows before.
            OutputError: the disk cannot take them.
        """
        count = len(next(iter(rows.values()), ()))
        if count:
            self._add(rows, f"image {image_id!r}")
        self.image_ids.append(image_id)
        self.counts.append(count)

    def _add(self, rows: Rows, what: str) -> None:
        if not self._columns:
            self._columns = {name: _new_column(values) for name, values in rows.items()}
        if rows.keys() != self._columns.keys():
            raise EvaluationError(
                f"{what}: there are {', '.join(rows)}, but the images before had {', '.join(self._columns)}: "
                "a model's outputs have the same fields for every image"
            )
        with self._disk():
            for name, values in rows.items():
                self._columns[name].add(values, f"{what}: {name}")
            if not self._on_disk and sum(column.nbytes for column in self._columns.values()) > self._limit:
                for column in self._columns.values():
                    column.move_to_disk(self._folder)
                self._on_disk = True

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """What the disk refuses within the block as OutputError."""
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"the predictions that do not fit into memory cannot be kept in "
                f"{self._folder or tempfile.gettempdir()}: {error.strerror or error}"
            ) from error

    def __len__(self) -> int:
        """The number of rows."""
        return sum(self.counts)

    def columns(self) -> dict[str, Any]:
        """All rows by column, mapped from disk where they are there; empty before the first row.

        Raises:
            OutputError: the disk cannot take what was not written yet.
        """
        with self._disk():
            return {name: column.values() for name, column in self._columns.items()}

    def image_of_rows(self) -> Array:
        """For each row the place of its image in ``image_ids``, int32 (N,)."""
        return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)

    def first_of_each(self) -> tuple[Array, int]:
        """Which images come here for the first time, bool (number of images,), and how many others there are."""
        seen: set[int | str] = set()
        first = np.ones(len(self.image_ids), dtype=bool)
        for place, image_id in enumerate(self.image_ids):
            if image_id in seen:
                first[place] = False
            seen.add(image_id)
        return first, int((~first).sum())

    def pieces(self, size: int = _PIECE) -> list[Piece]:
        """Cut the images into pieces of about ``size`` bytes."""
        rows_per_piece = max(1, size * len(self) // max(1, sum(column.nbytes for column in self._columns.values())))
        ends = np.cumsum(self.counts)
        pieces, start, row = [], 0, 0
        while start < len(self.counts):
            stop = max(start + 1, int(np.searchsorted(ends, row + rows_per_piece, side="right")))
            pieces.append(Piece(start, stop, row, int(ends[stop - 1])))
            start, row = stop, int(ends[stop - 1])
        return pieces

    def pack(self, piece: Piece) -> dict[str, Any]:
        """A piece as plain values and tensors, which :meth:`extend` takes."""
        columns = self.columns() if piece.last_row > piece.first_row else {}
        return {
            "image_ids": self.image_ids[piece.start : piece.stop],
            "counts": self.counts[piece.start : piece.stop],
            "columns": {name: _cut(column, piece.first_row, piece.last_row) for name, column in columns.items()},
        }

    def extend(self, packed: Mapping[str, Any]) -> None:
        """Add what :meth:`pack` made, here or in another process."""
        if packed["columns"]:
            columns = {name: _joined(parts) for name, parts in packed["columns"].items()}
            self._add(columns, "the predictions of another process")
        self.image_ids.extend(packed["image_ids"])
        self.counts.extend(packed["counts"])

    def close(self) -> None:
        """Free memory and disk."""
        for column in self._columns.values():
            column.close()
        self._columns, self._on_disk = {}, False
        self.image_ids, self.counts = [], []


def gather_store(store: PredictionStore, into: PredictionStore, piece_size: int = _PIECE) -> None:
    """Bring the rows of all processes together on the main one, a piece from each at a time.

    Args:
        store: this process's own.
        into: gets all rows on the main process, and nothing elsewhere.
        piece_size: bytes of a piece.
    """
    pieces = store.pieces(piece_size)
    for place in range(max(comm.all_gather(len(pieces)))):
        own = store.pack(pieces[place]) if place < len(pieces) else None
        for packed in comm.gather(own):
            if packed is not None:
                into.extend(packed)


class _Numbers:
    """A column of numbers, as bytes in memory or in a file."""

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._dtype, self._shape = dtype, shape
        self._buffer = bytearray()
        self._file: IO[bytes] | None = None
        self.nbytes = 0

    def add(self, values: Any, what: str) -> None:
        if values.shape[1:] != self._shape:
            raise EvaluationError(
                f"{what} has the shape {values.shape[1:]} for each row, but {self._shape} for the images before"
            )
        raw = np.ascontiguousarray(values, dtype=self._dtype).tobytes()
        if self._file is None:
            self._buffer += raw
        else:
            self._file.write(raw)
        self.nbytes += len(raw)

    def move_to_disk(self, folder: str | os.PathLike[str] | None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, prefix="predictions-")  # noqa: SIM115
        self._file.write(self._buffer)
        self._buffer = bytearray()

    def values(self) -> Array:
        if self._file is None or not self.nbytes:
            return np.frombuffer(self._buffer, dtype=self._dtype).reshape(-1, *self._shape)
        self._file.flush()
        row = self._dtype.itemsize * int(np.prod(self._shape, dtype=np.int64))
        return np.memmap(self._file, dtype=self._dtype, mode="r", shape=(self.nbytes // row, *self._shape))

    def close(self) -> None:
        self._buffer = bytearray()
        if self._file is not None:
            with suppress(OSError):  # what a full disk did not take is no longer wanted
                self._file.close()


class _Bytes:
    """A column of byte strings."""

    def __init__(self) -> None:
        self._data = _Numbers(np.dtype(np.uint8), ())
        self._lengths = _Numbers(np.dtype(np.int64), ())

    @property
    def nbytes(self) -> int:
        return self._data.nbytes + self._lengths.nbytes

    def add(self, values: Any, what: str) -> None:
        if isinstance(values, ByteRows):
            data, lengths = values.data, np.diff(values.ends, prepend=0)
        else:
            data = np.frombuffer(b"".join(values), dtype=np.uint8)
            lengths = np.fromiter(map(len, values), dtype=np.int64, count=len(values))
        self._data.add(data, what)
        self._lengths.add(lengths, what)

    def move_to_disk(self, folder: str | os.PathLike[str] | None) -> None:
        self._data.move_to_disk(folder)
        self._lengths.move_to_disk(folder)

    def values(self) -> ByteRows:
        return ByteRows(self._data.values(), np.cumsum(self._lengths.values()))

    def close(self) -> None:
        self._data.close()
        self._lengths.close()


def _new_column(values: Any) -> _Numbers | _Bytes:
    return _Numbers(values.dtype, values.shape[1:]) if isinstance(values, np.ndarray) else _Bytes()


def _cut(values: Column, first: int, last: int) -> list[torch.Tensor]:
    """Rows of a column as tensors of their own: the numbers, or the bytes and their ends."""
    if isinstance(values, ByteRows):
        begin = int(values.ends[first - 1]) if first else 0
        end = int(values.ends[last - 1]) if last else 0
        return [_tensor(values.data[begin:end]), _tensor(values.ends[first:last] - begin)]
    return [_tensor(values[first:last])]


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def _joined(parts: list[torch.Tensor]) -> Any:
    first, *rest = (part.numpy() for part in parts)
    return ByteRows(first, rest[0]) if rest else first
