from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from drivetrain.checkpoint.files import file_digest
from drivetrain.checkpoint.folder import CheckpointFolder
from drivetrain.checkpoint.formats import checkpoint_writer
from drivetrain.checkpoint.manifest import Entry
from drivetrain.checkpoint.recovery import newest_whole
from drivetrain.errors import CheckpointError


@pytest.fixture
def folder(tmp_path):
    folder = CheckpointFolder(tmp_path)
    for i in (9, 19, 29):
        entry = Entry(f"model_{i:07d}.pth", 0, "", roles=("last",), iteration=i)
        folder.save(entry, checkpoint_writer({"iteration": i}))
    return folder


def damage(folder, iteration):
    path = folder.path / f"model_{iteration:07d}.pth"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_newest_is_taken(folder):
    assert newest_whole(folder, may_rename=True) == "model_0000029.pth"


def test_damaged_files_are_set_aside_and_the_loss_is_told(folder, caplog):
    damage(folder, 29)
    damage(folder, 19)
    assert newest_whole(folder, may_rename=True) == "model_0000009.pth"
    assert (
        "Falling back from model_0000029.pth, model_0000019.pth to model_0000009.pth: 20 iterations are lost; "
        "model_0000029.pth set aside as model_0000029.pth.corrupt; model_0000019.pth set aside as" in caplog.text
    )
    assert folder.files() == ["model_0000009.pth"]
    assert (folder.path / "model_0000029.pth.corrupt").exists()


def test_without_the_right_to_write_nothing_is_renamed(folder):
    damage(folder, 29)
    assert newest_whole(folder, may_rename=False) == "model_0000019.pth"
    assert len(folder.files()) == 3


def test_a_deleted_last_checkpoint_falls_back(folder):
    (folder.path / "model_0000029.pth").unlink()
    assert newest_whole(folder, may_rename=True) == "model_0000019.pth"


def test_an_older_file_in_last_checkpoint_is_taken_and_said(folder, caplog):
    (folder.path / "last_checkpoint").write_text("model_0000019.pth")
    assert newest_whole(folder, may_rename=True) == "model_0000019.pth"
    assert "which is 10 iterations before model_0000029.pth, the newest" in caplog.text
    caplog.clear()
    folder.tag_last("model_0000019.pth")  # the proper way
    assert newest_whole(folder, may_rename=True) == "model_0000019.pth"
    assert not caplog.text


def test_a_damaged_manifest_still_gives_the_newest(folder):
    (folder.path / "checkpoints.json").write_text("{")
    assert newest_whole(folder, may_rename=True) == "model_0000029.pth"


def test_a_file_that_could_run_code_is_passed_over_and_left_where_it_is(folder, caplog):
    torch.save({"x": print}, folder.path / "model_0000099.pth")
    (folder.path / "last_checkpoint").write_text("model_0000099.pth")
    assert newest_whole(folder, may_rename=True) == "model_0000029.pth"
    assert "could run code" in caplog.text
    assert (folder.path / "model_0000099.pth").exists()


def test_a_listed_file_that_could_run_code_is_set_aside(folder, caplog):
    """Somebody who writes into the folder can exchange a file together with its digest."""
    torch.save({"x": print}, folder.path / "model_0000029.pth")
    entry = folder.manifest().find("model_0000029.pth")[0]
    forged = replace(entry, sha256=file_digest(folder.path / entry.file))
    folder._write_manifest(folder.manifest().commit(forged))
    assert newest_whole(folder, may_rename=True) == "model_0000019.pth"
    assert "could run code" in caplog.text and "exchanged together with its digest" in caplog.text
    assert "10 iterations are lost; model_0000029.pth set aside as model_0000029.pth.corrupt" in caplog.text
    assert folder.files() == ["model_0000009.pth", "model_0000019.pth"]


def test_no_usable_file_is_an_error_not_a_start_from_zero(folder):
    for i in (9, 19, 29):
        damage(folder, i)
    with pytest.raises(CheckpointError, match="none of them can be used"):
        newest_whole(folder, may_rename=True)
    with pytest.raises(CheckpointError, match="none of them can be used"):  # nor at the next start
        newest_whole(folder, may_rename=True)
    assert len(folder.files()) == 3  # it may be the reading that is at fault


def test_a_pointer_to_a_deleted_only_file_is_an_error(tmp_path):
    (tmp_path / "last_checkpoint").write_text("model_0000009.pth")
    with pytest.raises(CheckpointError, match=r"model_0000009\.pth"):
        newest_whole(CheckpointFolder(tmp_path), may_rename=True)


def test_a_folder_with_logs_only_is_a_fresh_start(tmp_path):
    (tmp_path / "log.txt").touch()
    (tmp_path / "config.yaml").touch()
    assert newest_whole(CheckpointFolder(tmp_path), may_rename=True) == ""
