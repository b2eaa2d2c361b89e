"""Taking back what a failed command wrote."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from drivetrain.cli.folders import undone_on_bad_input
from drivetrain.errors import ConfigError
from drivetrain.runtime.logging import setup_logger


def fail_after_writing(folder: Path, error: BaseException, *, keep: bool = False) -> None:
    with pytest.raises(type(error)), undone_on_bad_input(folder) as keep_it:
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "a" / "b" / "file").write_text("x")
        (folder / "c.yaml").write_text("new")
        if keep:
            keep_it()
        raise error


def test_a_folder_that_was_made_goes_with_its_parents(tmp_path: Path) -> None:
    fail_after_writing(tmp_path / "x" / "y", ConfigError("wrong"))
    assert not list(tmp_path.iterdir())


def test_what_was_there_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "c.yaml").write_text("former")
    fail_after_writing(tmp_path, ConfigError("wrong"))
    assert {p.name: p.read_text() for p in tmp_path.rglob("*")} == {"old": "old", "c.yaml": "former"}


@pytest.mark.parametrize(("error", "keep"), [(ConfigError("wrong"), True), (RuntimeError("a bug"), False)])
def test_what_is_worth_keeping_is_kept(tmp_path: Path, error: Exception, keep: bool) -> None:
    fail_after_writing(tmp_path / "out", error, keep=keep)
    assert (tmp_path / "out" / "a" / "b" / "file").exists()


def test_success_keeps_everything(tmp_path: Path) -> None:
    with undone_on_bad_input(tmp_path / "out"):
        (tmp_path / "out").mkdir()
    assert (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError), undone_on_bad_input(tmp_path / "file" / "out"):
        raise ConfigError("wrong")
    assert (tmp_path / "file").read_text() == "x"


def test_its_log_is_closed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError), undone_on_bad_input(tmp_path / "out"):
        setup_logger(str(tmp_path / "out"))
        raise ConfigError("wrong")
    assert not (tmp_path / "out").exists()
    assert not any(isinstance(h, logging.FileHandler) for h in logging.getLogger("drivetrain").handlers)
