"""Weights by the addresses that detectron2's configs have: where such a file lies on this machine."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from drivetrain.errors import CheckpointError

__all__ = ["FOLDER_VARIABLE", "PUBLISHED_AT", "address_of", "find_weights"]

PUBLISHED_AT = "https://dl.fbaipublicfiles.com/detectron2/"
"""Where the addresses that begin with ``detectron2://`` lead."""

FOLDER_VARIABLE = "DRIVETRAIN_WEIGHTS"
"""The environment variable that names a folder of downloaded weights."""

_CACHES = ("~/.torch/iopath_cache", "~/.torch/fvcore_cache")  # where detectron2 itself kept what it downloaded


def address_of(weights: str) -> str:
    """The address behind ``detectron2://...``, an ``https://`` address as it is, and ``""`` for a path of this machine.

    Raises:
        CheckpointError: an address of another kind.
    """
    kind, separator, rest = weights.partition("://")
    if not separator:
        return ""
    if kind == "detectron2":
        return PUBLISHED_AT + rest
    if kind in ("http", "https"):
        return weights
    raise CheckpointError(f"{weights} is an address that nothing is known of here: fetch the file and give its path")


def find_weights(weights: str) -> Path:
    """The file that a value of ``MODEL.WEIGHTS`` means; nothing is downloaded.

    An address is looked for in the folder that ``DRIVETRAIN_WEIGHTS`` names, and where detectron2 kept its downloads.
    In the folder it may lie as below the address (``COCO-Detection/.../model_final_280758.pkl``) or any end of that; by
    its bare name only if that tells which one it is, as ``R-50.pkl``, of which there are several, does not.

    Args:
        weights: a path or an address.

    Raises:
        CheckpointError: the address's file is not on this machine; the message says where to get it.
    """
    address = address_of(weights)
    if not address:
        return Path(weights).expanduser()
    for candidate in _candidates(address):
        if candidate.is_file():
            return candidate
    file = address.rpartition("/")[2]
    raise CheckpointError(
        f"MODEL.WEIGHTS is {weights}, and nothing is downloaded: download {file} from {address} yourself and give its "
        f"path, or put it as {'/'.join(_short(address))} into a folder that the environment variable {FOLDER_VARIABLE} "
        "names"
    )


def _candidates(address: str) -> list[Path]:
    """Where the file may lie, the most certain first."""
    found = []
    if folder := os.environ.get(FOLDER_VARIABLE):
        parts = _parts(address)
        found += [Path(folder).expanduser().joinpath(*parts[start:]) for start in range(len(parts))]
        if not _tells(parts[-1]):
            found.pop()
    for cache in (os.environ.get("FVCORE_CACHE", ""), *_CACHES):
        if cache and address.startswith(PUBLISHED_AT):
            found.append(Path(cache).expanduser().joinpath("detectron2", *_parts(address)))
    return found


def _parts(address: str) -> tuple[str, ...]:
    """The path below the site, or below detectron2's folder of it, without steps up."""
    below = address.removeprefix(PUBLISHED_AT) if address.startswith(PUBLISHED_AT) else address.partition("://")[2]
    return tuple(part for part in PurePosixPath(below.partition("?")[0]).parts if part not in ("/", ".."))


def _short(address: str) -> tuple[str, ...]:
    parts = _parts(address)
    return parts[-1:] if _tells(parts[-1]) else parts[-2:]


def _tells(name: str) -> bool:
    """Whether a file name stands for one file alone; published models have part of a digest in theirs."""
    return name.startswith("model_final_")
