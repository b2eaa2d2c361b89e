"""What the number of checkpoints in a folder costs: saving one more, finding the newest, deleting the oldest.

Folders with 1 to 1,000 checkpoints of a few bytes are made, with the manifest that trainings on COCO's 80 classes
write. In each of them is measured:

- save: writing one more, which writes the manifest twice and reads both back;
- find: the order in which a resume tries the files;
- delete: removing one, which writes the manifest once;
- open: reading the manifest in a process that did not write it.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from report import Sample, Section, Table, clock, interleave, parser, publish, spread

from drivetrain.checkpoint import CheckpointFolder, Entry

CLASSES = tuple(f"class number {i}" for i in range(80))
TARGET = 5.0  # ms by which anything may take longer with the most checkpoints than with the fewest


class Folder:
    """A folder with so many checkpoints."""

    def __init__(self, path: Path, count: int) -> None:
        self.folder = CheckpointFolder(path)
        self.folder.make()
        self.first, self.last = 0, count
        manifest = self.folder.manifest()
        for number in range(count):
            (path / entry(number).file).write_bytes(b"x")
            manifest = manifest.commit(entry(number))
        self.folder._write_manifest(manifest)

    def save(self) -> Sample:
        """One more."""
        made = clock(lambda: self.folder.save(entry(self.last), lambda stream: stream.write(b"x")))
        self.last += 1
        return made

    def delete(self) -> Sample:
        """The oldest."""
        made = clock(lambda: self.folder.remove([entry(self.first).file]))
        self.first += 1
        return made

    def find(self) -> Sample:
        """The order of a resume."""
        return clock(lambda: list(self.folder.candidates()))

    def open(self) -> Sample:
        """As another process would."""
        return clock(lambda: CheckpointFolder(self.folder.path).manifest())


def entry(number: int) -> Entry:
    """What the manifest says about one of them."""
    return Entry(
        f"model_{number:07d}.pth",
        bytes=500_000_000,
        sha256=f"{number:064x}",
        roles=("last",),
        iteration=number,
        metric={"bbox/AP": 0.5},
        time="2026-01-01T00:00:00+00:00",
        versions={"drivetrain": "0.1.0", "torch": "2.14.1"},
        class_names=CLASSES,
        channel_order="BGR",
        config_sha256=f"{number:064x}",
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    made = parser("What many checkpoints cost.", "python benchmarks/growth_checkpoints.py --counts 1 100 --rounds 5")
    made.add_argument("--counts", type=int, nargs="+", default=[1, 10, 100, 1000], help="checkpoints in a folder")
    options = made.parse_args(arguments)
    table = Table(["checkpoints", "save, CPU ms", "find, CPU ms", "delete, CPU ms", "open, CPU ms", "manifest, KiB"])
    medians: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory() as parent:
        folders = {count: Folder(Path(parent) / str(count), count) for count in options.counts}
        work: dict[str, Callable[[], Sample]] = {
            f"{what} {count}": partial(getattr(Folder, what), folder)
            for count, folder in folders.items()
            for what in ("save", "find", "delete", "open")
        }
        times = interleave(work, options.rounds)
        for count, folder in folders.items():
            cpu = [[t.cpu * 1e3 for t in times[f"{what} {count}"]] for what in ("save", "find", "delete", "open")]
            size = (folder.folder.path / "checkpoints.json").stat().st_size / 1024
            medians[count] = [statistics.median(values) for values in cpu]
            table.add(f"{count:,}", *(spread(values, 2) for values in cpu), f"{size:.0f}")
    few, many = min(medians), max(medians)
    growth = max(b - a for a, b in zip(medians[few][:3], medians[many][:3], strict=True))
    reached = "reached" if growth <= TARGET else "not reached"
    section = Section(
        key="growth_checkpoints",
        title="What do many checkpoints in a folder cost?",
        method=f"CPU time, {options.rounds} rounds, median [quartiles]; a training saves in a thread beside it.",
        parts=[
            table,
            f"Target: with {many:,} checkpoints saving, finding and deleting take at most {TARGET:g} ms longer than "
            f"with {few:,}: at most {growth:.1f} ms, {reached}.",
        ],
    )
    publish(section, options.document)


if __name__ == "__main__":
    main()
