"""Batches on their way from a worker process: all their tensors in one block of shared memory, used again and again.

torch's ``DataLoader`` sends every tensor by itself, which takes new memory, a file descriptor and a round trip between
the processes for each: milliseconds for an image with its boxes and classes, as long as reading it takes. Here a batch
is one block, its description at the end of it, and what goes through the pipe is so small that it never fills it. The
pages of new memory are dear too (the system clears each one, and both processes have to map it), so a block is written
anew when the training has dropped all tensors of the batch that was in it.
"""

from __future__ import annotations

import io
import math
import pickle
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["BlockReader", "BlockWriter", "PackedBatch"]

_Reference = tuple[int, str, tuple[int, ...], tuple[int, ...]]  # to a tensor: offset, dtype, shape, strides

_ALIGNMENT = 64  # bytes; a tensor of any dtype may start there
_SMALL = 1 << 16  # bytes up to which a tensor is copied out, so that keeping it does not keep the whole batch
_GRAIN = 1 << 20  # bytes; blocks are multiples of this, so that batches of about one size fit into the same ones


@dataclass(frozen=True)
class PackedBatch:
    """Where a batch lies.

    Attributes:
        number: of the block, which holds all tensors' bytes, then the batch as a pickle with references to them.
        tensors: bytes before the pickle.
        end: bytes up to its end.
        block: the block, uint8 in shared memory, when it is used for the first time.
        gone: numbers of blocks that will not be used any more.
    """

    number: int
    tensors: int
    end: int
    block: Tensor | None
    gone: tuple[int, ...]


class BlockWriter:
    """The side of the worker, which owns the blocks."""

    def __init__(self) -> None:
        self._blocks: dict[int, Tensor] = {}
        self._free: list[int] = []
        self._made = 0

    def pack(self, batch: Any) -> PackedBatch:
        """Put any picklable object into a block for `BlockReader.unpack`; its plain CPU tensors go there as bytes."""
        file = io.BytesIO()
        packer = _Packer(file)
        packer.dump(batch)
        description = torch.frombuffer(file.getbuffer(), dtype=torch.uint8)
        end = packer.size + len(description)
        number, is_new, gone = self._take(end)
        block = self._blocks[number]
        for offset, strides, tensor in packer.tensors:
            _placed(block, offset, tensor.dtype, tensor.shape, strides).copy_(tensor)
        block[packer.size : end] = description
        return PackedBatch(number, packer.size, end, block if is_new else None, gone)

    def release(self, numbers: Iterable[int]) -> None:
        """Take back blocks whose batches nobody uses any more."""
        self._free.extend(numbers)

    def _take(self, size: int) -> tuple[int, bool, tuple[int, ...]]:
        """A block of at least ``size`` bytes: the smallest free one, or a new one in place of those that are free."""
        fitting = [number for number in self._free if len(self._blocks[number]) >= size]
        if fitting:
            number = min(fitting, key=lambda n: len(self._blocks[n]))
            self._free.remove(number)
            return number, False, ()
        gone, self._free = tuple(self._free), []
        for number in gone:
            del self._blocks[number]
        number, self._made = self._made, self._made + 1
        # As torch's own default_collate does in workers.
        storage = torch.UntypedStorage._new_shared(-(-size // _GRAIN) * _GRAIN)  # type: ignore[no-untyped-call]
        self._blocks[number] = torch.empty(0, dtype=torch.uint8).set_(storage)
        return number, True, gone


class BlockReader:
    """The side of the training: unpacks the batches of one worker, and notes which blocks are free again."""

    def __init__(self) -> None:
        self._blocks: dict[int, Tensor] = {}
        self._released: deque[int] = deque()

    def unpack(self, packed: PackedBatch) -> Any:
        """The batch that was packed.

        Its large tensors are views of the block. In a process that uses CUDA they are copies in pinned memory, from
        which they go to the device while the training goes on; torch keeps such memory for as long as the device reads.
        """
        base = self._view(packed)
        description = base[packed.tensors : packed.end].numpy().tobytes()
        pinned = packed.tensors > 0 and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
        if pinned:
            base = torch.empty(packed.tensors, dtype=torch.uint8, pin_memory=True).copy_(base[: packed.tensors])
        # The pickle comes from a process that this one started, as everything of a DataLoader's does.
        return _Unpacker(description, base, pinned).load()

    def drop(self, packed: PackedBatch) -> None:
        """Take note of a batch that nobody wants."""
        self._view(packed)

    def released(self) -> list[int]:
        """The numbers of the blocks that became free since the last call, for `BlockWriter.release`."""
        return [self._released.popleft() for _ in range(len(self._released))]

    def _view(self, packed: PackedBatch) -> Tensor:
        """The block of a batch, such that it is noted when the last tensor that is a view of it is gone."""
        if packed.block is not None:
            self._blocks[packed.number] = packed.block
        for number in packed.gone:
            del self._blocks[number]
        memory = self._blocks[packed.number].numpy()  # a new array each time, which the tensor of it keeps
        weakref.finalize(memory, self._released.append, packed.number).atexit = False
        return torch.from_numpy(memory)


class _Packer(pickle.Pickler):
    """Writes tensors as references (offset, dtype, shape, strides) into a block, and notes what has to be put there."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.tensors: list[tuple[int, tuple[int, ...], Tensor]] = []  # with offset and strides
        self.size = 0

    def persistent_id(self, obj: Any) -> _Reference | None:
        """The reference that is written in place of ``obj``; None to write it as usual."""
        if type(obj) is not Tensor or obj.device.type != "cpu" or obj.layout != torch.strided or obj.requires_grad:
            return None
        if obj.is_complex() or obj.is_quantized or obj.nbytes == 0:
            return None
        offset, strides = -(-self.size // _ALIGNMENT) * _ALIGNMENT, _strides(obj)
        self.tensors.append((offset, strides, obj))
        self.size = offset + obj.nbytes
        return offset, str(obj.dtype).removeprefix("torch."), tuple(obj.shape), strides


class _Unpacker(pickle.Unpickler):
    """Reads what `_Packer` wrote."""

    def __init__(self, description: bytes, base: Tensor, pinned: bool) -> None:
        super().__init__(io.BytesIO(description))
        self._base, self._pinned = base, pinned

    def persistent_load(self, pid: _Reference) -> Tensor:
        """The tensor that a reference stands for."""
        offset, name, shape, strides = pid
        tensor = _placed(self._base, offset, getattr(torch, name), shape, strides)
        if tensor.nbytes > _SMALL:
            return tensor
        return torch.empty_like(tensor, pin_memory=self._pinned).copy_(tensor)


def _placed(block: Tensor, offset: int, dtype: torch.dtype, shape: Sequence[int], strides: Sequence[int]) -> Tensor:
    """The view of a block (bytes) as the tensor that lies there."""
    return block[offset : offset + math.prod(shape) * dtype.itemsize].view(dtype).as_strided(shape, strides)


def _strides(tensor: Tensor) -> tuple[int, ...]:
    """Those of a copy with its dimensions in the same order in memory, without gaps."""
    return (tensor if tensor.is_contiguous() else torch.empty_like(tensor, device="meta")).stride()
