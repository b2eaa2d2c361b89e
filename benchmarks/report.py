"""What the benchmarks share: interleaved rounds, medians with quartiles, tables, and their place in docs/benchmarks.md.

A benchmark measures its cases one after the other within a round, and turns their order from round to round, so that
what else the machine does falls on all of them. Ratios are taken within a round, and the median over rounds is shown
with the quartiles. CPU time counts all threads of the process; on a shared machine it is the steadier figure.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["Sample", "Section", "Table", "clock", "interleave", "machine", "parser", "publish", "spread"]


class Sample(NamedTuple):
    """Seconds of one measurement, per unit of work."""

    cpu: float
    wall: float


def clock(work: Callable[[], object], repeat: int = 1) -> Sample:
    """The time of one call of ``work``, as the mean over ``repeat`` calls; garbage is collected before."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(repeat):
        work()
    return Sample((time.process_time() - cpu) / repeat, (time.perf_counter() - wall) / repeat)


def interleave(cases: Mapping[str, Callable[[], Sample]], rounds: int) -> dict[str, list[Sample]]:
    """The samples of each case, one per round; the order of the cases turns from round to round."""
    names = list(cases)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            samples[name].append(cases[name]())
        if sys.stderr.isatty():
            print(f"\rround {number + 1} of {rounds}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return samples


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The median, and in brackets the quartiles."""
    if len(values) < 3:
        return f"{statistics.median(values):.{digits}f}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


@dataclass
class Table:
    """Rows of text under a heading for each column."""

    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        """Append a row."""
        self.rows.append([str(cell) for cell in cells])

    def _padded(self) -> list[list[str]]:
        lines = [list(self.columns), *map(list, self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.columns))]
        return [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]

    def text(self) -> str:
        """The table as aligned text."""
        return "\n".join("  ".join(line).rstrip() for line in self._padded())

    def markdown(self) -> str:
        """The table as Markdown."""
        heading, *rows = (f"| {' | '.join(line)} |" for line in self._padded())
        return "\n".join([heading, "|" + " --- |" * len(self.columns), *rows])


@dataclass
class Section:
    """What one benchmark has to say.

    Attributes:
        key: the name of the benchmark's file, without ``.py``.
        title: the question, as a heading.
        method: how it was measured, in a few sentences.
        parts: tables, and sentences between them.
        libraries: whose versions matter.
    """

    key: str
    title: str
    method: str
    parts: list[Table | str] = field(default_factory=list)
    libraries: Sequence[str] = ("torch",)

    def text(self) -> str:
        """For a terminal."""
        parts = [part.text() if isinstance(part, Table) else part for part in self.parts]
        return "\n\n".join([self.title, self.method, *parts, machine(self.libraries)])

    def markdown(self, command: str) -> str:
        """For a document."""
        parts = [part.markdown() if isinstance(part, Table) else part for part in self.parts]
        return "\n\n".join([f"## {self.title}", self.method, f"`{command}`", *parts, machine(self.libraries)])


def machine(libraries: Iterable[str]) -> str:
    """One line on where and with what it was measured."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries)
    return f"Python {platform.python_version()}, {versions}; {_processor()}, {os.cpu_count()} cores; {_today()}."


def _processor() -> str:
    """The processor's name where the system tells it."""
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _today() -> str:
    return time.strftime("%Y-%m-%d")


def parser(description: str, example: str) -> argparse.ArgumentParser:
    """A command line with the options that all benchmarks have: ``--rounds``, ``--threads``, ``--document``."""
    made = argparse.ArgumentParser(description=description, epilog=f"example: {example}")
    made.add_argument("--rounds", type=_positive, default=11, help="times that each case is measured (default: 11)")
    made.add_argument("--threads", type=_positive, default=1, help="threads of PyTorch (default: 1)")
    made.add_argument(
        "--document", type=Path, metavar="FILE", help="put the result into this Markdown file, in place of the last one"
    )
    return made


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


def publish(section: Section, document: Path | None) -> None:
    """Print a section, and put it into a document if one is given."""
    print(section.text())
    if document is None:
        return
    command = " ".join(["python", *_command(sys.argv)])
    begin, end = f"<!-- begin {section.key} -->", f"<!-- end {section.key} -->"
    body = f"{begin}\n\n{section.markdown(command)}\n\n{end}"
    old = document.read_text() if document.exists() else "# Benchmarks\n"
    place = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    new = place.sub(lambda _: body, old) if place.search(old) else f"{old.rstrip()}\n\n{body}\n"
    document.write_text(new)


def _command(arguments: Sequence[str]) -> list[str]:
    """The command line as one would type it in the repository, without ``--document`` and its file."""
    script, *rest = arguments
    kept, skip = [], False
    for argument in rest:
        if skip or argument.startswith("--document"):
            skip = argument == "--document"
            continue
        kept.append(argument)
    return [f"benchmarks/{Path(script).name}", *kept]
