from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivetrain.checkpoint import PeriodicCheckpointer
from drivetrain.errors import OutputError, UserInputError


class Recorder:
    """Stands for a checkpointer and notes what it is asked to save."""

    save_dir, save_to_disk = "", False

    def __init__(self):
        self.saved = []

    def save(self, name, **extra):
        self.saved.append((name, extra))


@settings(max_examples=40, deadline=None)
@given(period=st.integers(0, 7), max_iter=st.none() | st.integers(1, 20), start=st.integers(0, 5))
def test_saves_each_period_and_at_the_end(period, max_iter, start):
    recorder = Recorder()
    periodic = PeriodicCheckpointer(recorder, period, max_iter)
    last = 20 if max_iter is None else max_iter
    for i in range(start, last):
        periodic.step(i, note=i)
    expected = []
    for i in range(start, last):
        if period and i % period == period - 1:
            expected.append((f"model_{i:07d}", {"iteration": i, "note": i}))
        if max_iter is not None and i == max_iter - 1:
            expected.append(("model_final", {"iteration": i, "note": i}))
    assert recorder.saved == expected


def numbers(checkpointer):
    return [int(name[6:13]) for name in checkpointer.folder.files() if name[6].isdigit()]


def test_retention_keeps_the_newest_and_survives_a_restart(training):
    run, _ = training()
    periodic = PeriodicCheckpointer(run, 2, max_to_keep=3)
    for i in range(10):
        periodic.step(i)
    assert numbers(run) == [5, 7, 9]
    again, _ = training()
    periodic = PeriodicCheckpointer(again, 2, max_iter=14, max_to_keep=3)
    for i in range(10, 14):
        periodic.step(i)
    assert numbers(again) == [9, 11, 13]
    assert "model_final.pth" in again.folder.files()
    assert {e.file for e in again.folder.manifest().entries} == set(again.folder.files())


def test_retention_spares_roles_and_other_prefixes(training):
    run, _ = training()
    run.save("other_0000001", iteration=1)
    run.save("model_0000000", role="best", iteration=0)
    run.save("model_0000001", role="emergency", iteration=1)
    periodic = PeriodicCheckpointer(run, 1, max_to_keep=1)
    for i in range(2, 6):
        periodic.step(i)
    assert run.folder.files() == ["model_0000000.pth", "model_0000001.pth", "model_0000005.pth", "other_0000001.pth"]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(keep=st.integers(1, 4), count=st.integers(1, 7))
def test_there_are_never_fewer_than_asked_for(training, keep, count):
    run, _ = training(f"r{keep}_{count}_{os.urandom(4).hex()}")
    periodic = PeriodicCheckpointer(run, 1, max_to_keep=keep)
    for i in range(count):
        periodic.step(i)
        assert numbers(run) == list(range(max(0, i + 1 - keep), i + 1))


def test_nothing_is_deleted_before_the_new_file_is_whole(training, faulty, crash):
    probe, _ = training("probe")
    periodic = PeriodicCheckpointer(probe, 1, max_to_keep=1)
    periodic.step(0)
    probe.layer = faulty()
    periodic.step(1)
    assert ("remove", "model_0000000.pth") in probe.layer.operations
    for k in range(len(probe.layer.operations)):
        run, set_all = training(f"run{k}")
        periodic = PeriodicCheckpointer(run, 1, max_to_keep=1)
        set_all(1)
        periodic.step(0)
        run.layer = faulty(stop_at=k)
        with pytest.raises(crash):
            periodic.step(1)
        again, _ = training(f"run{k}")
        assert again.resume_or_load("")["iteration"] in (0, 1)
        periodic = PeriodicCheckpointer(again, 1, max_to_keep=1)
        periodic.step(2)
        assert numbers(again) == [2]


def test_a_full_disk_is_an_alarm_and_training_goes_on(training, faulty, caplog):
    run, _ = training()
    periodic = PeriodicCheckpointer(run, 1, max_iter=3)
    periodic.step(0)
    run.layer = faulty(fail_at=2)
    periodic.step(1)
    assert "CHECKPOINT FAILED after iteration 1" in caplog.text
    assert numbers(run) == [0]
    run.layer = faulty(fail_at=2)
    with pytest.raises(OutputError):
        periodic.save("model_final")


def test_save_passes_on(training):
    recorder = Recorder()
    PeriodicCheckpointer(recorder, 1).save("x", a=1)
    assert recorder.saved == [("x", {"a": 1})]


@pytest.mark.parametrize("kwargs", [{"period": -1}, {"period": 1, "max_to_keep": 0}])
def test_senseless_numbers_are_refused(kwargs):
    with pytest.raises(UserInputError, match="give"):
        PeriodicCheckpointer(Recorder(), **kwargs)
