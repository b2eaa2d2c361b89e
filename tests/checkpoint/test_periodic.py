from __future__ import annotations

import os

import pytest
import torch
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


@settings(max_examples=40)
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
    """The iterations of the periodic files, when the last one is written."""
    checkpointer.wait()
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
    run.wait()
    assert run.folder.files() == ["model_0000000.pth", "model_0000001.pth", "model_0000005.pth", "other_0000001.pth"]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keep=st.integers(1, 4), count=st.integers(1, 7))
def test_there_are_never_fewer_than_asked_for(training, keep, count):
    run, _ = training(f"r{keep}_{count}_{os.urandom(4).hex()}")
    periodic = PeriodicCheckpointer(run, 1, max_to_keep=keep)
    for i in range(count):
        periodic.step(i)
        assert numbers(run) == list(range(max(0, i + 1 - keep), i + 1))


def test_after_going_back_by_hand_the_new_files_are_kept_and_fallen_back_to(training, caplog):
    run, _ = training()
    periodic = PeriodicCheckpointer(run, 10, max_to_keep=3)
    for i in (9, 19, 29):
        periodic.step(i)
    run.wait()
    (run.folder.path / "last_checkpoint").write_text("model_0000009.pth")
    assert run.resume_or_load("")["iteration"] == 9
    for i, kept in ((14, [14, 19, 29]), (19, [14, 19, 29]), (24, [14, 19, 24])):
        PeriodicCheckpointer(run, 5, max_to_keep=3).step(i)
        assert numbers(run) == kept
    (run.folder.path / "model_0000024.pth").write_bytes(b"junk")
    assert run.resume_or_load("")["iteration"] == 19
    assert "5 iterations are lost" in caplog.text


def test_a_file_that_a_crash_left_listed_twice_counts_once(training, faulty, crash):
    run, _ = training()
    for i in range(3):
        run.save(f"model_{i:07d}", iteration=i)
    probe = run.layer = faulty()
    run.save("model_0000002", iteration=2)
    run.layer = faulty(stop_at=probe.operations.index(("replace", "model_0000002.pth")))
    with pytest.raises(crash):
        run.save("model_0000002", iteration=2)
    again, _ = training()
    assert len(again.folder.manifest().find("model_0000002.pth")) == 2
    PeriodicCheckpointer(again, 1, max_to_keep=3).step(3)
    assert numbers(again) == [1, 2, 3]


@pytest.mark.parametrize("role", ["best", "emergency"])
def test_a_file_with_a_role_is_spared_though_it_is_announced_anew(training, role):
    run, _ = training()
    run.save("model_0000000", role=role, iteration=0)
    folder = run.folder
    folder._write_manifest(folder.manifest().announce(folder.manifest().entries[0]))  # as a crash leaves it
    periodic = PeriodicCheckpointer(run, 1, max_to_keep=1)
    for i in (1, 2):
        periodic.step(i)
    assert numbers(run) == [0, 2]


def test_nothing_is_deleted_before_the_new_file_is_in_the_manifest(training, faulty):
    run, _ = training()
    periodic = PeriodicCheckpointer(run, 1, max_to_keep=1)
    periodic.step(0)
    run.wait()
    run.layer = faulty()
    periodic.step(1)
    run.wait()
    steps = [step for step in run.layer.operations if step[0] in ("replace", "remove")]
    assert steps == [
        ("replace", "checkpoints.json"),  # announced
        ("replace", "model_0000001.pth"),
        ("replace", "last_checkpoint"),
        ("replace", "checkpoints.json"),  # listed
        ("remove", "model_0000000.pth"),
        ("replace", "checkpoints.json"),
    ]


def test_files_that_are_gone_do_not_count_as_kept(training):
    run, _ = training()
    periodic = PeriodicCheckpointer(run, 1, max_to_keep=2)
    for i in (0, 1):
        periodic.step(i)
    run.wait()
    run.folder.set_aside("model_0000001.pth")  # damaged
    periodic.step(2)
    assert numbers(run) == [0, 2]
    periodic.step(3)
    assert numbers(run) == [2, 3]
    assert {e.file for e in run.folder.manifest().entries} == {"model_0000002.pth", "model_0000003.pth"}


def test_the_training_goes_on_while_a_periodic_save_is_written_and_waits_for_the_final_one(training, gated):
    run, set_all = training()
    run.layer = gated()
    periodic = PeriodicCheckpointer(run, 2, max_iter=3)
    set_all(1)
    periodic.step(1)  # returns, though nothing can be written yet
    set_all(2)
    assert run.folder.files() == []
    run.layer.open.set()
    periodic.step(2)
    assert run.folder.files() == ["model_0000001.pth", "model_final.pth"]
    for name, value in (("model_0000001", 1), ("model_final", 2)):
        data = torch.load(run.folder.path / f"{name}.pth", weights_only=True)
        assert data["counter"]["value"] == value
        assert bool((data["model"]["0.weight"] == value).all())


def test_a_checkpointer_whose_save_is_the_users_own_is_waited_for(training, gated):
    run, _ = training()
    seen = []

    class Uploading(type(run)):
        def save(self, name, **extra):
            super().save(name, **extra)
            seen.append((self.folder.path / f"{name}.pth").stat().st_size > 0)

    own = Uploading(run.model, run.save_dir)
    PeriodicCheckpointer(own, 1, max_to_keep=1).step(0)
    PeriodicCheckpointer(own, 1, max_to_keep=1).step(1)
    assert seen == [True, True]
    assert own.folder.files() == ["model_0000001.pth"]


def test_a_full_disk_is_an_alarm_and_training_goes_on(training, faulty, caplog):
    run, _ = training()
    periodic = PeriodicCheckpointer(run, 1, max_iter=3)
    periodic.step(0)
    run.wait()
    run.layer = faulty(fail_at=2)
    periodic.step(1)
    run.wait()
    assert "CHECKPOINT FAILED after iteration 1" in caplog.text
    assert numbers(run) == [0]
    run.layer = faulty(fail_at=2)
    with pytest.raises(OutputError):
        periodic.save("model_final")


def test_an_old_file_that_cannot_be_deleted_is_an_alarm(training, faulty, caplog):
    run, _ = training()
    periodic = PeriodicCheckpointer(run, 1, max_to_keep=1)
    periodic.step(0)
    run.wait()
    run.layer = probe = faulty()
    run.save("model_0000001", iteration=1)
    run.layer = faulty(fail_at=len(probe.operations))
    periodic.step(1)
    run.wait()
    assert "CHECKPOINT FAILED to delete older files after iteration 1, training goes on" in caplog.text
    assert numbers(run) == [0, 1]


def test_save_passes_on(training):
    recorder = Recorder()
    PeriodicCheckpointer(recorder, 1).save("x", a=1)
    assert recorder.saved == [("x", {"a": 1})]


@pytest.mark.parametrize("kwargs", [{"period": -1}, {"period": 1, "max_to_keep": 0}])
def test_senseless_numbers_are_refused(kwargs):
    with pytest.raises(UserInputError, match="give"):
        PeriodicCheckpointer(Recorder(), **kwargs)
