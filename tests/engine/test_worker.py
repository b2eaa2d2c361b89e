from __future__ import annotations

import json
import pickle
import threading
from datetime import timedelta

import pytest

from drivetrain.engine import _worker
from drivetrain.engine._worker import WorkerPlan, run_worker


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


def test_rank_0_returns_its_value(plan, monkeypatch):
    assert pickle.loads(run_worker(plan, divmod, (7, 2))) == (3, 1)
    monkeypatch.setenv("RANK", "1")
    assert run_worker(plan, divmod, (7, 2)) is None


def test_a_value_that_cannot_be_sent_is_no_failure(plan, caplog):
    assert run_worker(plan, threading.Lock, ()) is None
    assert "cannot be sent" in caplog.text


def test_an_error_is_reported_whole_and_raised(plan, tmp_path):
    with pytest.raises(ZeroDivisionError):
        run_worker(plan, divmod, (7, 0))
    report = read(tmp_path)
    assert (report["type"], report["rank"], report["exit_code"]) == ("ZeroDivisionError", 0, None)
    assert "Traceback (most recent call last)" in report["traceback"]
    assert "run_worker" in report["traceback"]


def test_exits(plan, tmp_path):
    def leave(code):
        raise SystemExit(code)

    assert run_worker(plan, leave, (0,)) is None
    assert run_worker(plan, leave, (None,)) is None
    with pytest.raises(SystemExit):
        run_worker(plan, leave, (75,))
    assert read(tmp_path)["exit_code"] == 75
