"""Loggers by both names."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivetrain.compat.logs import answer_to_both_names, part_names, setup_logger


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture(autouse=True)
def separate() -> Iterator[None]:
    yield
    part_names()
    assert logging.getLogger("detectron2").parent is logging.getLogger()


def test_lines_reach_the_handlers_of_both_names_once() -> None:
    ours, events, theirs = Kept(), Kept(), Kept()
    names = ("drivetrain", "detectron2.utils.events", "detectron2")
    answer_to_both_names()
    answer_to_both_names()
    for name, handler in zip(names, (ours, events, theirs), strict=True):
        logging.getLogger(name).addHandler(handler)
    try:
        logging.getLogger("drivetrain").setLevel(logging.INFO)
        logging.getLogger("drivetrain.events").info("a metric")
        logging.getLogger("drivetrain.engine").info("a step")
        logging.getLogger("drivetrainer").info("not ours")
        logging.getLogger("detectron2.trainer").info("of the script")
    finally:
        for name, handler in zip(names, (ours, events, theirs), strict=True):
            logging.getLogger(name).removeHandler(handler)
    assert ours.lines == ["a metric", "a step", "of the script"]
    assert events.lines == ["a metric"]
    assert theirs.lines == ["a metric", "a step", "of the script"]


def test_setup_by_either_name_writes_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = setup_logger(str(tmp_path))
    assert logger.name == "detectron2" and setup_logger(name="mine").name == "mine"
    logger.info("first")
    logging.getLogger("drivetrain.engine").info("second")
    text = (tmp_path / "log.txt").read_text()
    assert text.count("first") == text.count("second") == 1
    assert capsys.readouterr().out.count("first") == 1
    logging.getLogger("mine").handlers.clear()
