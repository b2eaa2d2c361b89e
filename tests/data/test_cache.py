"""Converted datasets on disk: when they are found again, and when they are made anew."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivetrain.data import cache as module
from drivetrain.data.cache import cache_folders, cached_store, file_version
from drivetrain.data.store import RecordStore
from drivetrain.errors import DatasetError


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRIVETRAIN_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "data.json"
    path.write_text("[1, 2, 3]")
    return path


class Maker:
    """Converts a file with a list of numbers, and counts how often."""

    def __init__(self, path: Path) -> None:
        self.path, self.calls = path, 0

    def __call__(self) -> RecordStore:
        self.calls += 1
        return RecordStore.from_records([{"image_id": i} for i in json.loads(self.path.read_text())], {"kind": "list"})


def test_a_file_is_converted_once(source: Path) -> None:
    make = Maker(source)
    first, second = (cached_store(source, "a", make) for _ in range(2))
    assert make.calls == 1 and list(first) == list(second) == [{"image_id": i} for i in (1, 2, 3)]
    assert first.folder == second.folder and first.facts["kind"] == second.facts["kind"] == "list"
    assert cached_store(source, "another way", make).folder != first.folder and make.calls == 2


def test_a_changed_file_is_converted_again_in_place_of_the_old(source: Path) -> None:
    make = Maker(source)
    old = cached_store(source, "", make)
    source.write_text("[4, 5]")
    assert [r["image_id"] for r in cached_store(source, "", make)] == [4, 5]
    assert [r["image_id"] for r in old] == [1, 2, 3]  # who has it open keeps it
    os.utime(source, ns=(1, 1))
    cached_store(source, "", make)
    assert make.calls == 3 and len([p for p in (cache_folders()[0] / "datasets").iterdir() if p.is_dir()]) == 1


@pytest.mark.parametrize("damage", ["boxes.npy", "header.json", "version"])
def test_a_damaged_store_is_made_anew(source: Path, damage: str) -> None:
    make = Maker(source)
    folder = Path(str(cached_store(source, "", make).folder))
    if damage == "version":
        header = json.loads((folder / "header.json").read_text())
        (folder / "header.json").write_text(json.dumps({**header, "version": 1}))
    else:
        (folder / damage).write_bytes((folder / damage).read_bytes()[:-3])
    assert len(cached_store(source, "", make)) == 3 and make.calls == 2
    cached_store(source, "", make)
    assert make.calls == 2


def test_what_fails_leaves_nothing(source: Path) -> None:
    def fails() -> RecordStore:
        raise DatasetError("wrong")

    with pytest.raises(DatasetError, match="wrong"):
        cached_store(source, "", fails)
    assert not [p for p in cache_folders()[0].rglob("*") if p.suffix != ".lock" and p.name != "datasets"]


def test_it_stays_in_memory_where_nothing_can_be_written(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make = Maker(source)
    monkeypatch.setenv("DRIVETRAIN_CACHE", "")
    assert cache_folders() == [] and cached_store(source, "", make).folder is None
    monkeypatch.setenv("DRIVETRAIN_CACHE", str(source))  # a file
    assert cached_store(source, "", make).folder is None
    monkeypatch.setenv("DRIVETRAIN_CACHE", str(source.parent / "full"))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.save", full)
    store = cached_store(source, "", make)
    assert store.folder is None and len(store) == 3 and "No space left" in caplog.text


def test_folders_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DRIVETRAIN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, second = cache_folders()
    assert first == tmp_path / "drivetrain" and second.name.startswith("drivetrain-")


def test_the_next_folder_is_taken_where_the_first_cannot_be_written(
    source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "blocked").write_text("a file")
    monkeypatch.setattr(module, "cache_folders", lambda: [tmp_path / "blocked", tmp_path / "second"])
    make = Maker(source)
    assert str(cached_store(source, "", make).folder).startswith(str(tmp_path / "second" / "datasets"))
    cached_store(source, "", make)
    assert make.calls == 1


def test_what_others_may_have_written_is_not_used(
    source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make = Maker(source)
    folders = cache_folders()
    monkeypatch.delenv("DRIVETRAIN_CACHE")
    monkeypatch.setattr(module, "cache_folders", lambda: folders)
    folder = Path(str(cached_store(source, "", make).folder))
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    folder.chmod(0o777)
    assert cached_store(source, "", make).folder == str(folder) and make.calls == 2  # in place of the other
    folder.parent.chmod(0o777)
    assert cached_store(source, "", make).folder == str(folder)  # the store itself is still the user's own
    folder.chmod(0o777)
    assert cached_store(source, "", make).folder is None


def _convert(path: Path, started: Any, results: Any) -> None:
    def make() -> RecordStore:
        results.put("made")
        time.sleep(0.3)
        return Maker(path)()

    started.wait()
    results.put(len(cached_store(path, "", make)))


def test_two_processes_at_once_convert_once(source: Path) -> None:
    context = multiprocessing.get_context("fork")
    started, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_convert, args=(source, started, results)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in range(4)]
    for process in processes:
        process.join(60)
    assert sorted(map(str, found)) == ["3", "3", "3", "made"]


def test_versions_of_files(source: Path) -> None:
    before = file_version(source)
    assert before is not None and before[0] == 9 and before == file_version(source)
    os.utime(source, ns=(5, before[1] + 1))
    assert file_version(source) != before
    checks: list[Callable[[], Any]] = [lambda: file_version(source.parent / "none"), lambda: file_version("a\0b")]
    assert [check() for check in checks] == [None, None]
