from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from drivetrain.engine.hooks.board import Board, Note, dump_flight_recorder, suspects
from drivetrain.engine.hooks.whereabouts import Place


def boards(folder: Path, world: int = 2) -> list[Board]:
    return [Board(folder / "notes", rank, world) for rank in range(world)]


def test_notes_are_seen_by_the_others_and_count(tmp_path: Path) -> None:
    first, second = boards(tmp_path)
    first.write(3, Place("fetch"))
    assert list(second.read()) == [0]
    changed = second.read()[0].changed
    first.write(3, Place("fetch"))
    note = second.read()[0]
    assert (note.beat, note.iteration, note.place, note.pid) == (1, 3, Place("fetch"), os.getpid())
    assert note.changed == changed and note.written >= changed
    time.sleep(0.01)
    first.write(4, Place("after_step", "EvalHook", True))
    assert second.read()[0].changed > changed and second.read()[0].place == Place("after_step", "EvalHook", True)


def test_one_rank_asks_and_the_others_answer_once(tmp_path: Path) -> None:
    first, second = boards(tmp_path)
    assert first.unanswered() == 0
    question = first.ask()
    assert question and second.ask() == 0
    assert second.unanswered() == question
    second.answer(question, "stack of\nthe second")
    assert second.unanswered() == 0 and first.answers(question) == {1: "stack of\nthe second"}
    first.close_question()
    assert second.question() == 0
    following = second.ask()
    assert following != question and first.answers(following) == {}


def test_the_last_one_to_leave_removes_the_folder(tmp_path: Path) -> None:
    ranks = boards(tmp_path, 3)
    for board in ranks:
        board.write(1, Place("step"))
    ranks[0].leave()
    ranks[2].leave()
    assert ranks[1].read()[0].left and not ranks[1].read()[1].left
    ranks[1].leave()
    assert list(tmp_path.iterdir()) == []


def test_a_dead_process_does_not_keep_the_folder(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    first, second = boards(tmp_path)
    first.write(1, Place("step"))
    second.write(1, Place("step"))
    path = tmp_path / "notes" / "1.json"
    path.write_text(path.read_text().replace(f'"pid": {os.getpid()}', f'"pid": {process.pid}'))
    assert first.state_of(first.read()[1]) == "gone"
    first.leave()
    assert list(tmp_path.iterdir()) == []


def test_the_table_says_who_shows_no_sign_of_life(tmp_path: Path) -> None:
    ranks = boards(tmp_path, 4)
    for board in ranks[:3]:
        board.write(7, Place("after_step", "EvalHook"))
    ranks[2].leave()
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        notes = ranks[0].read()
        notes[1] = replace(notes[1], pid=process.pid, written=time.time() - 40)
        lines = ranks[0].table(notes, {1}).splitlines()
    finally:
        process.kill()
        process.wait()
    assert len(lines) == 5
    assert lines[1].split()[:2] == ["0", "7"] and lines[1].endswith("after_step of hook EvalHook")
    assert "NO SIGN OF LIFE for 40" in lines[2] and "its process is stopped; seen in after_step of hook" in lines[2]
    assert "has left the training, from after_step" in lines[3]
    assert "has no note here" in lines[4]


def test_without_its_folder_a_board_is_silent(tmp_path: Path) -> None:
    board = Board(tmp_path / "not" / "there", 0, 2)
    board.write(1, Place("step"))
    board.answer(1, "stacks")
    board.abort()
    assert (board.read(), board.ask(), board.answers(1), board.aborted) == ({}, 0, {}, "")
    board.leave()


def test_all_are_told_to_end(tmp_path: Path) -> None:
    first, second = boards(tmp_path)
    assert second.aborted == ""
    first.abort()
    assert second.aborted == "0"


def note(rank: int, iteration: int, phase: str, waits: bool = False, left: bool = False) -> Note:
    place = Place(phase)
    return Note(rank, "host", 1, 0, 0.0, 0.0, iteration, phase, "", waits, place.progress, left)


@pytest.mark.parametrize(
    ("notes", "silent", "expected"),
    [
        ([note(0, 2, "backward", True), note(1, 2, "fetch")], set(), [1]),
        ([note(0, 3, "backward", True), note(1, 2, "after_step")], set(), [1]),
        ([note(0, 2, "backward", True), note(1, 2, "backward", True)], set(), []),
        ([note(0, 2, "after_step", True), note(1, 2, "after_step")], set(), [1]),
        ([note(0, 2, "fetch"), note(1, 5, "fetch"), note(2, 5, "fetch")], {2}, [2]),
        ([note(0, 5, "backward", True), note(1, 5, "step", left=True)], set(), [1]),
        ([note(0, 5, "backward", True)], set(), []),
        ([note(0, 5, "backward", True), note(1, 5, "step", left=True)], {0}, []),
        ([], set(), []),
    ],
)
def test_who_is_waited_for(notes: list[Note], silent: set[int], expected: list[int]) -> None:
    assert suspects({n.rank: n for n in notes}, silent) == expected


def test_the_flight_recorder_is_dumped(tmp_path: Path) -> None:
    assert "not read" in dump_flight_recorder(tmp_path / "records", 0)  # without a process group
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", world_size=1, rank=0)
    try:
        dist.all_reduce(torch.ones(3))
        text = dump_flight_recorder(tmp_path / "records", 0)
    finally:
        dist.destroy_process_group()
    path = tmp_path / "records" / "nccl_trace_rank_0"
    assert text == f"Flight recorder: {path}, pending collectives: none\n" and path.stat().st_size > 0


def test_stacks_that_cannot_be_encoded_are_told_as_far_as_they_can(tmp_path: Path) -> None:
    first, second = boards(tmp_path)
    question = first.ask()
    second.answer(question, "file \udcff.py, é")
    assert first.answers(question) == {1: "file \\udcff.py, é"}
    (first.folder / "0.stacks").write_bytes(f"{question}\n".encode() + b"\xff")
    assert first.answers(question)[0] == "\ufffd"
