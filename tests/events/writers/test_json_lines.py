"""metrics.json, after crashes and on a full disk too."""

from __future__ import annotations

import json
import math
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivetrain.errors import OutputError
from drivetrain.events import EventStorage, JSONWriter
from drivetrain.events.writers import json_lines


def _read(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def _loss(iteration: int) -> float:
    return 10.0 / (1 + iteration)


def _run(
    path: Path,
    start: int,
    end: int,
    *,
    state: dict[str, Any] | None = None,
    save_at: int = -1,
    finish: bool = True,
) -> dict[str, Any]:
    """A training with writes every 5 iterations and evaluation every 4; the state of a checkpoint at ``save_at``."""
    writer = JSONWriter(path, window_size=5)
    saved: dict[str, Any] = {}
    with EventStorage(start) as storage:
        if state is not None:
            storage.load_state_dict(state)
        for storage.iter in range(start, end):
            storage.put_scalar("total_loss", _loss(storage.iter))
            storage.put_scalar("lr", 0.1 * storage.iter, smoothing_hint=False)
            if storage.iter % 4 == 3:
                storage.put_scalar("bbox/AP", float(storage.iter), smoothing_hint=False)
                storage.put_scalar("bbox/AP50", 2.0 * storage.iter, smoothing_hint=False)
            if storage.iter == save_at:
                saved = storage.state_dict()
            if storage.iter % 5 == 4:
                writer.write()
        if finish:
            storage.iter = end
            storage.put_scalar("bbox/AP", -1.0, smoothing_hint=False)
            writer.write()
            writer.close()
    return saved


def test_lines_of_a_run(tmp_path: Path) -> None:
    _run(tmp_path / "m.json", 0, 10)
    assert _read(tmp_path / "m.json") == [
        {"iteration": 3, "bbox/AP": 3.0, "bbox/AP50": 6.0},
        {"iteration": 4, "total_loss": _loss(2), "lr": 0.4},
        {"iteration": 7, "bbox/AP": 7.0, "bbox/AP50": 14.0},
        {"iteration": 9, "total_loss": _loss(7), "lr": 0.1 * 9},
        {"iteration": 10, "bbox/AP": -1.0},
    ]


@pytest.mark.parametrize("delay", [1, 3, 12])
@pytest.mark.parametrize("saved_at", range(23))
def test_a_killed_and_resumed_run_leaves_the_same_file(tmp_path: Path, saved_at: int, delay: int) -> None:
    _run(tmp_path / "whole.json", 0, 30)
    path = tmp_path / "killed.json"
    state = _run(path, 0, saved_at + delay, save_at=saved_at, finish=False)
    with open(path, "ab") as file:
        file.write(b'{"iteration": 29, "total_lo')  # killed within a write
    _run(path, saved_at + 1, 30, state=state)
    assert path.read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_an_extended_run_keeps_the_evaluation_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    _run(path, 0, 10)
    before = _read(path)
    _run(path, 10, 20)
    assert _read(path)[: len(before)] == before
    assert [line["iteration"] for line in _read(path)] == [3, 4, 7, 9, 10, 11, 14, 15, 19, 20]


def test_resuming_a_finished_run_repeats_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    _run(path, 0, 10)
    before = path.read_bytes()
    _run(path, 10, 10)
    assert path.read_bytes() == before


def test_a_new_run_sets_an_old_file_aside(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    contents = []
    for end in (5, 10, 15):
        _run(path, 0, end)
        contents.append(path.read_bytes())
    assert (tmp_path / "metrics.json.1").read_bytes() == contents[0]
    assert (tmp_path / "metrics.json.2").read_bytes() == contents[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.json", "metrics.json.1", "metrics.json.2"]


@pytest.mark.parametrize(
    "damage", [b"\0\0\n", b"[1, 2]\n", b'{"loss": 1}\n', b'{"iteration": 4', b"\xff\n", b"[" * 99_999]
)
def test_damaged_lines_go_and_the_others_stay(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(b'{"a": 1.0, "iteration": 1}\n' + damage + b'\n{"a": 2.0, "iteration": 2}')
    with EventStorage(5) as storage:
        storage.put_scalar("a", 3.0)
        writer = JSONWriter(path)
        writer.write()
        writer.close()
    assert [(line["iteration"], line["a"]) for line in _read(path)] == [(1, 1.0), (2, 2.0), (5, 3.0)]


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    with EventStorage() as storage:
        for name, value in {"a": math.nan, "b": math.inf, "c": 0.5}.items():
            storage.put_scalar(name, value, smoothing_hint=False)
        writer = JSONWriter(tmp_path / "m.json")
        writer.write()
        writer.close()
    text = (tmp_path / "m.json").read_text()
    assert json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is not JSON")) == {
        "a": None,
        "b": None,
        "c": 0.5,
        "iteration": 0,
    }


def _limited_file_size(limit: int, function: Callable[[], None]) -> None:
    """Run with a kernel limit on file sizes: a write beyond it comes back short, the next raises OSError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        function()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_nothing_and_loses_nothing_once_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    writer = JSONWriter(path)
    with EventStorage() as storage:

        def some(count: int) -> None:
            for _ in range(count):
                storage.put_scalar("loss", float(storage.iter))
                storage.put_scalar("x/AP", float(storage.iter), smoothing_hint=False)
                writer.write()
                storage.iter += 2

        some(3)
        size = path.stat().st_size
        _limited_file_size(size + 10, lambda: some(4))
        assert writer.failures == 4
        assert path.stat().st_size == size  # whole lines only
        assert len(_read(path)) == 3
        some(2)
        writer.close()
    assert [line["iteration"] for line in _read(path)] == list(range(0, 18, 2))
    assert writer.failures == 4
    assert writer.dropped == 0


def test_a_full_disk_while_an_old_file_is_made_to_fit(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    lines = "".join(json.dumps({"a": 1.0, "iteration": i}) + "\n" for i in range(40))
    path.write_text(lines)
    writer = JSONWriter(path)
    with EventStorage(20) as storage:
        storage.put_scalar("a", 7.0)
        _limited_file_size(100, writer.write)
        assert writer.failures == 1
        assert path.read_text() == lines
        assert [p.name for p in tmp_path.iterdir()] == ["m.json"]
        writer.write()
        writer.close()
    assert [line["iteration"] for line in _read(path)] == list(range(21))


def test_what_waits_too_long_is_dropped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    writer = JSONWriter(path)
    path.mkdir()  # nothing can be written there
    with EventStorage() as storage:
        for storage.iter in range(0, 20_010, 2):
            storage.put_scalar("x/AP", 1.0, smoothing_hint=False)
            if storage.iter == 10_000:
                writer.write()
        writer.write()
        assert writer.dropped == 5
        path.rmdir()
        writer.write()
        writer.close()
    assert len(_read(path)) == 10_000


def test_what_is_written_waits_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "_MAX_QUEUE", 3)
    writer = JSONWriter(tmp_path / "m.json")
    with EventStorage() as storage:
        for storage.iter in range(10):
            storage.put_scalar("a", 1.0)
            writer.write()
        writer.close()
    assert (writer.dropped, len(_read(tmp_path / "m.json"))) == (0, 10)


def test_a_file_made_to_fit_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    for name in ("fsync", "replace"):
        act = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, act=act, name=name: steps.append(name) or act(*args))
    path = tmp_path / "m.json"
    path.write_text('{"a": 1.0, "iteration": 4}\n{"a": 1.0, "iteration": 5}\n')
    with EventStorage(5) as storage:
        storage.put_scalar("a", 2.0)
        writer = JSONWriter(path)
        writer.write()
        writer.close()
    assert steps == ["fsync", "replace"]
    assert [line["a"] for line in _read(path)] == [1.0, 2.0]


def test_closing_twice_and_writing_again(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    writer = JSONWriter(path)
    writer.close()
    with EventStorage() as storage:
        for storage.iter in range(3):
            storage.put_scalar("a", 1.0)
            writer.write()
            writer.close()
            writer.close()
    assert [line["iteration"] for line in _read(path)] == [0, 1, 2]


def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        JSONWriter(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="folder of"):
        JSONWriter(tmp_path / "file" / "metrics.json")
    JSONWriter(tmp_path / "new" / "folder" / "metrics.json")
    assert (tmp_path / "new" / "folder").is_dir()
