"""Which device a process computes on."""

from __future__ import annotations

import torch

from drivetrain.errors import UserInputError, did_you_mean
from drivetrain.runtime import comm

__all__ = ["resolve_device"]

_KINDS = ("auto", "cpu", "cuda", "mps", "xpu")


def resolve_device(name: str) -> torch.device:
    """The device that a name stands for on this machine and in this process.

    Args:
        name: ``"auto"`` (CUDA, else MPS, else CPU), ``"cpu"``, ``"cuda"``, ``"mps"``, ``"xpu"``, or one of
            them with an index, such as ``"cuda:1"``. Without an index, the rank within this machine chooses
            the CUDA or XPU device.

    Raises:
        UserInputError: the name is misspelt, or this machine has no such device.
    """
    text = str(name).strip().lower()
    kind, colon, index_text = text.partition(":")
    if kind not in _KINDS or (colon and not index_text.isdecimal()) or (colon and kind == "auto"):
        raise UserInputError(
            f"device {str(name)!r} is not one of auto, cpu, cuda, cuda:N, mps, xpu"
            f"{did_you_mean(kind, _KINDS)} (key MODEL.DEVICE)"
        )
    if kind == "auto":
        kind = next(k for k in ("cuda", "mps", "cpu") if _count(k))
    count = _count(kind)
    if not count:
        raise UserInputError(
            f"device {str(name)!r} was asked for, but {_why_absent(kind)}: use 'auto' or 'cpu' (key MODEL.DEVICE)"
        )
    if kind in ("cpu", "mps"):
        if colon and int(index_text) > 0:
            raise UserInputError(f"device {str(name)!r} has an index, but there is one {kind} device: use {kind!r}")
        return torch.device(kind)
    index = int(index_text) if colon else comm.get_local_rank()
    if index >= count:
        asked = f"device {str(name)!r}" if colon else f"process {index} of this machine"
        raise UserInputError(
            f"{asked} needs {kind} device {index}, but this machine shows {count} (numbered from 0): "
            "use a smaller index or fewer processes, or check CUDA_VISIBLE_DEVICES"
        )
    return torch.device(kind, index)


def _count(kind: str) -> int:
    """How many devices of a kind this machine can use."""
    if kind == "cpu":
        return 1
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    backend = torch.xpu if kind == "xpu" else torch.cuda
    return backend.device_count() if backend.is_available() else 0


def _why_absent(kind: str) -> str:
    """The likely reason why no device of a kind is there."""
    if kind == "cuda" and torch.version.cuda is None and torch.version.hip is None:
        return f"this PyTorch ({torch.__version__}) was built without CUDA"
    return f"PyTorch finds no {kind} device on this machine"
