from __future__ import annotations

import io
import json
import pickle
import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest

from drivetrain.engine import _worker
from drivetrain.engine._worker import WorkerPlan, returned, run_worker


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A plan for one rank, whose process group is left out."""
    (tmp_path / "attempt").write_text("2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(_worker, "_join", lambda *args: None)
    monkeypatch.setattr(_worker, "_end_with_parent", lambda: None)
    monkeypatch.setattr(_worker.dist, "destroy_process_group", lambda: None)
    return WorkerPlan(str(tmp_path), None, True, False, 1, timedelta(seconds=5))


def read(tmp_path):
    return json.loads((tmp_path / "error-2-0.json").read_text())


def left(plan, *ranks):
    """The value that these ranks left; not yet unpickled on others than rank 0."""
    content = returned(plan.folder, 2, ranks)
    return pickle.loads(content) if content else content


def test_rank_0_leaves_its_value_and_the_others_that_they_are_through(plan, monkeypatch):
    assert left(plan, 0) is None
    run_worker(plan, divmod, (7, 2))
    assert left(plan, 0) == (3, 1) and left(plan, 0, 1) is None
    monkeypatch.setenv("RANK", "1")
    run_worker(plan, divmod, (7, 2))
    assert left(plan, 0, 1) == (3, 1) and left(plan, 1) == b""


def test_a_value_that_cannot_be_sent_is_no_failure(plan, caplog):
    run_worker(plan, threading.Lock, ())
    assert left(plan, 0) is None and returned(plan.folder, 2, [0])
    assert "cannot be sent" in caplog.text


def test_what_was_printed_and_saved_is_out_before_the_result_is_left(plan, monkeypatch):
    events = []
    monkeypatch.setattr(_worker, "wait_for_saves", lambda: events.append(left(plan, 0)))
    monkeypatch.setattr(_worker.dist, "destroy_process_group", lambda: events.append("group"))

    class Stream(io.StringIO):
        def flush(self):
            events.append(left(plan, 0))
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Stream())
    run_worker(plan, divmod, (7, 2))
    assert events == ["group", None, None]
    assert left(plan, 0) == (3, 1)


def test_an_error_is_reported_whole_and_raised(plan, tmp_path):
    with pytest.raises(ZeroDivisionError):
        run_worker(plan, divmod, (7, 0))
    assert returned(plan.folder, 2, [0]) is None
    report = read(tmp_path)
    assert (report["type"], report["rank"], report["exit_code"]) == ("ZeroDivisionError", 0, None)
    assert "Traceback (most recent call last)" in report["traceback"]
    assert "run_worker" in report["traceback"]


def test_exits(plan, tmp_path):
    def leave(code):
        raise SystemExit(code)

    with pytest.raises(SystemExit):
        run_worker(plan, leave, (75,))
    assert read(tmp_path)["exit_code"] == 75
    assert returned(plan.folder, 2, [0]) is None
    for code in (0, None):
        run_worker(plan, leave, (code,))
        assert returned(plan.folder, 2, [0]) and left(plan, 0) is None


def test_a_process_ends_when_the_launching_one_went_before_it_looked(monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(_worker.multiprocessing, "parent_process", lambda: SimpleNamespace(pid=123456789))
    monkeypatch.setattr(_worker.os, "_exit", lambda code: ended.set())
    _worker._end_with_parent()
    assert ended.wait(30)
