"""Reading and writing checkpoint files: own ``.pth`` archives and ``.safetensors``.

Nothing that is read can run code: PyTorch files are read with ``weights_only=True`` and safetensors hold
tensors only. What would not load that way is refused when it is saved.
"""

from __future__ import annotations

import contextlib
import pickle
import re
import warnings
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial
from operator import is_
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drivetrain.checkpoint.files import file_digest
from drivetrain.checkpoint.snapshot import HostCopies
from drivetrain.errors import CheckpointError, CorruptCheckpointError

__all__ = [
    "check_whole",
    "checkpoint_writer",
    "map_checkpoint",
    "metadata_problem",
    "model_state",
    "read_checkpoint",
    "storable",
    "without_root",
]

_TENSORS = (torch.Tensor, torch.nn.Parameter)
_PLAIN = (type(None), bool, float, complex, str, bytes, torch.Size, torch.dtype, torch.device)
_WRAPPERS = ("module.", "_orig_mod.")
_ROOT = "model."
_MOST_VALUES = 10_000_000  # of a file with fewer bytes, each counted as often as it is referred to
_DEEPEST = 100
_LONGEST_INT = 2032  # bits; PyTorch does not read the pickle word for longer ones


def storable(value: Any, key: str, levels: int = _DEEPEST - 1) -> Any:
    """The value as it can be stored: itself, with NumPy scalars turned into Python's.

    Args:
        value: tensors and plain values in dicts, lists, tuples and sets.
        key: where it stands, for the message.
        levels: how deep it may be nested.

    Raises:
        CheckpointError: something in it could not be loaded again with ``weights_only=True``; the message
            names the key.
    """
    kind = type(value)
    if kind in _PLAIN or (kind is int and value.bit_length() <= _LONGEST_INT):
        return value
    if kind in _TENSORS and not value.is_nested:
        return _with_attributes(value, key, levels)
    if isinstance(value, np.generic) and type(item := value.item()) is not kind:
        return storable(item, key, levels)
    if kind not in (dict, OrderedDict, Counter, list, tuple, set):
        raise _refused(value, key)
    if levels <= 0:
        raise CheckpointError(f"{key:.80} is nested more than {_DEEPEST} deep, or in itself: that cannot be read again")
    if isinstance(value, dict):
        items = {k: storable(v, f"{key}[{k!r}]", levels - 1) for k, v in value.items()}
        for k in items:
            storable(k, f"a key of {key}", levels - 1)
        if all(map(is_, items.values(), value.values())):
            return _with_attributes(value, key, levels)
        return items
    members = [storable(v, f"{key}[{i}]", levels - 1) for i, v in enumerate(value)]
    return value if all(map(is_, members, value)) else kind(members)


def _with_attributes(value: Any, key: str, levels: int) -> Any:
    """The value, whose attributes (the versions in a module's state) can be stored as they are."""
    for name, item in getattr(value, "__dict__", {}).items():
        if storable(item, f"{key}.{name}", levels - 1) is not item:
            raise _refused(item, f"{key}.{name}")
    return value


def _refused(value: Any, key: str) -> CheckpointError:
    if type(value) is int:
        return CheckpointError(f"{key} is an integer of {value.bit_length()} bits, too long to be read again")
    name = f"{'nested ' if isinstance(value, torch.Tensor) else ''}{type(value).__module__}.{type(value).__qualname__}"
    return CheckpointError(
        f"{key} is a {name}, which a checkpoint cannot hold, since loading it could run code: give tensors, numbers, "
        "text, and dicts, lists and tuples of these"
    )


def checkpoint_writer(data: dict[str, Any]) -> Callable[[Any], None]:
    """A function that writes ``data`` to a file object, for `atomic_write`. Checks all of it beforehand.

    Args:
        data: the content of a checkpoint.

    Raises:
        CheckpointError: a value could not be loaded again; see `storable`.
    """
    checked = {key: storable(value, key) for key, value in data.items()}
    return lambda stream: torch.save(checked, stream)


def check_whole(path: str | Path, digests: Iterable[str] = ()) -> None:
    """Check that a file is what was saved; reads all of it.

    Args:
        path: the file.
        digests: acceptable SHA-256 digests. Without any, the checksums inside a zip archive (``.pth``) are
            checked, where it has them.

    Raises:
        CorruptCheckpointError: it is not, or unpacks to more than its own size.
        CheckpointError: it is missing, not a file or of a kind that is not read, or the system cannot read it.
    """
    if "://" in str(path):
        raise CheckpointError(f"{path} is an address, and nothing is downloaded: fetch the file and give its path")
    path = Path(path)
    if path.suffix.lower() == ".pkl":
        raise CheckpointError(f"{path} is a pickle, which can run code when loaded: convert it to .pth or .safetensors")
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise CheckpointError(f"{path} is a folder, not a checkpoint file: give a file such as model_final.pth")
        if size == 0:
            raise CorruptCheckpointError(f"{path} is empty (0 bytes)")
        expected = set(digests)
        if expected and file_digest(path) not in expected:
            raise CorruptCheckpointError(f"{path} is damaged: its content does not match the digest in the manifest")
        _check_archive(path, size, checksums=not expected)
    except FileNotFoundError:
        raise CheckpointError(f"the checkpoint file {path} does not exist{_neighbours(path)}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from error


def read_checkpoint(path: str | Path, digests: Iterable[str] = ()) -> dict[str, Any]:
    """Read a whole checkpoint file to the CPU.

    Args:
        path: a ``.pth``/``.pt`` file, or a ``.safetensors`` file, which gives ``{"model": tensors}``.
        digests: acceptable SHA-256 digests; see `check_whole`.

    Raises:
        CorruptCheckpointError: damaged, truncated, or not a checkpoint.
        CheckpointError: missing, not a file, of a kind that is not read, or holding objects that could run
            code.
    """
    check_whole(path, digests)
    data: dict[str, Any] = HostCopies().copy(map_checkpoint(path))
    return data


def map_checkpoint(path: str | Path) -> dict[str, Any]:
    """As `read_checkpoint`, of a file that was just checked, without bringing its tensors into memory where possible.

    They lie in the file then, mapped, and go with it: should somebody cut it short, even after they were changed here,
    a look at them ends the process. So they are to be copied, and let go.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".safetensors":
            return {"model": _read_safetensors(path)}
        data, size = _read_torch(path), path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from error
    if not isinstance(data, Mapping) or not all(isinstance(key, str) for key in data):
        raise CheckpointError(f"{path} holds a {type(data).__name__}, not a checkpoint (a dict with text keys)")
    _check_values(data, path, size)
    if problem := metadata_problem(data.get("metadata", {})):
        raise CheckpointError(f"{path} has a 'metadata' that no training wrote: it {problem}")
    return dict(data)


def metadata_problem(metadata: Any) -> str:
    """What is wrong with the types of what commands read and print, as the rest of a sentence; ``""`` if nothing is."""
    texts = [metadata.get(key, "") for key in ("config", "channel_order")] if isinstance(metadata, Mapping) else [None]
    names = metadata.get("class_names", ()) if isinstance(metadata, Mapping) else ()
    if isinstance(names, (list, tuple)) and all(isinstance(text, str) for text in (*texts, *names)):
        return ""
    return "must be a dict with the texts 'config' and 'channel_order' and the list of texts 'class_names'"


def model_state(data: Mapping[str, Any], source: str) -> OrderedDict[str, torch.Tensor]:
    """The model's tensors in what `read_checkpoint` returned.

    Takes the dict under ``"model"`` or ``"state_dict"``, or ``data`` itself where all its values are tensors.
    Prefixes that wrappers put in front of every name (``module.``, ``_orig_mod.``) are taken away.

    Raises:
        CheckpointError: there is no such thing in it.
    """
    state: Any = next((data[key] for key in ("model", "state_dict") if isinstance(data.get(key), Mapping)), data)
    bad = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    bad = [name for name in bad if not str(name).endswith("_extra_state")]
    if bad or not state:
        found = ", ".join(sorted(map(str, data))[:8]) or "nothing"
        raise CheckpointError(f"{source} holds no model weights: it has {found}, and no 'model' with tensors")
    prefix = ""
    while longer := next((p for p in _WRAPPERS if all(n.startswith(prefix + p) for n in state)), ""):
        prefix += longer

    def clean(name: str) -> str:
        return name.removeprefix(prefix).replace("._orig_mod.", ".")

    return _renamed(state, clean)


def without_root(state: OrderedDict[str, torch.Tensor], own: Container[str]) -> OrderedDict[str, torch.Tensor]:
    """A model's tensors under the names that it has itself, where they are those of a module that holds it.

    Args:
        state: what `model_state` returned.
        own: the names of the model's tensors.

    Returns:
        ``state``, without the prefix ``model.`` (and those of wrappers within) if all its names have it and the model
        knows some of them only without.
    """
    root = ""
    while not any(name.removeprefix(root) in own for name in state):
        longer = next((r for r in (_ROOT, *_WRAPPERS) if all(name.startswith(root + r) for name in state)), "")
        if not longer:
            return state
        root += longer
    return _renamed(state, lambda name: name.removeprefix(root)) if root else state


def _renamed(state: Mapping[str, torch.Tensor], rename: Callable[[str], str]) -> OrderedDict[str, torch.Tensor]:
    """A state under other names, with the modules' versions, by which they convert old states."""
    result = OrderedDict((rename(name), value) for name, value in state.items())
    if isinstance(versions := getattr(state, "_metadata", None), Mapping):
        result._metadata = {rename(f"{name}.")[:-1]: v for name, v in versions.items()}  # type: ignore[attr-defined]
    return result


def _check_archive(path: Path, size: int, *, checksums: bool) -> None:
    """Check that a zip archive is no bomb, and the CRC of every record; other files pass, their reader judges them."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            if sum(record.file_size for record in records) > size:  # PyTorch compresses nothing
                raise CorruptCheckpointError(
                    f"{path} unpacks to more than its own size, as no checkpoint does: refused"
                )
            if not checksums or not any(record.CRC for record in records):
                return  # none where they were switched off in PyTorch
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, UnicodeDecodeError) as error:
        raise CorruptCheckpointError(f"{path} is damaged: {error}") from error
    if broken:
        raise CorruptCheckpointError(f"{path} is damaged: the checksum of its record {broken!r} is wrong")


def _read_torch(path: Path) -> Any:
    """Load a PyTorch file as data only."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on foreign pickle protocols; the outcome is what counts
            return _load(path)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # torch.load has no error type of its own: anything from KeyError to RuntimeError
        text = " ".join(str(error).split())
        refused = isinstance(error, pickle.UnpicklingError)
        unsafe = re.search(r"(?:GLOBAL|class:?) ([A-Za-z_][\w.]*)", text) if refused else None
        if unsafe:
            raise CheckpointError(
                f"{path} holds an object of {unsafe[1]}, which could run code when loaded: refused; save tensors and "
                "plain values only"
            ) from error
        raise CorruptCheckpointError(
            f"{path} is not a checkpoint, or is truncated or damaged ({type(error).__name__}: {_short(text)})"
        ) from error


def _load(path: Path) -> Any:
    """The content, with tensors that lie in the mapped file where that can be."""
    load = partial(torch.load, map_location="cpu", weights_only=True)
    if _can_be_mapped(path):
        with contextlib.suppress(RuntimeError, UnicodeEncodeError):  # no mapping on this disk; a name not in UTF-8
            return load(path, mmap=True)
    with open(path, "rb") as file:
        return load(file)


def _can_be_mapped(path: Path) -> bool:
    """Whether a file is an archive whose records are stored as they are."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(record.compress_type == zipfile.ZIP_STORED for record in archive.infolist())


def _check_values(data: Any, path: Path, size: int) -> None:
    """Refuse a content that holds itself, is very deep, or expands without bound through values referred to twice."""
    most = max(_MOST_VALUES, size)  # a value that is referred to once takes a byte or more of the file
    known: dict[int, tuple[int, int]] = {}

    def measure(value: Any) -> tuple[int, int]:
        """How many values it is, and how deep; what holds itself is too deep."""
        if not isinstance(value, (dict, list, tuple, set)):
            return 1, 0
        if id(value) not in known:
            known[id(value)] = (0, _DEEPEST)
            below = [measure(part) for part in (value.values() if isinstance(value, dict) else value)]
            count, depth = 1 + sum(n for n, _ in below), 1 + max((d for _, d in below), default=0)
            known[id(value)] = min(count, most + 1), min(depth, _DEEPEST + 1)
        return known[id(value)]

    try:
        count, depth = measure(data)
    except RecursionError:
        depth = _DEEPEST + 1
    if depth > _DEEPEST or count > most:
        raise CheckpointError(
            f"{path} holds values that are nested more than {_DEEPEST} deep or refer to each other without end: refused"
        )


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Load a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except (SafetensorError, ValueError) as error:
        raise CorruptCheckpointError(f"{path} is not a whole safetensors file ({error})") from error


def _short(text: str) -> str:
    """The beginning of PyTorch's long messages, without its advice to switch safety off."""
    if "weights_only" in text:
        text = text.partition("WeightsUnpickler error:")[2].partition("Check the doc")[0]
    return text.strip()[:120] or "unreadable"


def _neighbours(path: Path) -> str:
    """A hint of what is there instead of a missing file."""
    if not path.parent.is_dir():
        return f" (nor does the folder {path.parent})"
    names = sorted(p.name for p in path.parent.iterdir() if p.suffix in (".pth", ".pt", ".safetensors"))[:5]
    return f"; the folder has {', '.join(names)}" if names else " and no other checkpoint is beside it"
