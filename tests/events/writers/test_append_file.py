"""A file that grows by whole pieces."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from drivetrain.events.writers.append_file import AppendFile


class _Disk:
    """The raw file of an AppendFile, which takes ``room`` more bytes and, if ``stuck``, does not let go of any."""

    def __init__(self, file: Any, room: int, stuck: bool = False) -> None:
        self.file, self.room, self.stuck = file, room, stuck

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, data: memoryview) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = int(self.file.write(data[: self.room]))
        self.room -= written
        return written

    def truncate(self, size: int) -> int:
        if self.stuck:
            raise OSError(errno.EIO, "Input/output error")
        return int(self.file.truncate(size))


@pytest.mark.parametrize("stuck", [False, True])
def test_a_piece_is_there_whole_or_not_at_all(tmp_path: Path, stuck: bool) -> None:
    file = AppendFile(tmp_path / "a")
    file.append(b"one,")
    disk = file._file = _Disk(file._file, room=2, stuck=stuck)  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space"):
        file.append(b"two,")
    assert (tmp_path / "a").read_bytes() == (b"one,tw" if stuck else b"one,")
    disk.room, disk.stuck = 100, False
    file.append(b"three,")
    file.close()
    file.close()
    assert (tmp_path / "a").read_bytes() == b"one,three,"


def test_an_empty_new_one_does_not_stay_and_an_old_one_is_continued(tmp_path: Path) -> None:
    file = AppendFile(tmp_path / "a")
    file._file = _Disk(file._file, room=2)  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space"):
        file.append(b"head")
    file.close()
    assert not (tmp_path / "a").exists()
    (tmp_path / "b").write_bytes(b"other")
    with pytest.raises(FileExistsError):
        AppendFile(tmp_path / "b")
    file = AppendFile(tmp_path / "b", new=False)
    file.append(b" one")
    disk = file._file = _Disk(file._file, room=2)  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space"):
        file.append(b" two")
    disk.room = 100
    file.append(b" three")
    file.close()
    assert (tmp_path / "b").read_bytes() == b"other one three"
    AppendFile(tmp_path / "c", new=False).close()
    assert (tmp_path / "c").read_bytes() == b""


def test_what_others_append_stays(tmp_path: Path) -> None:
    file, other = (AppendFile(tmp_path / "a", new=new) for new in (True, False))
    file.append(b"one,")
    other.append(b"two,")
    disk = file._file = _Disk(file._file, room=2)  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space"):
        file.append(b"three,")
    other.append(b"four,")
    disk.room = 100
    file.append(b"five,")
    other.append(b"six")
    file.close()
    assert (tmp_path / "a").read_bytes() == b"one,two,four,five,six"
