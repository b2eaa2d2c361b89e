from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from drivetrain.checkpoint.background import Saving, alarm, wait_for_copies, wait_for_saves
from drivetrain.errors import OutputError


def test_waiting_returns_when_the_work_and_what_follows_are_through():
    gate, order = threading.Event(), []

    def work():
        assert gate.wait(30)
        order.append("work")

    Saving(work, lambda error: order.append(error)).start()
    assert order == []
    gate.set()
    wait_for_saves()
    assert order == ["work", None]
    wait_for_saves()


def test_within_a_save_waiting_does_not_wait_for_itself():
    order = []
    Saving(wait_for_saves, lambda error: (wait_for_saves(), order.append(error))).start()
    wait_for_saves()
    assert order == [None]


def test_waiting_for_copies_does_not_wait_for_the_file():
    gate, order = threading.Event(), []

    def work():
        wait_for_copies()  # within a save it returns at once
        assert gate.wait(30)

    Saving(work, order.append, copied=lambda: order.append("copied")).start()
    Saving(work, order.append).start()
    wait_for_copies()
    assert order == ["copied"]
    gate.set()
    wait_for_saves()
    assert order == ["copied", None, None]


def test_an_error_is_handed_on_and_one_of_the_handler_is_an_alarm(caplog):
    seen = []

    def fail(error=None):
        seen.append(error)
        raise ZeroDivisionError("of the handler" if error else "of the work")

    Saving(fail, fail).start()
    wait_for_saves()
    assert seen[0] is None and isinstance(seen[1], ZeroDivisionError)
    assert "CHECKPOINT FAILED (of the work), training goes on: ZeroDivisionError: of the handler" in caplog.text


def test_foreseen_errors_are_one_line_and_others_have_a_traceback(caplog):
    alarm("here", OutputError("the disk is full"))
    assert [r.getMessage() for r in caplog.records] == ["CHECKPOINT FAILED here, training goes on: the disk is full"]
    assert "Traceback" not in caplog.text
    try:
        raise ValueError("odd")
    except ValueError as error:
        alarm("there", error)
    assert "ValueError: odd" in caplog.text and "Traceback" in caplog.text


def test_without_threads_it_saves_at_once(monkeypatch):
    def no_thread(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    order = []
    Saving(lambda: order.append("work"), order.append).start()
    assert order == ["work", None]


@pytest.mark.parametrize("end", ["", "raise ValueError", "import sys; sys.exit(75)"])
def test_a_process_that_ends_waits(tmp_path, end):
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from drivetrain.checkpoint.background import Saving\n"
        "Saving(lambda: (time.sleep(0.3), Path(sys.argv[1]).touch()), print).start()\n"
    )
    root = Path(__file__).resolve().parents[2]
    path = tmp_path / "written"
    subprocess.run([sys.executable, "-c", code + end, str(path)], cwd=root, check=False, capture_output=True)
    assert path.exists()
