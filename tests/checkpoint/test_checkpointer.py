from __future__ import annotations

import errno
import json
import random
import threading
import weakref

import numpy as np
import pytest
import torch

from drivetrain.checkpoint import Checkpointer, DetectionCheckpointer, FileLayer, unwrap_model
from drivetrain.errors import CheckpointError, CorruptCheckpointError, IncompatibleWeightsError, OutputError


def value_of(checkpointer):
    """The number that the whole state is set to; fails if it is a mixture."""
    values = {checkpointer.checkpointables["counter"].value}
    values |= {x for p in checkpointer.model.parameters() for x in p.flatten().tolist()}
    assert len(values) == 1, f"mixed state {values}"
    return values.pop()


def test_save_and_resume(training):
    first, set_all = training()
    set_all(3)
    first.save("model_0000009", iteration=9, metric={"bbox/AP": np.float64(0.5)})
    file = torch.load(first.get_checkpoint_file(), weights_only=True)
    assert set(file) == {"model", "counter", "iteration", "metric", "metadata"}
    second, _ = training()
    rest = second.resume_or_load("", resume=True)
    assert value_of(second) == 3
    assert rest["iteration"] == 9
    entry = second.folder.manifest().role("last")
    assert (entry.iteration, entry.metric) == (9, {"bbox/AP": 0.5})
    assert set(entry.versions) == {"drivetrain", "torch"}


def test_resume_takes_the_last_and_not_the_best(training):
    first, set_all = training()
    for value, name in ((1, "model_0000009"), (2, "model_best")):
        set_all(value)
        first.save(name, iteration=value)
    second, _ = training()
    second.resume_or_load("")
    assert value_of(second) == 1
    roles = {e.file: set(e.roles) for e in first.folder.manifest().entries}
    assert roles == {"model_0000009.pth": {"last"}, "model_best.pth": {"best"}}


def test_without_resume_only_weights_are_taken(training):
    first, set_all = training("a")
    set_all(3)
    first.save("model_final", iteration=9)
    second, _ = training("b")
    second.resume_or_load(first.get_checkpoint_file(), resume=True)  # its own folder has none
    assert second.checkpointables["counter"].value == 0
    assert float(second.model[0].bias[0]) == 3
    third, _ = training("a")
    assert "iteration" in third.resume_or_load(first.get_checkpoint_file(), resume=False)
    assert third.checkpointables["counter"].value == 0


def test_loading_nothing(training):
    checkpointer, _ = training()
    assert checkpointer.resume_or_load("") == {}
    assert not checkpointer.has_checkpoint()
    assert checkpointer.get_checkpoint_file() == ""
    assert checkpointer.get_all_checkpoint_files() == []


def test_the_users_file_names_and_pointer(training, tmp_path):
    checkpointer, _ = training()
    for name in ("model_0000009", "model_final"):
        checkpointer.save(name, iteration=9)
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_final.pth"
    assert checkpointer.has_checkpoint()
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "run" / "model_final.pth")
    assert len(checkpointer.get_all_checkpoint_files()) == 2
    checkpointer.tag_last_checkpoint("model_0000009.pth")
    assert checkpointer.get_checkpoint_file().endswith("model_0000009.pth")
    assert checkpointer.folder.manifest().role("final").file == "model_final.pth"


def test_a_crash_at_every_operation_of_a_save_leaves_a_state_that_loads(training, faulty, crash):
    probe, set_all = training("probe")
    probe.save("model_0000009", iteration=9)
    probe.layer = faulty()
    probe.save("model_0000019", iteration=19)
    total = len(probe.layer.operations)
    assert total > 30
    outcomes = []
    for k in range(total):
        run, set_all = training(f"run{k}")
        set_all(1)
        run.save("model_0000009", iteration=9)
        set_all(2)
        run.layer = faulty(stop_at=k)
        with pytest.raises(crash):
            run.save("model_0000019", iteration=19)
        again, _ = training(f"run{k}")
        rest = again.resume_or_load("")
        outcomes.append((value_of(again), rest["iteration"]))
        again.save("model_0000019", iteration=19)  # and the folder is usable
        assert again.folder.manifest().role("last").iteration == 19
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {(1, 9), (2, 19)}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_at_every_operation_leaves_no_part(training, faulty, code):
    run, set_all = training()
    set_all(1)
    run.save("model_0000009", iteration=9)
    run.layer = faulty()
    run.save("probe", role="ema", iteration=9)
    total = len(run.layer.operations)
    set_all(2)
    for k in range(total):
        run.layer = faulty(fail_at=k, code=code)
        with pytest.raises(OutputError):
            run.save("model_0000019", iteration=19)
        run.layer = FileLayer()
        for path in run.get_all_checkpoint_files():
            torch.load(path, weights_only=True)
        assert not list(run.folder.path.glob(".*"))
        again, _ = training()
        again.resume_or_load("")
        assert value_of(again) in (1, 2)


def test_a_damaged_file_falls_back_and_says_what_is_lost(training, caplog):
    run, set_all = training()
    for value, iteration in ((1, 9), (2, 19)):
        set_all(value)
        run.save(f"model_{iteration:07d}", iteration=iteration)
    path = run.folder.path / "model_0000019.pth"
    path.write_bytes(path.read_bytes()[:-100])
    again, _ = training()
    assert again.resume_or_load("")["iteration"] == 9
    assert value_of(again) == 1
    assert "10 iterations are lost" in caplog.text
    assert not path.exists()


def test_random_damage_never_loads_silently(training):
    run, set_all = training()
    set_all(2)
    run.save("model_0000019", iteration=19)
    path = run.folder.path / "model_0000019.pth"
    good, rng = path.read_bytes(), random.Random(1)
    for _ in range(30):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        with pytest.raises(CorruptCheckpointError):
            run.load(str(path))
    path.write_bytes(bad)
    with pytest.raises(CheckpointError, match="none of them can be used"):
        training()[0].resume_or_load("")


def test_other_architectures_are_refused_untouched(training, tmp_path):
    run, set_all = training()
    set_all(5)
    torch.save({"model": torch.nn.Linear(9, 9).state_dict()}, tmp_path / "other.pth")
    with pytest.raises(IncompatibleWeightsError, match=r"other\.pth .* missing .* unexpected"):
        run.load(str(tmp_path / "other.pth"))
    assert value_of(run) == 5


def test_a_checkpoint_of_a_changed_model_is_an_error_at_resume(training):
    run, _ = training()
    run.save("model_0000009", iteration=9)
    run.save("model_0000019", iteration=19)
    other = Checkpointer(torch.nn.Linear(9, 9), run.save_dir)
    with pytest.raises(IncompatibleWeightsError):
        other.resume_or_load("")
    assert len(other.get_all_checkpoint_files()) == 2  # it is sound: not set aside


def test_what_could_not_be_loaded_again_is_not_saved(training, counter):
    run, _ = training()
    with pytest.raises(CheckpointError, match=r"sampler\['rng'\] is a numpy\.ndarray"):
        run.save("a", sampler={"rng": np.zeros(3)})
    run.checkpointables["counter"].value = object()
    with pytest.raises(CheckpointError, match=r"counter\['value'\] is a builtins\.object"):
        run.save("a")
    assert run.get_all_checkpoint_files() == []


@pytest.mark.parametrize(
    "metadata",
    [{"class_names": [1]}, {"class_names": "cat"}, {"channel_order": None}, {"config": {"SEED": 1}}],
    ids=str,
)
def test_metadata_that_could_not_be_read_again_is_not_saved(training, metadata):
    run, _ = training()
    run.metadata = {**metadata, "note": 3}
    with pytest.raises(CheckpointError, match="the checkpointer's metadata must be a dict with the texts 'config'"):
        run.save("a")
    run.metadata = {"note": 3}
    run.save("a")
    assert run.load(run.get_checkpoint_file())["metadata"]["note"] == 3


def test_keys_that_collide_are_refused(training, counter):
    run, _ = training()
    for key in ("counter", "model", "metadata"):
        with pytest.raises(CheckpointError, match="taken"):
            run.add_checkpointable(key, counter())
    for extra in ({"counter": 1}, {"model": 1}, {"metadata": 1}):
        with pytest.raises(CheckpointError, match="taken"):
            run.save("a", **extra)
    with pytest.raises(CheckpointError, match="no state_dict"):
        run.add_checkpointable("x", object())
    with pytest.raises(CheckpointError, match="'x' is none of"):
        run.load("y.pth", checkpointables=["x"])


def test_only_the_process_that_writes_writes(training):
    run, _ = training(save_to_disk=False)
    run.save("model_final")
    assert not run.folder.path.exists()
    Checkpointer(torch.nn.Linear(1, 1)).save("nowhere")


@pytest.mark.parametrize("name", ["../x", "a/b", ""])
def test_names_stay_in_the_folder(training, name):
    run, _ = training()
    if name:
        with pytest.raises(CheckpointError, match="refused"):
            run.save(name)


def test_a_weak_proxy_can_be_saved(training, counter):
    run, _ = training()
    owner = counter(4)
    run.add_checkpointable("trainer", weakref.proxy(owner))
    run.save("model_final")
    owner.value = 0
    run.load(run.get_checkpoint_file())
    assert owner.value == 4


@pytest.mark.slow  # importing the compiler takes seconds
def test_wrappers_do_not_show_in_names(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(2, 2))
    wrapped = torch.nn.DataParallel(torch.compile(net))
    assert unwrap_model(wrapped) is net
    net[0] = torch.compile(net[0])
    checkpointer = Checkpointer(wrapped, str(tmp_path))
    checkpointer.save("model_final")
    saved = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    assert list(saved) == ["0.weight", "0.bias"]
    with torch.no_grad():
        net[0].weight.zero_()
    checkpointer.load(str(tmp_path / "model_final.pth"))
    assert torch.equal(net[0].weight, saved["0.weight"])


def test_class_names_and_channel_order_travel(tmp_path):
    net = torch.nn.Linear(1, 1)
    names = ["cat", "dög"]
    checkpointer = DetectionCheckpointer(net, str(tmp_path), class_names=names, channel_order="BGR", config="SEED: 1\n")
    checkpointer.save("model_final", iteration=3)
    metadata = Checkpointer(net).load(str(tmp_path / "model_final.pth"))["metadata"]
    assert metadata["class_names"] == names
    assert metadata["channel_order"] == "BGR"
    assert metadata["config"] == "SEED: 1\n"
    manifest = json.loads((tmp_path / "checkpoints.json").read_text())
    (entry,) = manifest["checkpoints"]
    assert manifest["class_names"] == names
    assert entry["channel_order"] == "BGR"
    assert len(entry["config_sha256"]) == 64
    assert set(entry["roles"]) == {"final", "last"}


def test_leftovers_of_a_killed_save_are_cleaned_at_the_start(training, faulty, crash, tmp_path):
    (tmp_path / "run").mkdir()
    from drivetrain.checkpoint import files

    left = tmp_path / "run" / f".model_final.pth.{files._HOST}-4194304000-00000000-00000000.tmp"
    left.write_bytes(b"part")
    training()
    assert not left.exists()


def test_a_save_in_the_background_holds_the_state_of_its_call(training, gated):
    run, set_all = training()
    run.layer = gated()
    set_all(1)
    results = []
    run.save_in_background("model_0000009", iteration=9, metric={"m": 0.5}, done=results.append)
    set_all(2)  # while nothing is written yet
    assert not list(run.folder.path.glob("*")) and results == []
    run.layer.open.set()
    again, _ = training()
    assert again.resume_or_load("")["iteration"] == 9  # reading waits for it
    assert results == [None]
    assert value_of(again) == 1 and value_of(run) == 2
    entry = again.folder.manifest().role("last")
    assert (entry.iteration, entry.metric, entry.file) == (9, {"m": 0.5}, "model_0000009.pth")


@pytest.mark.parametrize(
    "read",
    [
        lambda c: c.load(f"{c.save_dir}/model_final.pth"),
        lambda c: c.resume_or_load(""),
        lambda c: c.get_checkpoint_file(),
        lambda c: c.get_all_checkpoint_files()[0],
        lambda c: c.tag_last_checkpoint("model_final.pth"),
        lambda c: c.save("model_0000001"),
        lambda c: c.save_in_background("model_0000001"),
        lambda c: c.wait(),
    ],
)
def test_whatever_comes_next_waits_for_a_save_of_any_checkpointer(training, gated, read):
    run, _ = training()
    run.layer = gated()
    threading.Timer(0.1, run.layer.open.set).start()
    run.save_in_background("model_final", iteration=3)
    other, _ = training()
    read(other)
    assert run.layer.open.is_set()
    assert other.folder.manifest().find("model_final.pth")[-1].iteration == 3
    other.wait()
    assert {e.file for e in other.folder.manifest().entries} == set(other.folder.files())


def test_an_error_in_the_background_is_an_alarm_and_no_exception(training, faulty, caplog):
    run, set_all = training()
    set_all(1)
    run.save("model_0000009", iteration=9)
    set_all(2)
    run.layer = faulty(fail_at=5)
    run.save_in_background("model_0000019", iteration=19)
    run.wait()
    assert "CHECKPOINT FAILED (model_0000019), training goes on: " in caplog.text
    assert "injected" in caplog.text and "Traceback" not in caplog.text
    again, _ = training()
    again.resume_or_load("")
    assert value_of(again) == 1
    run.layer = FileLayer()
    run.save("model_0000029", iteration=29)
    again.resume_or_load("")
    assert value_of(again) == 2


def test_what_cannot_be_stored_is_said_at_once_in_the_background_too(training):
    run, _ = training()
    with pytest.raises(CheckpointError, match=r"sampler\['rng'\] is a numpy\.ndarray"):
        run.save_in_background("a", sampler={"rng": np.zeros(3)})
    assert not run.folder.path.exists()


def test_without_memory_for_the_copy_it_saves_at_once(training, monkeypatch, caplog):
    def no_memory(*args):
        raise RuntimeError("not enough memory: you tried to allocate 503316480 bytes")

    run, set_all = training()
    set_all(4)
    monkeypatch.setattr(run._copies, "copy", no_memory)
    results = []
    run.save_in_background("model_0000009", iteration=9, done=results.append)
    assert results == [None] and run.folder.files() == ["model_0000009.pth"]
    assert "503316480" in caplog.text
    again, _ = training()
    again.resume_or_load("")
    assert value_of(again) == 4


def test_only_the_process_that_writes_saves_in_the_background(training):
    run, _ = training(save_to_disk=False)
    run.save_in_background("model_final", done=lambda error: pytest.fail("nothing is saved"))
    run.wait()
    assert not run.folder.path.exists()
