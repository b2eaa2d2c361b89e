"""What is wrong with a dataset's files: collected in one pass, counted by kind, told in one message."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from drivetrain.errors import DatasetError

__all__ = ["Defect", "DefectGroup", "DefectReport", "Severity", "first_repeated"]

T = TypeVar("T", bound=Hashable)

_LONGEST = 600  # characters of a defect's text


class Severity(str, enum.Enum):
    """What a defect leads to."""

    ERROR = "error"
    """The dataset is not usable."""
    DROPPED = "dropped"
    """The annotation is left out."""
    FIXED = "fixed"
    """The annotation is corrected and used."""


@dataclass(frozen=True)
class Defect:
    """One thing wrong with a dataset.

    Attributes:
        kind: a short name shared by all defects of the same sort, as ``"unknown category"``.
        where: the place, as ``"annotations[3] (id 17)"``; ``""`` for the file as a whole.
        message: what is there and what should be.
        severity: what follows from it.
    """

    kind: str
    where: str
    message: str
    severity: Severity

    def __str__(self) -> str:
        text = f"{self.where} {self.message}" if self.where else self.message
        return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."  # a file may hold names of any length


@dataclass
class DefectGroup:
    """All defects of one kind: how many, and the first few."""

    kind: str
    severity: Severity
    count: int = 0
    examples: list[Defect] = field(default_factory=list)


class DefectReport:
    """Defects of one dataset, grouped by kind. Memory does not grow with their number.

    Args:
        source: the file the report is about.
        max_examples: how many defects of each kind are kept word for word.
    """

    def __init__(self, source: str, max_examples: int = 5) -> None:
        self.source = source
        self.max_examples = max_examples
        self._groups: dict[tuple[str, Severity], DefectGroup] = {}

    def add(self, defect: Defect) -> None:
        """Count one defect."""
        group = self._group(defect.kind, defect.severity)
        group.count += 1
        if len(group.examples) < self.max_examples:
            group.examples.append(defect)

    def error(self, kind: str, message: str, where: str = "") -> None:
        """Count one defect that makes the dataset unusable."""
        self.add(Defect(kind, where, message, Severity.ERROR))

    def add_many(
        self, kind: str, severity: Severity, places: Iterable[int], describe: Callable[[int], tuple[str, str]]
    ) -> None:
        """Count a defect at each of ``places``; ``describe(place)`` gives (where, message), asked for examples only."""
        for place in places:
            group = self._group(kind, severity)
            group.count += 1
            if len(group.examples) < self.max_examples:
                group.examples.append(Defect(kind, *describe(place), severity))

    def __iter__(self) -> Iterator[DefectGroup]:
        """The groups, most severe first, then in the order found."""
        order = list(Severity)
        return iter(sorted(self._groups.values(), key=lambda g: order.index(g.severity)))

    def __len__(self) -> int:
        """The number of defects."""
        return sum(group.count for group in self._groups.values())

    def __bool__(self) -> bool:
        """True when there is any defect."""
        return bool(self._groups)

    def count(self, severity: Severity) -> int:
        """The number of defects of one severity."""
        return sum(group.count for group in self if group.severity is severity)

    @property
    def counts(self) -> dict[str, int]:
        """The number of defects of each kind."""
        totals: dict[str, int] = {}
        for group in self:
            totals[group.kind] = totals.get(group.kind, 0) + group.count
        return totals

    @property
    def has_errors(self) -> bool:
        """Whether the dataset is unusable."""
        return any(group.severity is Severity.ERROR for group in self)

    def rows(self) -> list[tuple[str, str, int, str]]:
        """(severity, kind, count, first example) of each group, for a table."""
        return [(group.severity.value, group.kind, group.count, str(group.examples[0])) for group in self]

    def to_text(self, *severities: Severity) -> str:
        """The report over several lines; only ``severities`` when any is given. ``""`` when there is nothing to say."""
        groups = [group for group in self if not severities or group.severity in severities]
        return "\n".join(line for group in groups for line in self._lines(group))

    def raise_if_errors(self) -> None:
        """Raise one DatasetError that tells every error found: one sentence for one error, a list for more."""
        total = self.count(Severity.ERROR)
        if total == 0:
            return
        if total == 1:
            only = next(iter(self)).examples[0]
            raise DatasetError(f"{self.source}: {only}" if only.where else str(only))
        raise DatasetError(f"{self.source} has {total:,} errors:\n{self.to_text(Severity.ERROR)}")

    def log(self, logger: logging.Logger) -> None:
        """Write one warning about what was left out or corrected; nothing when all is well."""
        dropped, fixed = self.count(Severity.DROPPED), self.count(Severity.FIXED)
        if dropped or fixed:
            text = self.to_text(Severity.DROPPED, Severity.FIXED)
            logger.warning(f"{self.source}: {dropped:,} annotations left out, {fixed:,} corrected:\n{text}")

    def __str__(self) -> str:
        return f"{self.source}\n{self.to_text()}" if self else f"{self.source}: no defects"

    def _group(self, kind: str, severity: Severity) -> DefectGroup:
        return self._groups.setdefault((kind, severity), DefectGroup(kind, severity))

    def _lines(self, group: DefectGroup) -> Iterator[str]:
        yield f"  {group.severity.value}: {group.kind} ({group.count:,})"
        yield from (f"    {example}" for example in group.examples)
        if group.count > len(group.examples):
            yield f"    ... and {group.count - len(group.examples):,} more"


def first_repeated(values: Iterable[T]) -> T | None:
    """The first value that equals one before it; None when all differ. The time it takes grows with their number."""
    seen: set[T] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
