"""Why an image that an annotation file names is not found: hints for messages."""

from __future__ import annotations

import os
import re
import unicodedata

__all__ = ["missing_hint", "with_slashes"]

_DRIVE = re.compile(r"[A-Za-z]:/|//")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def with_slashes(name: str) -> str:
    """A name as tools write it on Windows, with ``/`` between folders."""
    return name.replace("\\", "/")


def missing_hint(root: str, name: str) -> str:
    """What may be meant by a name that is no file in the folder ``root``; ``""`` when nothing comes to mind.

    Args:
        root: the folder of the images.
        name: as the annotation file has it: perhaps absolute, an address, relative to another folder, or spelled with
            other letters than the file.
    """
    if _ADDRESS.match(name):
        return "; it is an address: download the images, and name the files"
    parts = [part for part in with_slashes(name).split("/") if part and part != os.curdir]
    for skipped in range(1, len(parts)):
        rest = "/".join(parts[skipped:])
        if os.pardir not in parts[skipped:] and os.path.isfile(os.path.join(root, rest)):
            return _relative_to(root, parts[:skipped], rest)
    found = _spelled_otherwise(root, name)
    if found:
        return f"; there is {found!a}, spelled otherwise"
    if os.path.isabs(name):
        return "; name the files relative to the folder"
    absolute = _DRIVE.match(with_slashes(name))
    return "; it is an absolute path: name the files relative to the folder" if absolute else ""


def _relative_to(root: str, first: list[str], rest: str) -> str:
    """The hint for a name of which the end, ``rest``, is in the folder; perhaps names are relative to one above it."""
    above = os.path.abspath(root).split(os.sep)
    if above[-len(first) :] == first:
        return f"; it is there if the folder of the images is {os.sep.join(above[: -len(first)])!r}"
    return f"; there is {rest!r}: name the files relative to the folder"


def _spelled_otherwise(root: str, name: str) -> str:
    """A file in the same folder whose name differs in case, or in how letters with accents are encoded."""
    folder, _, base = name.rpartition("/")
    if os.path.isabs(name) or os.pardir in folder.split("/"):
        return ""
    try:
        names = os.listdir(os.path.join(root, folder))
    except (OSError, ValueError):
        return ""
    return next((other for other in names if _letters(other) == _letters(base)), "")


def _letters(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
