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
        ConfigError: a file is missing, unreadable or not YAML; bases go in a circle or are not local files.
    """
    return _read(Path(os.path.expanduser(os.fspath(path))), problems, ())


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


def _read(path: Path, problems: Problems, above: tuple[Path, ...], origin: str = "") -> list[Layer]:
    resolved = path.resolve()
    if resolved in above:
        circle = " -> ".join(str(p.name) for p in (*above[above.index(resolved) :], resolved))
        raise ConfigError(f"{above[-1]}: {BASE_KEY} goes in a circle ({circle}); remove one of these bases")
    document = parse_yaml(_text_of(path, origin), str(path))
    if not isinstance(document.data, Located):
        found = shown(unlocated(document.data))
        raise ConfigError(f"{path}: a config file holds keys and values (SOLVER: ...), not {found}")
    for line, key, text in document.problems:
        problems.add(f"{path}:{line}:", key_text([key]), text)
    layer = Layer(str(path), document.data)
    bases, origin = _bases_of(layer), layer.origin(layer.data, BASE_KEY)
    layer.data.pop(BASE_KEY, None)
    below = [_read(base, problems, (*above, resolved), f"{origin} {BASE_KEY}: ") for base in bases]
    return [*chain.from_iterable(below), layer]


def _bases_of(layer: Layer) -> list[Path]:
    given = layer.data.get(BASE_KEY, [])
    names = [given] if isinstance(given, str) else given
    origin = layer.origin(layer.data, BASE_KEY)
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"{origin} {BASE_KEY} must be a file name or a list of them, received {shown(given)}")
    for name in names:
        if "://" in name:
            raise ConfigError(f"{origin} {BASE_KEY} must be a local file, received {shown(name)}; download it first")
    return [Path(layer.name).parent / os.path.expanduser(name) for name in names]


def _text_of(path: Path, origin: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
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
