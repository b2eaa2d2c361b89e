"""Copies of states in host memory, which a training that goes on does not change."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from typing import Any

import torch

__all__ = ["HostCopies"]

_Pool = defaultdict[tuple[int, bool], list[torch.UntypedStorage]]


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
        work = _Copying(self._memory)
        copied = work.copy(value)
        for device in work.devices:
            torch.cuda.synchronize(device)
        self._memory = work.used
        return copied


class _Copying:
    """One copy.

    Args:
        free: memory to take from.
    """

    def __init__(self, free: _Pool) -> None:
        self.free = free
        self.used = _Pool(list)
        self.devices: set[torch.device] = set()
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
            copied = torch.empty(0, dtype=tensor.dtype).set_(self._storage(tensor.untyped_storage()), *place)
        else:
            copied = tensor.detach().to("cpu", copy=True)
        if isinstance(tensor, torch.nn.Parameter):
            return torch.nn.Parameter(copied, tensor.requires_grad)
        return copied.requires_grad_(tensor.requires_grad)

    def _storage(self, source: torch.UntypedStorage) -> torch.UntypedStorage:
        """The copy of a tensor's memory, made when first asked for."""
        if source._cdata in self._copied:
            return self._copied[source._cdata]
        on_cuda = source.device.type == "cuda"
        free = self.free[source.nbytes(), on_cuda]
        target = free.pop() if free else _host_memory(source.nbytes(), on_cuda)
        target.copy_(source, non_blocking=on_cuda)
        if on_cuda:
            self.devices.add(source.device)
        self.used[source.nbytes(), on_cuda].append(target)
        self._copied[source._cdata] = target
        return target


def _host_memory(size: int, pinned: bool) -> torch.UntypedStorage:
    return torch.empty(size, dtype=torch.uint8, pin_memory=pinned).untyped_storage()
