from __future__ import annotations

import json

import pytest

from drivetrain.engine._failure import failure
from drivetrain.errors import CheckpointError, TrainingError


@pytest.fixture
def report(tmp_path):
    def write(rank, time, attempt=0, kind=ValueError, message="broken", exit_code=None):
        data = {
            "rank": rank,
            "time": time,
            "module": kind.__module__,
            "type": kind.__qualname__,
            "message": message,
            "traceback": f"Traceback of rank {rank}",
            "exit_code": exit_code,
        }
        (tmp_path / f"error-{attempt}-{rank}.json").write_text(json.dumps(data))

    return write


def test_the_first_to_report_is_the_cause(tmp_path, report):
    report(0, 20.0, message="connection lost")
    report(1, 10.0)
    error = failure(tmp_path, 0, {0: 1, 1: 1, 2: -15})
    assert type(error) is TrainingError
    assert str(error) == "rank 1 failed with ValueError: broken\n\nTraceback of rank 1"


def test_a_killed_process_is_the_cause_of_lost_connections(tmp_path, report):
    report(0, 10.0, message="connection lost")
    assert "rank 1 was killed by SIGKILL" in str(failure(tmp_path, 0, {0: 1, 1: -9}))
    assert "memory" in str(failure(tmp_path, 0, {0: 1, 1: -9}))
    assert "SIGSEGV" in str(failure(tmp_path, 0, {0: 1, 1: -11}))


def test_ended_by_the_launcher_is_no_cause(tmp_path, report):
    report(1, 10.0)
    assert "rank 1 failed" in str(failure(tmp_path, 0, {0: -15, 1: 1}))
    assert "rank 1 failed" in str(failure(tmp_path, 0, {0: None, 1: None}))


def test_a_killed_process_comes_before_one_that_was_ended_for_it(tmp_path):
    assert "rank 1 was killed by SIGKILL" in str(failure(tmp_path, 0, {0: -15, 1: -9}))


def test_ended_by_somebody_else_is(tmp_path):
    assert "rank 1 was killed by SIGTERM" in str(failure(tmp_path, 0, {0: 0, 1: -15}))


def test_other_attempts_do_not_count(tmp_path, report):
    report(0, 1.0, attempt=0, message="first time")
    report(1, 2.0, attempt=1, message="second time")
    assert "second time" in str(failure(tmp_path, 1, {0: -15, 1: 1}))


def test_errors_of_the_user_keep_their_kind_and_show_where(tmp_path, report):
    report(0, 1.0, kind=CheckpointError, message="x.pth is bad")
    error = failure(tmp_path, 0, {0: 1})
    assert type(error) is CheckpointError
    assert str(error) == "x.pth is bad"
    assert "Traceback of rank 0" in str(error.__cause__)


def test_a_foreign_class_of_the_same_name_is_not_mistaken(tmp_path, report):
    class CheckpointError(Exception):
        pass

    report(0, 1.0, kind=CheckpointError)
    assert type(failure(tmp_path, 0, {0: 1})) is TrainingError


def test_an_exit_code_is_passed_on(tmp_path, report):
    report(0, 1.0, kind=SystemExit, exit_code=75)
    error = failure(tmp_path, 0, {0: 75, 1: -15})
    assert isinstance(error, SystemExit)
    assert error.code == 75


def test_a_process_that_says_nothing(tmp_path):
    assert "rank 1 ended with exit code 3" in str(failure(tmp_path, 0, {0: 0, 1: 3}))
    assert "another machine" in str(failure(tmp_path, 0, {}))


def test_one_that_ended_without_a_word_is_the_cause_of_lost_connections(tmp_path, report):
    report(0, 10.0, message="Connection closed by peer [127.0.0.1]:4711")
    assert "rank 1 ended with exit code 1 and left no error" in str(failure(tmp_path, 0, {0: 1, 1: 1}))
    assert "rank 1 ended with exit code 1" in str(failure(tmp_path, 0, {0: 1, 1: 1, 2: -15}))


def test_but_not_of_another_error(tmp_path, report):
    report(0, 10.0, message="out of range")
    assert "rank 0 failed with ValueError: out of range" in str(failure(tmp_path, 0, {0: 1, 1: 1}))
