"""A description of the machine and its software, for logs and for ``drivetrain doctor``."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from drivetrain._version import __version__

__all__ = ["Row", "collect_env_info", "environment_rows", "redacted"]

_REQUIRED = (
    "torchvision",
    "numpy",
    "Pillow",
    "PyYAML",
    "rich",
    "faster-coco-eval",
    "tensorboard",
    "safetensors",
    "timm",
)
_OPTIONAL = {"simplejpeg": "pip install 'drivetrain[fast]' decodes JPEG files faster"}
_GIB = 2**30
_SECRET = re.compile(r"pass(word|wd|phrase)|secret|token|api_?key|credential", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One fact about the environment.

    Attributes:
        name: what it is about.
        value: what was found.
        ok: True where it works, False where it needs attention, None where it is only information.
        advice: what to do where it needs attention, or a hint; may be empty.
    """

    name: str
    value: str
    ok: bool | None = None
    advice: str = ""


def environment_rows() -> list[Row]:
    """What this machine and Python offer to a training. No optional library is imported."""
    return [*_system_rows(), *_torch_rows(), *_resource_rows(), *_library_rows()]


def collect_env_info() -> str:
    """The rows of `environment_rows` as an aligned table, one line each, advice in brackets."""
    rows = environment_rows()
    width = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        note = f"  [{row.advice}]" if row.ok is False and row.advice else ""
        lines.append(f"{row.name:<{width}}  {row.value}{note}")
    return "\n".join(lines)


def _system_rows() -> list[Row]:
    """Operating system, Python, this package."""
    python = f"{platform.python_version()} ({platform.python_implementation()}, {sys.executable})"
    return [
        Row("platform", f"{platform.system()} {platform.release()} {platform.machine()}"),
        Row("python", python, sys.version_info >= (3, 10), "Python 3.10 or later is needed"),
        Row("drivetrain", __version__),
    ]


def _torch_rows() -> list[Row]:
    """PyTorch and the accelerators that it sees."""
    release = tuple(int(p) for p in torch.__version__.split("+")[0].split(".")[:2])
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    if torch.version.hip:
        built = f"ROCm {torch.version.hip}"
    rows = [
        Row(
            "torch",
            f"{torch.__version__} (built with {built})",
            release >= (2, 10),
            "install torch 2.10 or later",
        )
    ]
    if torch.cuda.is_available():
        rows += _gpu_rows()
    else:
        rows.append(Row("cuda", "no device", None, "training runs on the CPU; use a small model"))
    if torch.backends.mps.is_available():
        rows.append(Row("mps", "available", True))
    for variable in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
        if variable in os.environ:
            rows.append(Row(variable, os.environ[variable]))
    return rows


def _gpu_rows() -> list[Row]:
    """One row per kind of GPU, and the libraries that drive them."""
    kinds: Counter[str] = Counter()
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        kinds[f"{properties.name}, {properties.total_memory / _GIB:.0f} GiB"] += 1
    rows = [Row("gpu", f"{count} x {kind}", True) for kind, count in kinds.items()]
    cudnn: Any = torch.backends.cudnn
    rows.append(Row("cudnn", str(cudnn.version() or "missing")))
    if torch.distributed.is_available() and torch.distributed.is_nccl_available():
        nccl: Any = torch.cuda.nccl
        rows.append(Row("nccl", ".".join(str(n) for n in nccl.version())))
    return rows


def _resource_rows() -> list[Row]:
    """Cores, memory and shared memory that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    rows = [Row("cpu cores", f"{cores} usable of {os.cpu_count()} ({torch.get_num_threads()} torch threads)")]
    memory = _memory_bytes()
    if memory:
        rows.append(Row("memory", f"{memory / _GIB:.1f} GiB", memory >= 2 * _GIB, "2 GiB or more is advised"))
    if Path("/dev/shm").is_dir():
        usage = shutil.disk_usage("/dev/shm")
        rows.append(
            Row(
                "shared memory",
                f"{usage.free / _GIB:.1f} GiB free of {usage.total / _GIB:.1f} GiB",
                usage.free >= _GIB // 2,
                "loader workers need it: give the container --shm-size=8g or set DATALOADER.NUM_WORKERS 0",
            )
        )
    return rows


def _memory_bytes() -> int | None:
    """The memory that this process may use: the machine's, or its control group's limit if that is lower."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    for limit_file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        total = min(total, _read_int(limit_file) or total)
    return total


def _read_int(path: str) -> int | None:
    """The number in a file; None where there is no such file or no number in it (``max``)."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def _library_rows() -> list[Row]:
    """Versions of the libraries that the package uses, from their metadata."""
    rows = []
    for name in _REQUIRED:
        version = _version(name)
        rows.append(Row(name, version or "not installed", version is not None, f"pip install {name}"))
    for name, advice in _OPTIONAL.items():
        version = _version(name)
        rows.append(Row(name, version or "not installed", True if version else None, advice))
    return rows


def _version(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def redacted(words: Iterable[Any]) -> list[Any]:
    """The words of a command line for a log: values of flags and keys that are named like a secret become ``***``.

    Example::

        redacted(["--api-key", "abc", "WANDB.TOKEN=abc"])  # ["--api-key", "***", "WANDB.TOKEN=***"]
    """
    shown: list[Any] = []
    hide = False
    for word in words:
        name, equals, _ = str(word).partition("=")
        is_name = name.startswith("--") or re.fullmatch(r"[A-Z][A-Z0-9_.]*", name) is not None
        secret = is_name and _SECRET.search(name.replace("-", "_")) is not None
        if hide and not is_name:
            shown.append("***")
        else:
            shown.append(f"{name}=***" if secret and equals else word)
        hide = secret and not equals
    return shown
