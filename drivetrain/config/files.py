"""Config files: reading YAML from disk and following ``_BASE_``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from drivetrain.errors import ConfigError, did_you_mean

from .problems import Problems, key_text
from .values import shown
from .yaml_text import Located, parse_yaml

__all__ = ["BASE_KEY", "Layer", "load_yaml_with_base", "read_layers", "unlocated"]

BASE_KEY = "_BASE_"
_LARGEST_FILE = 4 << 20  # bytes; parse_yaml has a limit of characters
_MOST_FILES = 100  # of one config, each counted as often as it is named


@dataclass(frozen=True)
class Layer:
    """One file of a chain of bases, without its ``_BASE_`` key."""

    name: str
    data: Located

    def origin(self, lines: Located, key: Any) -> str:
        """``file:line:`` of a key of ``lines``, a mapping of this file."""
        return f"{self.name}:{lines.lines[key]}:" if key in lines.lines else f"{self.name}:"


def read_layers(path: str | os.PathLike[str], problems: Problems) -> list[Layer]:
    """The files that make up the config at ``path``, bases first.

    ``_BASE_`` names one file or a list of files, relative to the file that has it. Duplicate keys
    are noted in ``problems``.

    Raises:
        ConfigError: a file is missing, unreadable, far too large or not YAML; bases go in a circle, are not local
            files or are far too many.
    """
    return _Chain(problems).read(Path(os.path.expanduser(os.fspath(path))), ())


def load_yaml_with_base(path: str | os.PathLike[str], allow_unsafe: bool = False) -> dict[str, Any]:
    """The content of a YAML file merged over its bases, as plain nested dicts.

    Args:
        path: the file.
        allow_unsafe: accepted so that code written for detectron2 runs; nothing unsafe is ever loaded.

    Raises:
        ConfigError: as :func:`read_layers`, or duplicate keys.
    """
    problems = Problems()
    merged: dict[str, Any] = {}
    for layer in read_layers(path, problems):
        _merge_plain(unlocated(layer.data), merged)
    problems.raise_if_any()
    return merged


def unlocated(value: Any) -> Any:
    """``value`` with plain dicts in place of :class:`Located` ones."""
    if isinstance(value, dict):
        return {key: unlocated(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(unlocated(item) for item in value)
    return value


class _Chain:
    """Reads a file and its bases, with a bound on how many."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._count = 0

    def read(self, path: Path, above: tuple[Path, ...], origin: str = "") -> list[Layer]:
        """The layers of ``path``, bases first; ``above`` are the files that led here, ``origin`` is who names it."""
        self._count += 1
        if self._count > _MOST_FILES:
            raise ConfigError(f"{above[0]}: {BASE_KEY} leads to more than {_MOST_FILES} files, which no config needs")
        resolved = _resolved(path, origin)
        if resolved in above:
            circle = " -> ".join(str(p.name) for p in (*above[above.index(resolved) :], resolved))
            raise ConfigError(f"{above[-1]}: {BASE_KEY} goes in a circle ({circle}); remove one of these bases")
        document = parse_yaml(_text_of(path, origin), str(path))
        if not isinstance(document.data, Located):
            found = shown(unlocated(document.data))
            raise ConfigError(f"{path}: a config file holds keys and values (SOLVER: ...), not {found}")
        for line, key, text in document.problems:
            self._problems.add(f"{path}:{line}:", key_text([key]), text)
        layer = Layer(str(path), document.data)
        bases, origin = _bases_of(layer), layer.origin(layer.data, BASE_KEY)
        layer.data.pop(BASE_KEY, None)
        below = [self.read(base, (*above, resolved), f"{origin} {BASE_KEY}: ") for base in bases]
        return [*chain.from_iterable(below), layer]


def _resolved(path: Path, origin: str) -> Path:
    """The file itself, for comparing."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # RuntimeError until Python 3.12
        raise ConfigError(f"{origin}config file {path} cannot be read: its links go in a circle") from None


def _bases_of(layer: Layer) -> list[Path]:
    given = layer.data.get(BASE_KEY, [])
    names = [given] if isinstance(given, str) else given
    origin = layer.origin(layer.data, BASE_KEY)
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"{origin} {BASE_KEY} must be a file name or a list of them, received {shown(given)}")
    for name in names:
        if not name.isprintable() or len(name) > 1000:  # no path that anyone typed; NUL is none at all
            raise ConfigError(f"{origin} {BASE_KEY} must be a file name, received {shown(name)}")
        if "://" in name:
            raise ConfigError(f"{origin} {BASE_KEY} must be a local file, received {shown(name)}; download it first")
    return [Path(layer.name).parent / os.path.expanduser(name) for name in names]


def _text_of(path: Path, origin: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise ConfigError(f"{origin}config file {path} has more than {_LARGEST_FILE} bytes, which no config needs")
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        raise ConfigError(f"{origin}config file {path} does not exist{_similar(path)}") from None
    except IsADirectoryError:
        raise ConfigError(f"{origin}config file {path} is a folder; name a .yaml file in it") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{origin}config file {path} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"{origin}config file {path} cannot be read: {error.strerror}") from None


def _similar(path: Path) -> str:
    try:
        return did_you_mean(path.name, (entry.name for entry in path.parent.iterdir()))
    except OSError:
        return ""


def _merge_plain(source: dict[str, Any], into: dict[str, Any]) -> None:
    for key, value in source.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge_plain(value, into[key])
        else:
            into[key] = value
