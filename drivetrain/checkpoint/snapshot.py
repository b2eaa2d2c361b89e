"""Copies of states in host memory, which a training that goes on does not change."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Collection
from typing import Any

import numpy as np
import torch

__all__ = ["HostCopies", "HostCopy"]

_Pool = defaultdict[tuple[int, bool], list[torch.UntypedStorage]]
_Pairs = list[tuple[torch.UntypedStorage, torch.UntypedStorage]]


class HostCopies:
    """Copies states to host memory, which it keeps and uses again: fresh memory costs more time than the copy.

    The memory of accelerators' tensors is pinned, where there is such a thing.
    """

    def __init__(self) -> None:
        self._memory = _Pool(list)

    def copy(self, value: Any) -> Any:
        """A copy of everything in ``value`` that can change; it holds until the next call, which overwrites it.

        Tensors that share memory share it in the copy too, so that a file of it is no larger.

        Args:
            value: what `storable` lets pass: tensors and plain values in dicts, lists, tuples and sets.
        """
        return self.begin(value).value

    def begin(self, value: Any, later: Collection[int] = (), *, at_once: bool = False) -> HostCopy:
        """As `copy`, but leave out what need not be copied at once.

        Args:
            value: as for `copy`.
            later: the memory that `HostCopy.finish` is to copy: the ``_cdata`` of storages on the CPU or on CUDA.
            at_once: copy that too, and only watch it.
        """
        work = _Copying(self._memory, later)
        copied = work.copy(value)
        if at_once:
            _copy_now(work.later)
        for device in _cuda_devices(work.now) | (_cuda_devices(work.later) if at_once else set()):
            torch.cuda.current_stream(device).synchronize()
        self._memory = work.used
        return HostCopy(copied, work.later, work.watched, pending=bool(work.later) and not at_once)


class HostCopy:
    """A copy of a state, a part of which may still be under way.

    Whether that part's originals were left alone meanwhile is told by what PyTorch counts: each change of a tensor in
    place moves its version, by which autograd, too, finds tensors that were changed under it. Changes behind PyTorch's
    back (through ``Tensor.data`` or a NumPy view) do not move it.

    Args:
        value: the copy, incomplete as long as a part of it is pending.
        pairs: (copy, original) of the memory to copy later, or to watch.
        watched: the originals' tensors and their versions.
        pending: whether ``pairs`` is still to be copied.
    """

    def __init__(self, value: Any, pairs: _Pairs, watched: list[tuple[torch.Tensor, int]], *, pending: bool) -> None:
        self.value = value
        self.pending = pending
        self._pairs = pairs
        self._watched = watched
        self._verdict: bool | None = None
        self._judging = threading.Lock()
        self._done = threading.Event()
        self._events = _copy_beside(pairs) if pending else []
        if not pending:
            self._done.set()

    def finish(self) -> None:
        """Copy what is left; for the thread that writes."""
        try:
            if self.pending:
                for target, source in self._pairs:
                    if source.device.type == "cpu":
                        np.copyto(_as_numbers(target).numpy(), _as_numbers(source).numpy())  # one core, without the GIL
                for _, event in self._events:
                    event.synchronize()
        finally:
            self._done.set()

    def wait(self) -> bool:
        """Return when the originals may be changed: True if they were not until now.

        For the thread that changes them. The CPU does not wait for what a device copies, the device does.
        """
        for device, event in self._events:
            torch.cuda.current_stream(device).wait_event(event)
        if any(source.device.type == "cpu" for _, source in self._pairs):
            self._done.wait()
        return self.intact()

    def intact(self) -> bool:
        """Whether the originals had the versions of the beginning when this, or `wait`, was first called."""
        with self._judging:
            if self._verdict is None:
                self._verdict = all(tensor._version == version for tensor, version in self._watched)
                self._watched = []
            return self._verdict

    def is_current(self) -> bool:
        """Whether the originals that are watched are still equal to the copy, bit for bit; reads all of them."""
        return all(torch.equal(_as_numbers(a), _as_numbers(b).to("cpu")) for a, b in self._pairs)


class _Copying:
    """One copy.

    Args:
        free: memory to take from.
        later: the storages whose content is not copied here, by ``_cdata``.
    """

    def __init__(self, free: _Pool, later: Collection[int] = ()) -> None:
        self.free = free
        self.used = _Pool(list)
        self.now: _Pairs = []
        self.later: _Pairs = []
        self.watched: list[tuple[torch.Tensor, int]] = []
        self._left_out = later
        self._copied: dict[int, torch.UntypedStorage] = {}

    def copy(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if kind in (dict, OrderedDict, Counter):
            copied: Any = kind()
            for key, item in value.items():
                copied[key] = self.copy(item)
            for name, item in getattr(value, "__dict__", {}).items():  # the versions in a module's state
                setattr(copied, name, self.copy(item))
            return copied
        if kind in (list, tuple, set):
            return kind(self.copy(item) for item in value)
        return value

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_meta:
            return tensor
        if tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg()):
            place = (tensor.storage_offset(), tensor.size(), tensor.stride())
            source = tensor.untyped_storage()
            if source._cdata in self._left_out:
                self.watched.append((tensor, tensor._version))
            copied = torch.empty(0, dtype=tensor.dtype).set_(self._storage(source), *place)
        else:
            copied = tensor.detach().to("cpu", copy=True)
        if isinstance(tensor, torch.nn.Parameter):
            return torch.nn.Parameter(copied, tensor.requires_grad)
        return copied.requires_grad_(tensor.requires_grad)

    def _storage(self, source: torch.UntypedStorage) -> torch.UntypedStorage:
        """The copy of a tensor's memory, made when first asked for."""
        if source._cdata in self._copied:
            return self._copied[source._cdata]
        key = source.nbytes(), source.device.type == "cuda"
        free = self.free[key]
        target = free.pop() if free else _host_memory(*key)
        if source._cdata in self._left_out:
            self.later.append((target, source))
        else:
            self.now.append((target, source))
            _copy_now([(target, source)])
        self.used[key].append(target)
        self._copied[source._cdata] = target
        return target


def _host_memory(size: int, pinned: bool) -> torch.UntypedStorage:
    return torch.empty(size, dtype=torch.uint8, pin_memory=pinned).untyped_storage()


def _copy_now(pairs: _Pairs) -> None:
    """Copy, or enqueue the copy on the device's current stream."""
    for target, source in pairs:
        target.copy_(source, non_blocking=source.device.type == "cuda")


def _copy_beside(pairs: _Pairs) -> list[tuple[torch.device, torch.cuda.Event]]:
    """Enqueue the copies of what lies on CUDA devices on streams of their own, behind what is enqueued already.

    Returns:
        For each device the event of its last copy.
    """
    events = []
    for device in _cuda_devices(pairs):
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            _copy_now([pair for pair in pairs if pair[1].device == device])
        events.append((device, stream.record_event()))
    return events


def _cuda_devices(pairs: _Pairs) -> set[torch.device]:
    return {source.device for _, source in pairs if source.device.type == "cuda"}


def _as_numbers(storage: torch.UntypedStorage) -> torch.Tensor:
    """The content of a storage as integers, as long ones as fit."""
    dtype = torch.int64 if storage.nbytes() % 8 == 0 else torch.uint8
    return torch.empty(0, dtype=dtype, device=storage.device).set_(storage)
