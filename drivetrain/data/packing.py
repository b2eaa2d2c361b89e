"""Batches on their way from a worker process: all their tensors in one block of shared memory.

torch's ``DataLoader`` sends every tensor by itself, which takes a file descriptor and a round trip between the
processes for each: milliseconds for an image with its boxes and classes, as long as reading it takes, and with many
tensors more descriptors than a process may have. Here a batch is one block, its description at the end of it: what
goes through the pipe is so small that it never fills it, and nobody waits.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["PackedBatch", "pack", "unpack"]

_ALIGNMENT = 64  # bytes; a tensor of any dtype may start there
_SMALL = 1 << 16  # bytes up to which a tensor is copied out, so that keeping it does not keep the whole batch


@dataclass(frozen=True)
class PackedBatch:
    """A batch in shared memory.

    Attributes:
        block: all tensors' bytes, then the batch as a pickle with a reference for each tensor; uint8, (N,).
        tensors: bytes before the pickle.
    """

    block: Tensor
    tensors: int


def pack(batch: Any) -> PackedBatch:
    """Pack any picklable object for `unpack` in another process; its plain CPU tensors go into one shared block."""
    file = io.BytesIO()
    packer = _Packer(file)
    packer.dump(batch)
    description = torch.frombuffer(file.getbuffer(), dtype=torch.uint8)
    # As torch's own default_collate does in workers.
    storage = torch.UntypedStorage._new_shared(packer.size + len(description))  # type: ignore[no-untyped-call]
    block = torch.empty(0, dtype=torch.uint8).set_(storage)
    for offset, tensor in packer.tensors:
        block[offset : offset + tensor.nbytes].view(tensor.dtype).copy_(tensor.reshape(-1))
    block[packer.size :] = description
    return PackedBatch(block, packer.size)


def unpack(packed: PackedBatch) -> Any:
    """The batch that was packed; its large tensors are views of the block."""
    # The pickle comes from a process that this one started, as everything of a DataLoader's does.
    return _Unpacker(packed.block[packed.tensors :].numpy().tobytes(), packed.block).load()


class _Packer(pickle.Pickler):
    """Writes tensors as references (offset, dtype, shape) into a block, and notes what has to be put there."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.tensors: list[tuple[int, Tensor]] = []
        self.size = 0

    def persistent_id(self, obj: Any) -> tuple[int, str, tuple[int, ...]] | None:
        """The reference that is written in place of ``obj``; None to write it as usual."""
        if type(obj) is not Tensor or obj.device.type != "cpu" or obj.layout != torch.strided or obj.requires_grad:
            return None
        if obj.is_complex() or obj.is_quantized or obj.nbytes == 0:
            return None
        offset = -(-self.size // _ALIGNMENT) * _ALIGNMENT
        self.tensors.append((offset, obj))
        self.size = offset + obj.nbytes
        return offset, str(obj.dtype).removeprefix("torch."), tuple(obj.shape)


class _Unpacker(pickle.Unpickler):
    """Reads what `_Packer` wrote."""

    def __init__(self, description: bytes, block: Tensor) -> None:
        super().__init__(io.BytesIO(description))
        self._block = block

    def persistent_load(self, pid: tuple[int, str, tuple[int, ...]]) -> Tensor:
        """The tensor that a reference stands for."""
        offset, name, shape = pid
        dtype: torch.dtype = getattr(torch, name)
        size = dtype.itemsize
        for side in shape:
            size *= side
        tensor = self._block[offset : offset + size].view(dtype).reshape(shape)
        return tensor.clone() if size <= _SMALL else tensor
