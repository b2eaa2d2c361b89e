"""The machine stops at any moment of a save: what was not synced may be on the disk or not, in any combination."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from drivetrain.checkpoint import read_checkpoint

_ALL_SUBSETS_OF = 6  # beyond that many pending operations: none, all, each alone, all but each, and drawn ones
_DRAWN = 6

Image = dict[str, bytes]


def subsets(count: int, rng: random.Random) -> Iterator[tuple[bool, ...]]:
    """Which of ``count`` pending operations reached the disk."""
    if count <= _ALL_SUBSETS_OF:
        yield from itertools.product((False, True), repeat=count)
        return
    yield (False,) * count
    yield (True,) * count
    for k in range(count):
        yield tuple(i == k for i in range(count))
        yield tuple(i != k for i in range(count))
    for _ in range(_DRAWN):
        yield tuple(rng.random() < 0.5 for _ in range(count))


def images(before: Image, operations: Sequence[Any], rng: random.Random) -> Iterator[Image]:
    """What the disk may hold after a crash: each prefix of the operations with each subset of what was not synced.

    A write that did not arrive leaves zeros where a later one of its file did. Names and contents are synced apart, as
    on a disk whose system orders nothing.
    """
    for cut in range(len(operations) + 1):
        done = operations[:cut]
        pending: list[int] = []
        for i, operation in enumerate(done):
            if operation.kind == "sync":
                pending = [k for k in pending if not (done[k].kind == "write" and done[k].file == operation.file)]
            elif operation.kind == "sync_folder":
                pending = [k for k in pending if done[k].kind == "write"]
            else:
                pending.append(i)
        for kept in subsets(len(pending), rng):
            lost = {k for k, stays in zip(pending, kept, strict=True) if not stays}
            yield replayed(before, [(op, i not in lost) for i, op in enumerate(done)])


def replayed(before: Image, operations: Sequence[tuple[Any, bool]]) -> Image:
    """The names and contents after some operations reached the disk and others did not."""
    contents: dict[int, bytearray] = {}
    names: dict[str, int | bytes] = dict(before)
    sizes: dict[int, int] = {}
    for operation, arrived in operations:
        if operation.kind == "write":
            start = sizes.get(operation.file, 0)
            sizes[operation.file] = start + len(operation.data)
            if arrived:
                content = contents.setdefault(operation.file, bytearray())
                content.extend(bytes(start - len(content)))
                content.extend(operation.data)
        elif arrived and operation.kind == "create":
            names[operation.name] = operation.file
        elif arrived and operation.kind == "rename":
            names.pop(operation.data.decode(), None)
            names[operation.name] = operation.file
        elif arrived and operation.kind == "remove":
            names.pop(operation.name, None)
    return {n: f if isinstance(f, bytes) else bytes(contents.get(f, b"")) for n, f in names.items()}


def distinct(before: Image, operations: Sequence[Any]) -> list[Image]:
    """The different ones among `images`; what stands under temporary names is nobody's concern, so it stays out."""
    found: dict[tuple[tuple[str, bytes], ...], Image] = {}
    for image in images(before, operations, random.Random(0)):
        visible = {name: content for name, content in image.items() if not name.endswith(".tmp")}
        found.setdefault(tuple(sorted(visible.items())), visible)
    return list(found.values())


def write_image(image: Image, folder: Path) -> None:
    folder.mkdir()
    for name, content in image.items():
        (folder / name).write_bytes(content)


def read_folder(folder: Path) -> Image:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def record(make_run: Any, recording: Any, folder: Path, act: str, value: int) -> tuple[Image, list[Any]]:
    """The folder before a save, and the operations of the save."""
    before = read_folder(folder)
    run = make_run(folder, recording())
    getattr(run, act)(value)
    return before, run.checkpointer.layer.operations


def resume(make_run: Any, folder: Path) -> int | None:
    """The state that a resume finds; None where it starts anew."""
    run = make_run(folder)
    rest = run.checkpointer.resume_or_load("")
    if not rest:
        return None
    assert rest["iteration"] == run.whole()
    return run.whole()


def test_a_crash_in_the_first_save_of_a_folder(tmp_path, make_run, recording):
    before, operations = record(make_run, recording, tmp_path / "run", "step", 1)
    assert before == {}
    outcomes = set()
    for number, image in enumerate(distinct(before, operations)):
        write_image(image, tmp_path / str(number))
        outcomes.add(resume(make_run, tmp_path / str(number)))
    assert outcomes == {None, 1}
    assert resume(make_run, tmp_path / "run") == 1


@pytest.mark.parametrize("act", ["step", "best"])
def test_a_crash_in_a_later_save_leaves_the_old_state_or_the_new_one(tmp_path, make_run, recording, saved_run, act):
    """The periodic save ends with deleting the file that is one too many; the best one takes the place of another."""
    folder = saved_run("run")
    before, operations = record(make_run, recording, folder, act, 4)
    kinds = [operation.kind for operation in operations]
    assert kinds.count("rename") == {"step": 5, "best": 3}[act] and ("remove" in kinds) == (act == "step")
    cases = distinct(before, operations)
    assert len(cases) >= 4  # old, announced, in place, listed
    outcomes, best = set(), set()
    for number, image in enumerate(cases):
        place = tmp_path / str(number)
        write_image(image, place)
        run = make_run(place)
        run.checkpointer.folder.verify("model_best.pth")
        best.add(read_checkpoint(place / "model_best.pth")["iteration"])
        outcomes.add(resume(make_run, place))
        periodic = [p.name for p in place.glob("model_0*.pth")]
        assert len(periodic) >= 2, "retention took a file before the new one was there"
        run.step(5)  # and the folder takes the next save
        run.best(5)
        assert resume(make_run, place) == 5
        assert not list(place.glob("*.corrupt*"))
    assert outcomes == ({3, 4} if act == "step" else {3})
    assert best == ({1, 4} if act == "best" else {1})


def test_when_a_save_has_returned_no_crash_takes_it_back(tmp_path, make_run, recording, saved_run):
    folder = saved_run("run")
    run = make_run(folder, recording())
    before = read_folder(folder)
    run.step(4)
    end = len(run.checkpointer.layer.operations)
    run.step(5)
    operations = run.checkpointer.layer.operations
    outcomes = []
    for cut in range(end, len(operations) + 1, 3):
        write_image(synced_alone(before, operations[:cut]), tmp_path / str(cut))
        outcomes.append(resume(make_run, tmp_path / str(cut)))
    assert outcomes == sorted(outcomes) and outcomes[0] == 4 and set(outcomes) == {4, 5}


def synced_alone(before: Image, operations: Sequence[Any]) -> Image:
    """What the disk holds if nothing arrived that was not synced."""
    synced: set[int] = set()
    for i, operation in enumerate(operations):
        if operation.kind == "sync":
            synced |= {k for k in range(i) if operations[k].kind == "write" and operations[k].file == operation.file}
        elif operation.kind == "sync_folder":
            synced |= {k for k in range(i) if operations[k].kind != "write"}
    return replayed(before, [(op, i in synced) for i, op in enumerate(operations)])


@pytest.mark.parametrize("skipped", ["sync", "sync_folder"])
def test_a_save_that_does_not_sync_is_found_out(tmp_path, make_run, recording, saved_run, skipped):
    """The control: without one of the two, some crash leaves a damaged file or loses a save that had returned."""
    folder = saved_run("run")
    before, operations = record(make_run, recording, folder, "best", 4)
    faulty = [operation for operation in operations if operation.kind != skipped]
    broken = 0
    for number, image in enumerate(distinct(before, faulty)):
        write_image(image, tmp_path / str(number))
        try:
            make_run(tmp_path / str(number)).checkpointer.folder.verify("model_best.pth")
        except Exception:
            broken += 1
    lost = synced_alone(before, faulty) == before
    assert broken if skipped == "sync" else lost
