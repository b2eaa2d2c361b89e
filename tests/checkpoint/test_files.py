from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from drivetrain.checkpoint.files import (
    FileLayer,
    atomic_write,
    check_file_name,
    clean_leftovers,
    file_digest,
)
from drivetrain.errors import CheckpointError, OutputError

OLD, NEW = b"old content", b"the new content" * 1000


def write_new(stream):
    for start in range(0, len(NEW), 4000):
        stream.write(NEW[start : start + 4000])


def test_writes_content_and_tells_its_digest(tmp_path):
    written = atomic_write(tmp_path / "f", write_new)
    assert (tmp_path / "f").read_bytes() == NEW
    assert written.bytes == len(NEW)
    assert written.sha256 == hashlib.sha256(NEW).hexdigest() == file_digest(tmp_path / "f")
    assert os.listdir(tmp_path) == ["f"]


def test_the_order_of_operations_is_sync_rename_sync_folder(tmp_path, faulty):
    layer = faulty()
    atomic_write(tmp_path / "f", write_new, layer=layer)
    names = [operation for operation, _ in layer.operations]
    assert names == ["create", *["write"] * 4, "sync", "replace", "sync_folder"]


def test_a_crash_at_every_operation_leaves_old_or_new(tmp_path, faulty, crash):
    steps = 8
    for k in range(steps):
        folder = tmp_path / str(k)
        folder.mkdir()
        (folder / "f").write_bytes(OLD)
        with pytest.raises(crash):
            atomic_write(folder / "f", write_new, layer=faulty(stop_at=k))
        assert (folder / "f").read_bytes() == (NEW if k == steps - 1 else OLD), k


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_at_every_operation_leaves_no_part(tmp_path, faulty, code):
    for k in range(8):
        folder = tmp_path / str(k)
        folder.mkdir()
        (folder / "f").write_bytes(OLD)
        with pytest.raises(OutputError, match="cannot be written"):
            atomic_write(folder / "f", write_new, layer=faulty(fail_at=k, code=code))
        assert os.listdir(folder) == ["f"]
        assert (folder / "f").read_bytes() in (OLD, NEW)


def test_a_full_disk_within_torch_save_is_reported_as_such(tmp_path, faulty):
    data = {"x": torch.zeros(1000)}
    total = faulty()
    atomic_write(tmp_path / "g", lambda stream: torch.save(data, stream), layer=total)
    writes = [i for i, (operation, _) in enumerate(total.operations) if operation == "write"]
    assert len(writes) > 5
    for k in writes:
        with pytest.raises(OutputError, match="injected"):
            atomic_write(tmp_path / "f", lambda stream: torch.save(data, stream), layer=faulty(fail_at=k))
    assert os.listdir(tmp_path) == ["g"]


def test_what_does_not_read_back_is_not_renamed(tmp_path):
    class Lying(FileLayer):
        def write(self, handle, data):
            super().write(handle, bytes(data)[:-1] + b"?")

    with pytest.raises(OutputError, match="other bytes than were written"):
        atomic_write(tmp_path / "f", write_new, layer=Lying())
    assert os.listdir(tmp_path) == []


def test_an_error_of_the_writer_or_before_the_rename_leaves_the_old_file(tmp_path):
    (tmp_path / "f").write_bytes(OLD)

    def broken(stream):
        stream.write(b"part")
        raise ZeroDivisionError

    def refuse(written):
        raise KeyboardInterrupt

    with pytest.raises(ZeroDivisionError):
        atomic_write(tmp_path / "f", broken)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "f", write_new, before_rename=refuse)
    assert os.listdir(tmp_path) == ["f"]
    assert (tmp_path / "f").read_bytes() == OLD


@pytest.mark.parametrize(("code", "fatal"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_disk_that_cannot_sync_folders_will_do_and_one_that_fails_will_not(tmp_path, monkeypatch, code, fatal):
    fsync = os.fsync

    def fail_for_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, "injected")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_for_folders)
    if fatal:
        with pytest.raises(OutputError, match="injected"):
            atomic_write(tmp_path / "f", write_new)
    else:
        atomic_write(tmp_path / "f", write_new)
        assert (tmp_path / "f").read_bytes() == NEW


def test_a_missing_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="OUTPUT_DIR"):
        atomic_write(tmp_path / "nowhere" / "f", write_new)


@pytest.mark.parametrize("name", ["../f", "a/b", "a\\b", "", ".", "..", "C:f", "a\nb", "a\x00", "x" * 300, 3, None])
def test_names_that_leave_the_folder_are_refused(name):
    with pytest.raises(CheckpointError, match="refused"):
        check_file_name(name, "the manifest")


def test_ordinary_names_pass():
    assert check_file_name("model_0004999.pth", "x") == "model_0004999.pth"


def test_leftovers_of_killed_processes_go_and_others_stay(tmp_path):
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from drivetrain.checkpoint.files import atomic_write\n"
        "def w(s):\n"
        "    s.write(b'part'); os.kill(os.getpid(), 9)\n"
        "atomic_write(Path(sys.argv[1]) / 'model_final.pth', w)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root, check=False)
    assert done.returncode == -9
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".model_final.pth.")
    host = left.split(".")[-2].split("-")[0]
    (tmp_path / f".f.{host}-{os.getppid()}-00000000-00000000.tmp").touch()  # a process that runs
    (tmp_path / ".f.00000000-1-00000000-00000000.tmp").touch()  # another machine
    (tmp_path / ".notes.tmp").touch()
    (tmp_path / "model.pth").touch()
    assert clean_leftovers(tmp_path) == [left]
    os.utime(tmp_path / ".f.00000000-1-00000000-00000000.tmp", (0, 0))
    assert clean_leftovers(tmp_path) == [".f.00000000-1-00000000-00000000.tmp"]
    assert len(os.listdir(tmp_path)) == 3


def test_a_file_being_written_by_this_process_is_no_leftover(tmp_path):
    def writer(stream):
        stream.write(NEW)
        assert clean_leftovers(tmp_path) == []

    atomic_write(tmp_path / "f", writer)
    assert (tmp_path / "f").exists()


def test_cleaning_a_folder_that_is_not_there_does_nothing(tmp_path):
    assert clean_leftovers(tmp_path / "none") == []
