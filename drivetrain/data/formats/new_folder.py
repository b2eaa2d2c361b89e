"""A folder that appears whole or not at all, and the images put into it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drivetrain.errors import OutputError

__all__ = ["IMAGE_FILES", "new_folder", "put_image"]

IMAGE_FILES = ("copy", "link", "none")
"""What may become of images: copies, hard links to the same files, or nothing."""


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder that takes the name ``path`` when the block ends; an error leaves nothing behind.

    Raises:
        OutputError: ``path`` exists and is not an empty folder, or cannot be written.
    """
    target = Path(path).absolute()
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise OutputError(f"{str(path)!r} exists already and nothing in it is overwritten: choose another folder")
    made = [place for place in target.parents if not place.exists()]
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        temporary.chmod(0o755)  # a temporary folder is made for its owner alone
        yield temporary
        os.replace(temporary, target)
    except BaseException as err:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        for place in made:
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
        if isinstance(err, OSError) and not isinstance(err, OutputError):
            raise OutputError(f"{str(path)!r} cannot be written: {err.strerror or err}") from err
        raise


def put_image(source: str, target: Path, how: str) -> None:
    """Copy or link an image file to ``target``, whose folder is made; ``how`` is one of IMAGE_FILES.

    Raises:
        OutputError: a link is asked for that the file system does not know, or the file cannot be written.
    """
    if how == "none":
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if how == "link":
            os.link(os.path.realpath(source), target)
        else:
            shutil.copyfile(source, target)
    except OSError as err:
        hint = "; copy the images instead" if how == "link" else ""
        raise OutputError(f"{source!r} cannot be put at {str(target)!r}: {err.strerror or err}{hint}") from err
