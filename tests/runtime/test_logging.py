from __future__ import annotations

import logging
import os
import re
import sys

import pytest

from drivetrain.errors import OutputError
from drivetrain.runtime.logging import log_every_n, log_every_n_seconds, log_first_n, setup_logger

LINE = r"^\[\d\d/\d\d \d\d:\d\d:\d\d {}\]: {}$"


@pytest.fixture
def name():
    """A logger of this test's own, taken down afterwards."""
    name = "lt.probe"
    yield name
    logger = logging.getLogger(name)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.__dict__.pop("_drivetrain_counts", None)
    logger.__dict__.pop("_drivetrain_times", None)
    logger.propagate = True


def lines(text):
    return text.splitlines()


def test_the_format_on_console_and_in_the_file(name, tmp_path, capsys):
    logger = setup_logger(tmp_path, name=name)
    logging.getLogger(f"{name}.engine").info("step %d", 3)
    logger.warning("hot")
    for text in (capsys.readouterr().out, (tmp_path / "log.txt").read_text()):
        first, second = lines(text)
        assert re.match(LINE.format(r"lt\.probe\.engine", "step 3"), first)
        assert re.match(LINE.format(r"lt\.probe", "WARNING hot"), second)


def test_calling_it_twice_does_not_duplicate_lines_or_leak_files(name, tmp_path, capsys):
    def open_files():
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    setup_logger(tmp_path, name=name)
    before = open_files()
    for _ in range(20):
        logger = setup_logger(tmp_path, name=name)
    setup_logger(name=name)  # and the file stays
    assert open_files() == before
    logger.info("once")
    assert len(lines(capsys.readouterr().out)) == 1
    assert len(lines((tmp_path / "log.txt").read_text())) == 1


def test_another_output_takes_the_place_of_the_first(name, tmp_path):
    setup_logger(tmp_path / "a", name=name).info("to a")
    setup_logger(tmp_path / "b" / "own.log", name=name).info("to b")
    assert "to a" in (tmp_path / "a" / "log.txt").read_text()
    assert "to b" not in (tmp_path / "a" / "log.txt").read_text()
    assert "to b" in (tmp_path / "b" / "own.log").read_text()


def test_other_ranks_write_their_own_file_and_no_console(name, tmp_path, capsys):
    setup_logger(tmp_path, 1, name=name).info("hello")
    assert capsys.readouterr().out == ""
    assert "hello" in (tmp_path / "log.txt.rank1").read_text()
    setup_logger(tmp_path / "x.txt", 12, name=name).info("hello")
    assert (tmp_path / "x.txt.rank12").exists()


def test_a_file_is_continued(name, tmp_path):
    (tmp_path / "log.txt").write_text("earlier\n")
    setup_logger(tmp_path, name=name).info("later")
    assert lines((tmp_path / "log.txt").read_text())[0] == "earlier"


def test_an_abbreviation_replaces_the_name(name, capsys):
    setup_logger(name=name, abbrev_name="lt")
    logging.getLogger(f"{name}.a").info("x")
    logging.getLogger(name).info("y")
    first, second = lines(capsys.readouterr().out)
    assert first.endswith(" lt.a]: x")
    assert second.endswith(" lt]: y")


def test_control_characters_are_escaped_and_tables_are_not(name, tmp_path, capsys):
    evil = "a\x1b[2Kb\rc\x00d\x9be\u202ef"
    setup_logger(tmp_path, name=name).info("file %s", evil)
    logging.getLogger(name).info("| a\t|\n| b\t|")
    for text in (capsys.readouterr().out, (tmp_path / "log.txt").read_bytes().decode()):
        assert "a\\x1b[2Kb\\x0dc\\x00d\\x9be\\x202ef" in text
        assert "| a\t|\n| b\t|\n" in text
        assert not set(text) & set("\x1b\r\x00\x9b\u202e")


def test_an_error_in_a_message_with_control_characters(name, capsys):
    setup_logger(name=name)
    try:
        raise ValueError("bad \x1b name")
    except ValueError:
        logging.getLogger(name).exception("failed")
    out = capsys.readouterr().out
    assert "ERROR failed\nTraceback" in out
    assert "ValueError: bad \\x1b name" in out


def test_colour_only_on_a_terminal(name, capsys, monkeypatch):
    setup_logger(name=name)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    logging.getLogger(name).error("x")
    assert "\x1b[31mERROR \x1b[0mx" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    logging.getLogger(name).error("x")
    monkeypatch.delenv("NO_COLOR")
    setup_logger(name=name, color=False)
    logging.getLogger(name).error("x")
    assert "\x1b" not in capsys.readouterr().out


def test_caplog_sees_the_lines(name, caplog):
    setup_logger(name=name).info("seen")
    assert "seen" in caplog.text


def test_no_double_lines_where_the_root_logger_prints_too(name, capsys):
    handler = logging.StreamHandler(sys.stdout)
    logging.getLogger().addHandler(handler)
    try:
        setup_logger(name=name).info("once")
        assert capsys.readouterr().out.count("once") == 1
    finally:
        logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("make", [lambda p: p.write_text("x"), lambda p: (p / "log.txt").mkdir(parents=True)])
def test_an_output_that_cannot_be_written(name, tmp_path, make):
    target = tmp_path / "out"
    make(target)
    with pytest.raises(OutputError, match=r"log\.txt cannot be written .*OUTPUT_DIR"):
        setup_logger(target, name=name)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_full_disk_is_told_once_and_ends_nothing(name, tmp_path, capsys):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    logger = setup_logger(tmp_path, name=name)
    for _ in range(5):
        logger.info("x")
    captured = capsys.readouterr()
    assert captured.err.count("cannot write to the log file") == 1
    assert captured.out.count("x\n") == 5
    for handler in list(logger.handlers):
        logger.removeHandler(handler)  # its close would fail on the full disk again


def test_first_n(name, caplog):
    caplog.set_level(logging.INFO)
    for i in range(5):
        log_first_n(logging.INFO, f"caller {i}", 2, name=name)
        log_first_n(logging.INFO, f"message {i % 2}", name=name, key="message")
        log_first_n(logging.INFO, f"both {i % 2}", name=name, key=("caller", "message"))
    found = [r.getMessage() for r in caplog.records]
    assert [m for m in found if m.startswith("caller")] == ["caller 0", "caller 1"]
    assert [m for m in found if m.startswith("message")] == ["message 0", "message 1"]
    assert [m for m in found if m.startswith("both")] == ["both 0", "both 1"]
    assert {r.filename for r in caplog.records} == {"test_logging.py"}


def test_every_n(name, caplog):
    caplog.set_level(logging.INFO)
    for i in range(7):
        log_every_n(logging.INFO, f"third {i}", 3, name=name)
        log_every_n(logging.INFO, f"each {i}", name=name)
    found = [r.getMessage() for r in caplog.records]
    assert [m for m in found if m.startswith("third")] == ["third 0", "third 3", "third 6"]
    assert len([m for m in found if m.startswith("each")]) == 7


def test_every_n_seconds(name, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    now = iter([0.0, 4.0, 5.0, 9.9, 10.0])
    monkeypatch.setattr("drivetrain.runtime.logging.time.monotonic", lambda: next(now))
    for i in range(5):
        log_every_n_seconds(logging.INFO, str(i), 5, name=name)
    assert [r.getMessage() for r in caplog.records] == ["0", "2", "4"]


def test_the_logger_is_the_callers_by_default(caplog):
    caplog.set_level(logging.INFO)
    log_first_n(logging.INFO, "mine")
    assert caplog.records[-1].name == __name__
