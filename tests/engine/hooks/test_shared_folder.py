from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivetrain.engine.hooks import shared_folder as module
from drivetrain.engine.hooks.shared_folder import Occupancy, make_shared_folder, remove_deserted, shared_folder

OCCUPIES = """
import sys, time
from drivetrain.engine.hooks.shared_folder import Occupancy, make_shared_folder
parent, folder = sys.argv[1], "".join(sys.argv[2:])
folder, occupancy = (folder, Occupancy(folder)) if folder else make_shared_folder("test-", parent)
print(folder, flush=True)
time.sleep(300)
"""


@pytest.fixture
def start() -> Iterator[object]:
    """Starts processes that make a shared folder, or occupy an existing one, and tell its name."""
    processes: list[subprocess.Popen[str]] = []

    def starts(*arguments: object) -> tuple[subprocess.Popen[str], Path]:
        command = [sys.executable, "-c", OCCUPIES, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    yield starts
    for process in processes:
        process.kill()
        process.communicate()


def test_what_killed_processes_left_is_removed_once_all_are_gone(tmp_path: Path, start: object) -> None:
    first, folder = start(tmp_path)  # type: ignore[operator]
    second, _ = start(tmp_path, folder)  # type: ignore[operator]
    (folder / "deeper").mkdir()
    (folder / "deeper" / "file").touch()
    for process in (first, second):
        remove_deserted(tmp_path)
        assert folder.is_dir()
        process.send_signal(signal.SIGSTOP)  # it lives, though it does nothing
        remove_deserted(tmp_path)
        assert folder.is_dir()
        process.kill()
        process.wait()
    made, occupancy = make_shared_folder("other-", tmp_path)  # as the next training does
    assert list(tmp_path.iterdir()) == [made] and made.name.startswith("drivetrain-other-")
    occupancy.end()


def test_a_folder_is_kept_by_this_process_too_until_it_leaves(tmp_path: Path) -> None:
    folder, first = make_shared_folder("", tmp_path)
    second = Occupancy(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    first.end()
    first.end()
    remove_deserted(tmp_path)
    assert folder.is_dir()
    second.end()
    remove_deserted(tmp_path)
    assert list(tmp_path.iterdir()) == []


def deserted(parent: Path, name: str = "drivetrain-x") -> Path:
    """A folder that would be removed."""
    (parent / name).mkdir(parents=True)
    Occupancy(parent / name).end()
    return parent / name


def test_what_is_not_certainly_deserted_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty, others = tmp_path / "drivetrain-new", deserted(tmp_path, "others-1")
    empty.mkdir()  # of a process that is about to mark it
    link, target = tmp_path / "drivetrain-link", deserted(tmp_path / "elsewhere")
    link.symlink_to(target)
    file = tmp_path / "drivetrain-file"
    file.touch()
    elsewhere = deserted(tmp_path, "drivetrain-elsewhere")
    mark = next(elsewhere.iterdir())
    mark.rename(mark.with_name(mark.name.replace(socket.gethostname(), f"{socket.gethostname()}-2")))
    linked_mark = deserted(tmp_path, "drivetrain-linked")
    mark = next(linked_mark.iterdir())
    mark.rename(tmp_path / "mark")
    mark.symlink_to(tmp_path / "mark")
    everything = {path: sorted(path.iterdir()) for path in (empty, others, target, elsewhere, linked_mark)}
    remove_deserted(tmp_path)
    assert {path: sorted(path.iterdir()) for path in everything} == everything
    assert link.is_symlink() and file.exists()
    own = deserted(tmp_path, "drivetrain-own")
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)  # it is another user's
    remove_deserted(tmp_path)
    assert own.is_dir()
    monkeypatch.undo()
    remove_deserted(tmp_path)
    assert not own.exists()


def test_links_within_a_deserted_folder_are_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (deserted(tmp_path) / "link").symlink_to(precious)
    remove_deserted(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"] and (precious / "file").exists()


def test_nothing_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove_deserted(tmp_path / "not there")
    Occupancy(tmp_path / "not there").end()

    def fails(file: int) -> None:
        raise OSError

    monkeypatch.setattr(module, "_lock", fails)  # a disk without locks
    folder, occupancy = make_shared_folder("", tmp_path)
    occupancy.end()
    assert list(folder.iterdir()) == []
    remove_deserted(tmp_path)
    assert folder.is_dir()


def test_the_folder_of_a_block_is_gone_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = deserted(tmp_path)
    with pytest.raises(ZeroDivisionError), shared_folder() as folder:
        (folder / "file").touch()
        assert list(tmp_path.iterdir()) == [folder] and not left.exists()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
