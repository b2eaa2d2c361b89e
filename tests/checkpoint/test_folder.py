from __future__ import annotations

import json
import os

import pytest

from drivetrain.checkpoint.files import FileLayer
from drivetrain.checkpoint.folder import CheckpointFolder, iteration_of_name
from drivetrain.checkpoint.formats import checkpoint_writer
from drivetrain.checkpoint.manifest import Entry, Manifest
from drivetrain.errors import CheckpointError, CorruptCheckpointError, OutputError


def save(folder, name, iteration=None, *roles, value=0):
    data = {"value": value} if iteration is None else {"value": value, "iteration": iteration}
    return folder.save(Entry(name, 0, "", roles=roles or ("last",), iteration=iteration), checkpoint_writer(data))


@pytest.fixture
def folder(tmp_path):
    return CheckpointFolder(tmp_path / "run")


def test_a_save_leaves_file_pointer_and_manifest(folder):
    entry = save(folder, "model_0000009.pth", 9)
    assert sorted(os.listdir(folder.path)) == ["checkpoints.json", "last_checkpoint", "model_0000009.pth"]
    assert (folder.path / "last_checkpoint").read_text() == "model_0000009.pth"
    assert entry.bytes == (folder.path / "model_0000009.pth").stat().st_size
    assert folder.manifest().role("last") == entry
    assert folder.iteration("model_0000009.pth") == 9
    folder.verify("model_0000009.pth")


def test_the_best_does_not_move_the_last(folder):
    save(folder, "model_0000009.pth", 9)
    save(folder, "model_best.pth", 19, "best")
    assert folder.pointer() == "model_0000009.pth"
    assert folder.manifest().role("best").file == "model_best.pth"
    assert folder.manifest().role("last").file == "model_0000009.pth"


def test_unknown_keys_of_a_later_version_stay(folder):
    save(folder, "a.pth", 1)
    path = folder.path / "checkpoints.json"
    data = json.loads(path.read_text())
    data["future"] = 1
    data["checkpoints"][0]["shards"] = ["x"]
    path.write_text(json.dumps(data))
    save(folder, "b.pth", 2)
    data = json.loads(path.read_text())
    assert data["future"] == 1
    assert data["checkpoints"][0]["shards"] == ["x"]


def test_a_file_overwritten_in_two_steps_verifies_at_each_of_them(folder, faulty, crash):
    save(folder, "model_best.pth", 1, "best", value=1)
    probe = faulty()
    folder.layer = probe
    save(folder, "model_best.pth", 2, "best", value=2)
    total = len(probe.operations)
    for k in range(total):
        folder.layer = faulty(stop_at=k)
        with pytest.raises(crash):
            save(folder, "model_best.pth", k, "best", value=k)
        folder.layer = type(folder.layer)()
        folder.verify("model_best.pth")
        assert folder.digests("model_best.pth"), "verified by its digest, not by its archive's checksums"


def test_candidates_are_the_pointer_then_the_last_saved_first_then_unlisted(folder):
    for iteration in (9, 19, 29):
        save(folder, f"model_{iteration:07d}.pth", iteration)
    save(folder, "notes.pth", None, "ema")
    save(folder, "model_best.pth", 24, "best")  # of a training that went back
    for name in ("model_0000099.pth", "other.pth"):
        (folder.path / name).write_bytes((folder.path / "model_0000009.pth").read_bytes())
    (folder.path / "last_checkpoint").write_text("model_0000009.pth\n")  # somebody goes back by hand
    (folder.path / "model_0000019.pth").unlink()
    assert list(folder.candidates()) == [
        "model_0000009.pth",
        "model_best.pth",
        "model_0000029.pth",
        "notes.pth",
        "model_0000099.pth",
        "other.pth",
    ]


@pytest.mark.parametrize("text", ["", "{", '{"checkpoints": 1}', "\x00\xff"])
def test_a_damaged_manifest_is_set_aside_and_rebuilt_from_whole_files(folder, text, caplog):
    save(folder, "model_0000009.pth", 9)
    save(folder, "model_best.pth", 9, "best")
    save(folder, "model_0000019.pth", 19)
    before = {e.file: (e.sha256, e.bytes, e.iteration, e.roles) for e in folder.manifest().entries}
    (folder.path / "broken.pth").write_bytes(b"junk")
    (folder.path / "checkpoints.json").write_text(text, encoding="latin-1")
    assert folder.manifest().entries == ()  # without repair it is only reported
    rebuilt = folder.manifest(repair=True)
    assert {e.file: (e.sha256, e.bytes, e.iteration, e.roles) for e in rebuilt.entries} == before
    assert "rebuilt from 3 files" in caplog.text
    assert "broken.pth" in caplog.text
    assert (folder.path / "checkpoints.json.corrupt").exists()
    save(folder, "model_0000029.pth", 29)
    assert len(folder.manifest().entries) >= 1


@pytest.mark.parametrize("name", ["../evil.pth", "/tmp/evil.pth", "a/b.pth"])
def test_a_pointer_out_of_the_folder_is_refused_and_the_other_files_are_taken(folder, name, caplog):
    save(folder, "a.pth", 1)
    (folder.path / "last_checkpoint").write_text(name)
    assert list(folder.candidates()) == ["a.pth"]
    assert f"last_checkpoint names {name!r}, which is not a plain file name" in caplog.text
    (folder.path / "a.pth").unlink()
    assert "last_checkpoint" in folder.was_used()


def test_a_manifest_that_names_a_file_elsewhere_is_damaged(folder):
    save(folder, "a.pth", 1)
    path = folder.path / "checkpoints.json"
    path.write_text(path.read_text().replace("a.pth", "../a.pth"))
    assert list(folder.candidates()) == ["a.pth"]
    save(folder, "b.pth", 2)
    assert [e.file for e in folder.manifest().entries] == ["a.pth", "b.pth"]


def test_a_crash_in_the_first_save_is_no_trace_of_checkpoints(folder, faulty, crash):
    probe = faulty()
    folder.layer = probe
    save(folder, "a.pth", 1)
    named = next(i for i, step in enumerate(probe.operations) if step == ("replace", "a.pth"))
    folder.remove(["a.pth"])
    for name in ("checkpoints.json", "last_checkpoint"):
        (folder.path / name).unlink()
    folder.layer = faulty(stop_at=named)
    with pytest.raises(crash):
        save(folder, "a.pth", 1)
    assert [e.pending for e in folder.manifest().entries] == [True]
    assert folder.was_used() == []


def test_removing_deletes_files_and_entries(folder):
    for iteration in (1, 2):
        save(folder, f"model_{iteration:07d}.pth", iteration)
    folder.remove(["model_0000001.pth"])
    assert folder.files() == ["model_0000002.pth"]
    assert [e.file for e in folder.manifest().entries] == ["model_0000002.pth"]
    with pytest.raises(CheckpointError):
        folder.remove(["../x"])


def test_a_file_that_cannot_be_deleted_is_an_output_error(folder, faulty):
    save(folder, "a.pth", 1)
    folder.layer = faulty(fail_at=0)
    with pytest.raises(OutputError, match="cannot be deleted"):
        folder.remove(["a.pth"])


def test_tagging(folder):
    save(folder, "a.pth", 1)
    save(folder, "b.pth", 2)
    folder.tag_last("a.pth")
    assert folder.pointer() == "a.pth"
    assert folder.manifest().role("last").file == "a.pth"
    assert next(folder.candidates()) == "a.pth"


def test_setting_aside_never_overwrites(folder):
    for name in ("a.pth.corrupt", "a.pth.corrupt2", "a.pth.corrupt3"):
        save(folder, "a.pth", 1)
        assert folder.set_aside("a.pth") == f"set aside as {name}"
    names = sorted(n for n in os.listdir(folder.path) if "corrupt" in n)
    assert names == ["a.pth.corrupt", "a.pth.corrupt2", "a.pth.corrupt3"]


def test_what_cannot_be_set_aside_stays(folder, faulty):
    save(folder, "a.pth", 1)
    folder.layer = faulty(fail_at=0)
    assert folder.set_aside("a.pth") == "cannot be set aside: injected"
    assert folder.files() == ["a.pth"]


def test_verify_tells_damage_from_absence(folder):
    save(folder, "a.pth", 1)
    with open(folder.path / "a.pth", "ab") as handle:
        handle.write(b"x")
    with pytest.raises(CorruptCheckpointError, match="digest"):
        folder.verify("a.pth")
    with pytest.raises(CheckpointError, match="does not exist"):
        folder.verify("b.pth")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="OUTPUT_DIR"):
        save(CheckpointFolder(tmp_path / "file" / "run"), "a.pth", 1)


def test_an_absent_folder_is_empty(folder):
    assert folder.files() == [] and folder.was_used() == [] and list(folder.candidates()) == []
    assert folder.pointer() == "" and folder.manifest().entries == ()


def test_iterations_in_names():
    assert iteration_of_name("model_0004999.pth") == 4999
    assert iteration_of_name("model_final.pth") is None


def test_a_manifest_is_parsed_once_until_somebody_changes_it(folder, monkeypatch):
    parsed = []
    parse = Manifest.parse
    monkeypatch.setattr(Manifest, "parse", lambda *args: parsed.append(args) or parse(*args))
    for number in range(3):
        save(folder, f"{number}.pth", number)
    assert folder.manifest() is folder.manifest() and not parsed
    other = CheckpointFolder(folder.path)
    other.remove(["1.pth"])
    assert len(parsed) == 1
    assert [e.file for e in folder.manifest().entries] == ["0.pth", "2.pth"] and len(parsed) == 2
    save(folder, "3.pth", 3)
    assert [e.file for e in other.manifest().entries] == ["0.pth", "2.pth", "3.pth"] and len(parsed) == 3
    (folder.path / "checkpoints.json").unlink()
    assert folder.manifest() == other.manifest() == Manifest()


class Meanwhile(FileLayer):
    """Does something once, just before a rename to ``name``, or after it."""

    def __init__(self, name, act, *, after=False):
        self.name, self.act, self.after = name, act, after

    def replace(self, source, target):
        act = self.act if target.name == self.name else None
        if act is not None:
            self.act = None
        if act is not None and not self.after:
            act()
        super().replace(source, target)
        if act is not None and self.after:
            act()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("moment", ["a.pth", "last_checkpoint", "checkpoints.json"])
def test_two_processes_that_save_the_same_file_leave_one_that_verifies(folder, moment, after, caplog):
    save(folder, "z.pth", 0)
    other = CheckpointFolder(folder.path)
    folder.layer = Meanwhile(moment, lambda: save(other, "a.pth", 1, value=2), after=after)
    save(folder, "a.pth", 1, value=1)
    reader = CheckpointFolder(folder.path)
    reader.verify("a.pth")
    assert reader.digests("a.pth"), "verified by its digest"
    assert {e.file for e in reader.manifest().entries} == {"a.pth", "z.pth"}
    assert reader.manifest().role("last").file == "a.pth"


def test_what_another_process_saves_meanwhile_stays_listed_and_is_told_once(folder, caplog):
    save(folder, "a.pth", 1)
    other = CheckpointFolder(folder.path)
    folder.layer = Meanwhile("b.pth", lambda: save(other, "c.pth", 3))
    save(folder, "b.pth", 2)
    assert [e.file for e in folder.manifest().entries] == ["a.pth", "c.pth", "b.pth"]
    save(other, "d.pth", 4)
    save(folder, "e.pth", 5)
    warnings = [r.getMessage() for r in caplog.records if "something other than this training" in r.getMessage()]
    assert len(warnings) == 2  # one of each
    assert str(folder.path) in warnings[0]


def test_one_process_alone_is_told_nothing(folder, caplog):
    for number in range(3):
        save(folder, f"{number}.pth", number, "last" if number else "best")
        save(folder, "model_best.pth", number, "best", value=number)
        folder.remove(["0.pth"])
    assert not caplog.records


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(folder, monkeypatch):
    save(folder, "model_best.pth", 1, "best", value=1)
    reader, read = CheckpointFolder(folder.path), []

    def digests(name):
        found = CheckpointFolder(folder.path).digests(name)
        if not read:
            save(folder, "model_best.pth", 2, "best", value=2)
        read.append(found)
        return found

    monkeypatch.setattr(reader, "digests", digests)
    reader.check("model_best.pth")
    assert read[0] != read[1]
    (folder.path / "model_best.pth").write_bytes(b"junk")
    with pytest.raises(CorruptCheckpointError, match="digest"):
        reader.check("model_best.pth")


def test_a_listed_file_that_the_system_cannot_read_is_not_taken_for_exchanged(folder, monkeypatch):
    save(folder, "a.pth", 1)
    monkeypatch.setattr("torch.load", lambda *args, **kwargs: os.stat("/nowhere/x"))
    with pytest.raises(CheckpointError, match="cannot be read") as error:
        folder.verify("a.pth")
    assert not isinstance(error.value, CorruptCheckpointError)


def test_a_folder_that_cannot_be_listed_is_not_cleaned(folder, monkeypatch):
    def denied(*args):
        raise PermissionError(13, "denied")

    monkeypatch.setattr("drivetrain.checkpoint.folder.clean_leftovers", denied)
    folder.clean()
