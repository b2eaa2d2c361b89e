"""One folder of checkpoints: its files, its manifest and the text file ``last_checkpoint``.

A save goes through these steps, each of them atomic, so that a crash between any two leaves a folder that
loads:

1. the file is written and verified under a temporary name;
2. the manifest announces its digest;
3. the file gets its name (in place of an older one of that name, whose digest the manifest still lists);
4. ``last_checkpoint`` names it, if it is the newest state of the training;
5. the manifest lists it in its roles.

Reading takes ``last_checkpoint`` for the newest (people edit that file to go back), then the manifest from the entry
saved last to the first (not by iteration: after going back, the higher ones are those that were left), then files that
no manifest lists.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from drivetrain.checkpoint.files import (
    FileLayer,
    Written,
    atomic_write,
    check_file_name,
    clean_leftovers,
    file_digest,
)
from drivetrain.checkpoint.formats import check_whole, map_checkpoint
from drivetrain.checkpoint.manifest import MANIFEST_NAME, Entry, Manifest
from drivetrain.errors import CheckpointError, CorruptCheckpointError, OutputError

__all__ = ["CheckpointFolder", "iteration_of_name"]

POINTER_NAME = "last_checkpoint"
_LARGEST_MANIFEST = 32 << 20
_logger = logging.getLogger(__name__)


class CheckpointFolder:
    """The checkpoints in a folder.

    Args:
        path: the folder; made at the first save.
        layer: the file operations to use.
    """

    def __init__(self, path: str | Path, layer: FileLayer | None = None) -> None:
        self.path = Path(path)
        self.layer = layer or FileLayer()
        self._known: tuple[_Stamp, Manifest] | None = None  # the manifest, as long as its file is the same
        self._told = False  # that another process writes it too

    # ---- writing

    def save(self, entry: Entry, writer: Callable[[Any], None]) -> Entry:
        """Write a checkpoint; see the module's text for the steps.

        Args:
            entry: what it is; ``bytes`` and ``sha256`` are filled in here. With the role ``last``, the file
                ``last_checkpoint`` is made to name it.
            writer: writes the content, for `atomic_write`.

        Returns:
            The entry as it is in the manifest.

        Raises:
            OutputError: the folder or a file cannot be written. What was there before is untouched.
        """
        self.make()

        def announce(written: Written) -> None:
            nonlocal entry
            entry = replace(entry, bytes=written.bytes, sha256=written.sha256)
            self._write_manifest(self._manifest_of_now().announce(entry))

        atomic_write(self.path / entry.file, writer, layer=self.layer, before_rename=announce)
        if "last" in entry.roles:
            self._write_text(POINTER_NAME, entry.file)
        manifest = self._manifest_of_now().commit(entry)
        self._write_manifest(manifest)
        return manifest.find(entry.file)[-1]

    def tag_last(self, file: str) -> None:
        """Make a file of the folder the one that a resume takes first."""
        check_file_name(file, "tag_last_checkpoint")
        self._write_text(POINTER_NAME, file)
        manifest = self.manifest(repair=True)
        if entry := next(reversed(manifest.find(file)), None):
            self._write_manifest(manifest.commit(replace(entry, roles=tuple(dict.fromkeys((*entry.roles, "last"))))))

    def remove(self, files: Iterable[str]) -> None:
        """Delete checkpoints. A crash in between leaves entries without a file, which reading passes over.

        Raises:
            OutputError: one cannot be deleted.
        """
        names = {check_file_name(file, "remove") for file in files}
        try:
            for name in sorted(names):
                self.layer.remove(self.path / name)
        except OSError as error:
            raise OutputError(f"{error.filename or self.path} cannot be deleted ({error.strerror or error})") from error
        if names:
            self._write_manifest(self.manifest(repair=True).without(names))

    def make(self) -> None:
        """Make the folder.

        Raises:
            OutputError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"the folder {self.path} cannot be made ({error.strerror or error}): choose another OUTPUT_DIR"
            ) from error

    def clean(self) -> None:
        """Delete what killed saves left under temporary names, where they can be seen."""
        removed = []
        with contextlib.suppress(OSError):
            removed = clean_leftovers(self.path, self.layer)
        if removed:
            _logger.info("Removed %d unfinished files of an earlier run from %s", len(removed), self.path)

    def set_aside(self, file: str) -> str:
        """Rename a damaged file to ``<name>.corrupt``; returns what became of it, for a message."""
        target = self.path / f"{file}.corrupt"
        number = 1
        while target.exists():
            number += 1
            target = self.path / f"{file}.corrupt{number}"
        try:
            self.layer.replace(self.path / file, target)
        except OSError as error:
            return f"cannot be set aside: {error.strerror or error}"
        return f"set aside as {target.name}"

    # ---- reading

    def manifest(self, *, repair: bool = False) -> Manifest:
        """The manifest; empty where there is none.

        A damaged one is reported, and with ``repair`` it is set aside and rebuilt from the files that are
        whole.

        Raises:
            CheckpointError: it cannot be read.
        """
        path = self.path / MANIFEST_NAME
        try:
            stamp = _stamp(path)
            if self._known is None or self._known[0] != stamp:
                if stamp.size > _LARGEST_MANIFEST:
                    raise CorruptCheckpointError(f"{path} is larger than any manifest")
                self._known = stamp, Manifest.parse(path.read_bytes(), str(path))
            return self._known[1]
        except FileNotFoundError:
            return Manifest()
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from error
        except CorruptCheckpointError as error:
            if not repair:
                _logger.warning("%s; going by the files themselves", error)
                return Manifest()
            aside = self.set_aside(MANIFEST_NAME)
            rebuilt = self._rebuild()
            _logger.warning("%s (%s); rebuilt from %d files", error, aside, len(rebuilt.entries))
            return rebuilt

    def pointer(self) -> str:
        """The file that ``last_checkpoint`` names, or ``""``; a name that leads out of the folder is reported."""
        path = self.path / POINTER_NAME
        try:
            with open(path, encoding="utf-8", errors="replace") as handle:
                name = handle.read(4096).strip()
            return check_file_name(name, str(path)) if name else ""
        except OSError:
            return ""
        except CheckpointError as error:
            _logger.error("%s; going by the other files", error)
            return ""

    def files(self) -> list[str]:
        """The names of all ``.pth`` files, sorted."""
        if not self.path.is_dir():
            return []
        return sorted(p.name for p in self.path.iterdir() if p.suffix == ".pth" and not p.name.startswith("."))

    def candidates(self) -> Iterator[str]:
        """File names that exist, in the order in which a resume tries them."""
        present = dict.fromkeys(self.files())
        newest_first = list(reversed(self.manifest().entries))
        newest_first.sort(key=lambda e: e.iteration is None)
        listed = dict.fromkeys(e.file for e in newest_first)
        unlisted = sorted((f for f in present if f not in listed), key=lambda f: -(iteration_of_name(f) or -1))
        return (name for name in dict.fromkeys((self.pointer(), *listed, *unlisted)) if name in present)

    def was_used(self) -> list[str]:
        """Traces that checkpoints were saved here: names of files, listed files, files set aside, the pointer."""
        traces = {e.file for e in self.manifest().entries if not e.pending} | {*self.files(), self.pointer()}
        if self.path.is_dir():
            traces |= {p.name for p in self.path.iterdir() if ".pth.corrupt" in p.name or p.name == POINTER_NAME}
        return sorted(traces - {""})

    def check(self, file: str) -> None:
        """Check that a file is what was saved, by its digest where the manifest has one; see `check_whole`."""
        digests = self.digests(file)
        try:
            check_whole(self.path / file, digests)
        except CorruptCheckpointError:
            if self.digests(file) == digests:
                raise
            self.check(file)  # a process that saves has replaced it meanwhile

    def verify(self, file: str) -> None:
        """Check that a file is what was saved, by its digest where the manifest has one, and that it can be read.

        Raises:
            CorruptCheckpointError: it is not; or it has the digest, but holds what no training saves.
            CheckpointError: the system cannot read it, or it is not listed and holds objects that could run code.
        """
        self.check(file)
        try:
            map_checkpoint(self.path / file)
        except CheckpointError as error:
            unreadable = isinstance(error, CorruptCheckpointError) or isinstance(error.__cause__, OSError)
            if self.digests(file) and not unreadable:
                raise CorruptCheckpointError(f"{error}; it was exchanged together with its digest") from error
            raise

    def digests(self, file: str) -> list[str]:
        """The digests that the manifest accepts for a file (two while it is being replaced)."""
        return [entry.sha256 for entry in self.manifest().find(file)]

    def iteration(self, file: str) -> int | None:
        """The iteration of a file by the manifest, or else by its name."""
        known = [entry.iteration for entry in self.manifest().find(file) if entry.iteration is not None]
        return known[-1] if known else iteration_of_name(file)

    # ---- parts

    def _manifest_of_now(self) -> Manifest:
        """The manifest to write to, with what another process has added; that there is one is said once."""
        known, manifest = self._known, self.manifest(repair=True)
        if known and not self._told and _files(manifest) != _files(known[1]):
            self._told = True
            _logger.warning(
                "The checkpoints in %s were changed by something other than this training: if another one saves there, "
                "give it an OUTPUT_DIR of its own, or they replace and delete each other's files",
                self.path,
            )
        return manifest

    def _write_manifest(self, manifest: Manifest) -> None:
        self._write_text(MANIFEST_NAME, manifest.to_text())
        self._known = _stamp(self.path / MANIFEST_NAME), manifest

    def _write_text(self, name: str, text: str) -> None:
        atomic_write(self.path / name, lambda stream: stream.write(text.encode()), layer=self.layer)

    def _rebuild(self) -> Manifest:
        """A manifest of the files that are whole, made from what they hold."""
        entries = []
        for name in self.files():
            path = self.path / name
            try:
                check_whole(path)
                iteration = map_checkpoint(path).get("iteration")
                entry = Entry(name, path.stat().st_size, file_digest(path))
            except (CheckpointError, OSError) as error:
                _logger.warning("left out of the manifest: %s", error)
                continue
            entries.append(replace(entry, iteration=iteration if type(iteration) is int else None))
        entries.sort(key=lambda e: -1 if e.iteration is None else e.iteration)
        last = self.pointer()
        roles = {"model_best.pth": ("best",), "model_final.pth": ("final",)}
        return Manifest(
            tuple(replace(e, roles=(*roles.get(e.file, ()), *(("last",) if e.file == last else ()))) for e in entries)
        )


def _files(manifest: Manifest) -> list[tuple[str, str]]:
    return [(entry.file, entry.sha256) for entry in manifest.entries]


class _Stamp(NamedTuple):
    """What is another one when a file was replaced or written to."""

    number: int
    modified: int
    size: int


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return _Stamp(status.st_ino, status.st_mtime_ns, status.st_size)


def iteration_of_name(file: str) -> int | None:
    """The iteration in a name such as ``model_0004999.pth``, or None."""
    found = re.search(r"_(\d+)\.pth$", file)
    return int(found[1]) if found else None
