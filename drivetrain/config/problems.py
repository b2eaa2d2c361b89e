"""Everything that is wrong with a config, gathered so that it is reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from drivetrain.errors import ConfigError, UnknownKeyError

__all__ = ["Problems", "key_text", "suggest"]


_MOST_SHOWN = 30
_LONGEST_PART = 80


@dataclass
class Problems:
    """A growing list of mistakes."""

    lines: list[str] = field(default_factory=list)
    unknown: int = 0

    def add(self, origin: str, key: str, text: str, *, unknown: bool = False) -> None:
        """Note one mistake.

        Args:
            origin: where it was written (``file:line:``, ``override``), or "".
            key: the full key.
            text: the rest of the sentence "<key> ...".
            unknown: whether the mistake is that the key does not exist.
        """
        self.lines.append(" ".join(part for part in (origin, key, text) if part))
        self.unknown += unknown

    def raise_if_any(self) -> None:
        """Raise what was noted, if anything.

        Raises:
            UnknownKeyError: if every mistake is an unknown key.
            ConfigError: otherwise.
        """
        if not self.lines:
            return
        error = UnknownKeyError if self.unknown == len(self.lines) else ConfigError
        if len(self.lines) == 1:
            raise error(self.lines[0])
        more = len(self.lines) - _MOST_SHOWN
        shown = [*self.lines[:_MOST_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        raise error("\n  ".join([f"{len(self.lines)} mistakes in the config:", *shown]))

    @property
    def is_full(self) -> bool:
        """Whether further mistakes would not be shown, so that no hint has to be looked for."""
        return len(self.lines) >= _MOST_SHOWN


def key_text(path: Iterable[object]) -> str:
    """A key as a message shows it: its parts joined by dots, long ones cut, unprintable characters escaped."""
    parts = [str(part) for part in path]
    text = ".".join(_cut(part) if part.isprintable() and part else repr(_cut(part)) for part in parts)
    return text if len(text) <= 5 * _LONGEST_PART else f"{text[: 5 * _LONGEST_PART]}..."


def _cut(part: str) -> str:
    return part if len(part) <= _LONGEST_PART else f"{part[:_LONGEST_PART]}..."


def suggest(key: str, known: Iterable[str]) -> str:
    """A hint of keys close to ``key``: ``"; did you mean 'SOLVER.BASE_LR'?"``, or ``""``.

    A known key with the same last part comes first (the key was typed at the wrong level), then keys spelled
    like the whole of it, then keys whose last part is spelled like its last part.
    """
    whole = {name.lower(): name for name in known}
    tails: dict[str, list[str]] = {}
    for lowered, name in whole.items():
        tails.setdefault(lowered.rsplit(".", 1)[-1], []).append(name)
    wanted = key.lower()
    tail = wanted.rsplit(".", 1)[-1]

    close = _nearest(wanted, tails.get(tail, []))
    if not close:
        close = [whole[match] for match in difflib.get_close_matches(wanted, whole, n=3, cutoff=0.75)]
    if not close:
        near_tails = difflib.get_close_matches(tail, tails, n=3, cutoff=0.75)
        close = _nearest(wanted, [name for near in near_tails for name in tails[near]])
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def _nearest(wanted: str, names: list[str], most: int = 3) -> list[str]:
    return sorted(names, key=lambda name: -difflib.SequenceMatcher(None, wanted, name.lower()).ratio())[:most]
