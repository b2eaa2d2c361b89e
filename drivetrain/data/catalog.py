"""Datasets by name: how to get their records, and what is known about them.

A dataset is a name with two things attached. ``DatasetCatalog`` holds a function without arguments that returns the
list of records; it is called only when the records are needed. ``MetadataCatalog`` holds what goes with the name: class
names, the annotation file, how it is evaluated. Both catalogs belong to the process; they are the only mutable state
of this package that is not owned by an object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from drivetrain.errors import DatasetError, did_you_mean

__all__ = ["DatasetCatalog", "Metadata", "MetadataCatalog", "UnknownDatasetError"]

Record = dict[str, Any]
LoadFunction = Callable[[], list[Record]]


class UnknownDatasetError(DatasetError, KeyError):
    """No dataset of this name is registered."""

    @classmethod
    def named(cls, name: object, known: list[str]) -> UnknownDatasetError:
        """The error for ``name``, with close names and all registered ones."""
        listing = ", ".join(repr(k) for k in known) or "none"
        return cls(f"no dataset {name!r} is registered{did_you_mean(str(name), known)} (registered: {listing})")


class _DatasetCatalog:
    """Dataset names and the functions that load their records."""

    def __init__(self) -> None:
        self._functions: dict[str, LoadFunction] = {}
        self._kept: dict[str, Sequence[Record]] | None = None  # within `kept`

    def register(self, name: str, func: LoadFunction) -> None:
        """Give the dataset ``name`` its loading function.

        ``func()`` returns a list of records and must return the same ones in the same order each time.

        Raises:
            DatasetError: ``name`` is not a non-empty string, ``func`` is not callable, or the name is taken.
        """
        if not isinstance(name, str) or not name:
            raise DatasetError(f"a dataset's name must be a non-empty string, not {name!r}")
        if not callable(func):
            raise DatasetError(
                f"dataset {name!r} must be registered with a function that returns its records, "
                f"not with a {type(func).__name__}; wrap it: register({name!r}, lambda: records)"
            )
        if name in self._functions:
            raise DatasetError(
                f"dataset {name!r} is already registered; call DatasetCatalog.remove({name!r}) first to replace it"
            )
        self._functions[name] = func

    def get(self, name: str) -> list[Record]:
        """Load and return the records of ``name``.

        Raises:
            UnknownDatasetError: the name is not registered (also a KeyError).
        """
        return self._function(name)()

    def store(self, name: str) -> Sequence[Record]:
        """The records of ``name``, each made when it is taken out, if its function has a method ``store``; else `get`.

        Raises:
            UnknownDatasetError: the name is not registered (also a KeyError).
        """
        function = self._function(name)
        if self._kept is not None and name in self._kept:
            return self._kept[name]
        store: Callable[[], Sequence[Record]] = getattr(function, "store", function)
        records = store()
        if self._kept is not None:
            self._kept[name] = records
        return records

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Read a dataset once within the block (or function), however often `store` is asked for it."""
        outer = self._kept
        self._kept = {} if outer is None else outer
        try:
            yield
        finally:
            self._kept = outer

    def pop(self, name: str) -> LoadFunction:
        """Forget ``name`` and return its loading function; UnknownDatasetError if there is none."""
        function = self._function(name)
        del self._functions[name]
        (self._kept or {}).pop(name, None)
        return function

    def remove(self, name: str) -> None:
        """Forget ``name``; UnknownDatasetError if it is not registered."""
        self.pop(name)

    def list(self) -> list[str]:
        """The registered names, in order of registration."""
        return [*self._functions]

    def clear(self) -> None:
        """Forget every dataset."""
        for name in self.list():
            self.remove(name)

    def __contains__(self, name: object) -> bool:
        return name in self._functions

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def __repr__(self) -> str:
        return f"DatasetCatalog({', '.join(self._functions)})"

    def _function(self, name: str) -> LoadFunction:
        if name not in self._functions:
            raise UnknownDatasetError.named(name, self.list())
        return self._functions[name]


class Metadata:
    """What is known about one dataset, as attributes: ``metadata.thing_classes = ["cat", "dog"]``.

    An attribute keeps its first value: class names that change under a running training would relabel every result.
    Setting the same value again is allowed.
    """

    name: str

    def __init__(self, name: str = "N/A", **attributes: Any) -> None:
        self.__dict__["name"] = name
        self.set(**attributes)

    def set(self, **attributes: Any) -> Metadata:
        """Set several attributes and return this object; DatasetError if one of them has another value already."""
        for key, value in attributes.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """The attribute ``key``, or ``default`` when it is not set."""
        return self.__dict__.get(key, default)

    def as_dict(self) -> dict[str, Any]:
        """All attributes, ``name`` included, in a new dict."""
        return dict(self.__dict__)

    def __setattr__(self, key: str, value: Any) -> None:
        if key in self.__dict__ and not _same(self.__dict__[key], value):
            raise DatasetError(
                f"{key!r} of dataset {self.name!r} is already {self.__dict__[key]!r} and cannot become {value!r}; "
                f"call MetadataCatalog.remove({self.name!r}) first, or register the data under another name"
            )
        self.__dict__[key] = value

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):  # protocol look-ups of copy and pickle
            raise AttributeError(key)
        known = [k for k in self.__dict__ if k != "name"]
        raise AttributeError(
            f"dataset {self.__dict__.get('name')!r} has no {key!r} in its metadata{did_you_mean(key, known)} "
            f"(it has: {', '.join(known) or 'nothing'}); class names are filled in when the dataset is loaded"
        )

    def __repr__(self) -> str:
        return f"Metadata({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"


def _same(old: Any, new: Any) -> bool:
    """Equality that also works for values holding arrays."""
    try:
        return type(old) is type(new) and bool(old == new)
    except (ValueError, RuntimeError):  # arrays and tensors compare element by element
        return bool(np.array_equal(np.asarray(old), np.asarray(new)))


class _MetadataCatalog:
    """Metadata by dataset name; asking for a new name creates an empty entry."""

    def __init__(self) -> None:
        self._entries: dict[str, Metadata] = {}

    def get(self, name: str) -> Metadata:
        """The metadata of ``name``, always the same object for the same name."""
        if not isinstance(name, str) or not name:
            raise DatasetError(f"a dataset's name must be a non-empty string, not {name!r}")
        return self._entries.setdefault(name, Metadata(name))

    def list(self) -> list[str]:
        """The names that have metadata."""
        return [*self._entries]

    def pop(self, name: str) -> Metadata:
        """Forget the metadata of ``name`` and return it; UnknownDatasetError if there is none."""
        if name not in self._entries:
            raise UnknownDatasetError.named(name, self.list())
        return self._entries.pop(name)

    def remove(self, name: str) -> None:
        """Forget the metadata of ``name``; UnknownDatasetError if there is none."""
        self.pop(name)

    def clear(self) -> None:
        """Forget all metadata."""
        self._entries.clear()

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"MetadataCatalog({', '.join(self._entries)})"


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()
