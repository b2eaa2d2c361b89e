"""Folders that commands write to: bad input leaves none of them half-filled."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from drivetrain.errors import UserInputError

__all__ = ["undone_on_bad_input"]


@contextmanager
def undone_on_bad_input(path: str | Path) -> Iterator[Callable[[], None]]:
    """Take back what a block wrote into a folder if it ends with a :class:`UserInputError`.

    New files and folders go, the folder itself and parents made for it included; YAML files get their former content
    back. Log files in it are closed first. Anything else that ends the block leaves everything as it is.

    Args:
        path: the folder; it need not exist.

    Yields:
        A function to call once what is there is worth keeping; from then on nothing is taken back.
    """
    folder = Path(path).absolute()
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    before = set(folder.rglob("*"))
    texts = {file: file.read_bytes() for file in folder.glob("*.yaml")}
    kept = False

    def keep() -> None:
        nonlocal kept
        kept = True

    try:
        yield keep
    except UserInputError:
        if not kept:
            _close_logs(folder)
            with suppress(OSError):  # the error that led here is the one to see
                _remove(missing, set(folder.rglob("*")) - before)
                for file, content in texts.items():
                    if file.read_bytes() != content:
                        file.write_bytes(content)
        raise


def _remove(missing: list[Path], new: set[Path]) -> None:
    if missing:
        shutil.rmtree(missing[-1], ignore_errors=True)
        return
    for place in sorted(new, reverse=True):  # what lies in a folder comes before it
        if place.is_dir() and not place.is_symlink():
            place.rmdir()
        else:
            place.unlink()


def _close_logs(folder: Path) -> None:
    logger = logging.getLogger("drivetrain")
    for handler in list(logger.handlers):
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).is_relative_to(folder):
            logger.removeHandler(handler)
            handler.close()
