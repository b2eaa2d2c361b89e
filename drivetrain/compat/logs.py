"""Loggers by detectron2's names: what is logged under either name reaches the handlers of both."""

from __future__ import annotations

import logging
import os
from typing import Any

from drivetrain.runtime import logging as own

__all__ = ["answer_to_both_names", "part_names", "setup_logger"]

_OURS, _THEIRS = "drivetrain", "detectron2"
_NAMES = (("drivetrain.events", "detectron2.utils.events"), (_OURS, _THEIRS))  # the longer one first


class _Forward(logging.Handler):
    """Hands this package's records to the handlers of detectron2's loggers."""

    def emit(self, record: logging.LogRecord) -> None:
        theirs = next((record.name.replace(a, b, 1) for a, b in _NAMES if f"{record.name}.".startswith(f"{a}.")), "")
        logger: logging.Logger | None = logging.getLogger(theirs) if theirs else None
        while logger is not None and logger.name.partition(".")[0] == _THEIRS:
            for handler in logger.handlers:
                if record.levelno >= handler.level:
                    handler.handle(record)
            logger = logger.parent


def answer_to_both_names() -> None:
    """Join the loggers: handlers of ``detectron2...`` get this package's lines, and its handlers get theirs.

    Lines of the metric printer, logged to ``drivetrain.events``, arrive under ``detectron2.utils.events``.
    """
    logger = logging.getLogger(_OURS)
    if not any(isinstance(handler, _Forward) for handler in logger.handlers):
        logger.addHandler(_Forward())
    logging.getLogger(_THEIRS).parent = logger


def part_names() -> None:
    """Take back what :func:`answer_to_both_names` did."""
    logger = logging.getLogger(_OURS)
    for handler in [handler for handler in logger.handlers if isinstance(handler, _Forward)]:
        logger.removeHandler(handler)
    logging.getLogger(_THEIRS).parent = logging.getLogger()


def setup_logger(
    output: str | os.PathLike[str] | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = _THEIRS,
    abbrev_name: str | None = None,
    **other: Any,
) -> logging.Logger:
    """:func:`drivetrain.runtime.logging.setup_logger` with detectron2's name by default, which stands for both.

    Args:
        output, distributed_rank, color, abbrev_name: as there.
        name: the logger.
        other: accepted for later versions of detectron2, such as ``enable_propagation``.
    """
    if name == _THEIRS:
        own.setup_logger(output, distributed_rank, color=color, abbrev_name=abbrev_name)
        answer_to_both_names()
        return logging.getLogger(_THEIRS)
    return own.setup_logger(output, distributed_rank, color=color, name=name, abbrev_name=abbrev_name)
