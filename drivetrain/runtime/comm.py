"""Communication between the processes of one training; every function also works without a process group.

What travels is tensors and plain values (numbers, strings, lists, tuples, dicts, None), encoded with
``torch.save`` and decoded with ``weights_only=True``: nothing that another rank sends can run code.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.distributed as dist

__all__ = [
    "all_gather",
    "create_local_process_group",
    "gather",
    "get_local_rank",
    "get_local_size",
    "get_rank",
    "get_world_size",
    "is_main_process",
    "reduce_dict",
    "shared_random_seed",
    "synchronize",
]


def _initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of processes in this training (1 without a process group)."""
    return dist.get_world_size() if _initialized() else 1


def get_rank() -> int:
    """Index of this process over all machines, from 0."""
    return dist.get_rank() if _initialized() else 0


def get_local_rank() -> int:
    """Index of this process on its machine, from 0 (``LOCAL_RANK``, as torchrun and ``launch`` set it)."""
    return int(os.environ.get("LOCAL_RANK", get_rank())) if _initialized() else 0


def get_local_size() -> int:
    """Number of processes on this machine (``LOCAL_WORLD_SIZE``)."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", get_world_size())) if _initialized() else 1


def is_main_process() -> bool:
    """True on rank 0, the one that writes files."""
    return get_rank() == 0


def create_local_process_group(num_workers_per_machine: int) -> dist.ProcessGroup:
    """Make one process group per machine, assuming ranks are numbered machine by machine.

    Every rank must call it. Also sets ``LOCAL_RANK`` and ``LOCAL_WORLD_SIZE`` for :func:`get_local_rank`.

    Returns:
        The group of this process's machine.
    """
    world, rank = get_world_size(), get_rank()
    if num_workers_per_machine < 1 or world % num_workers_per_machine:
        raise ValueError(f"{world} processes cannot be split into machines of {num_workers_per_machine}")
    own: Any = None
    for first in range(0, world, num_workers_per_machine):
        members = list(range(first, first + num_workers_per_machine))
        group = dist.new_group(members)
        if rank in members:
            own = group
    os.environ["LOCAL_RANK"] = str(rank % num_workers_per_machine)
    os.environ["LOCAL_WORLD_SIZE"] = str(num_workers_per_machine)
    return cast(dist.ProcessGroup, own)


def synchronize() -> None:
    """Wait until every process has arrived here."""
    if get_world_size() == 1:
        return
    if dist.get_backend() == dist.Backend.NCCL:
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()


def _device() -> torch.device:
    """Where tensors have to lie for the collectives of the current backend."""
    if dist.get_backend() == dist.Backend.NCCL:
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _encode(value: Any) -> torch.Tensor:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return torch.frombuffer(bytearray(buffer.getbuffer()), dtype=torch.uint8).to(_device())


def _decode(data: torch.Tensor) -> Any:
    return torch.load(io.BytesIO(data.cpu().numpy().tobytes()), map_location="cpu", weights_only=True)


def all_gather(data: Any) -> list[Any]:
    """Collect one value from every rank, on every rank.

    Args:
        data: tensors and plain values, nested as you like; tensors arrive on the CPU.

    Returns:
        The values, in the order of ranks.
    """
    world = get_world_size()
    if world == 1:
        return [data]
    local = _encode(data)
    sizes = [torch.zeros(1, dtype=torch.int64, device=local.device) for _ in range(world)]
    dist.all_gather(sizes, torch.tensor([local.numel()], dtype=torch.int64, device=local.device))
    lengths = [int(s) for s in sizes]
    padded = torch.zeros(max(lengths), dtype=torch.uint8, device=local.device)
    padded[: local.numel()] = local
    chunks = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(chunks, padded)
    return [_decode(chunk[:length]) for chunk, length in zip(chunks, lengths, strict=True)]


def gather(data: Any, dst: int = 0) -> list[Any]:
    """Collect one value from every rank on rank ``dst``; the other ranks get an empty list.

    The values go over one at a time, so that ``dst`` never holds more than the sum of what was sent.
    """
    world, rank = get_world_size(), get_rank()
    if world == 1:
        return [data]
    local = _encode(data)
    sizes = [torch.zeros(1, dtype=torch.int64, device=local.device) for _ in range(world)]
    dist.all_gather(sizes, torch.tensor([local.numel()], dtype=torch.int64, device=local.device))
    if rank != dst:
        dist.send(local, dst)
        return []
    values: list[Any] = []
    for source in range(world):
        if source == dst:
            values.append(_decode(local))
            continue
        buffer = torch.empty(int(sizes[source]), dtype=torch.uint8, device=local.device)
        dist.recv(buffer, source)
        values.append(_decode(buffer))
    return values


def shared_random_seed() -> int:
    """A random seed in [0, 2**31) that is the same on every rank; all ranks must call it together."""
    own = int.from_bytes(os.urandom(4), "little") >> 1
    return int(all_gather(own)[0])


def reduce_dict(input_dict: Mapping[str, torch.Tensor], average: bool = True) -> dict[str, torch.Tensor]:
    """Sum (or average) scalar tensors over ranks; rank 0 holds the result, the others an unspecified one.

    Args:
        input_dict: name -> scalar tensor, with the same names on every rank.
        average: divide by the number of ranks.

    Returns:
        A dict with the same names; the input itself when there is one process.
    """
    world = get_world_size()
    if world == 1 or not input_dict:
        return dict(input_dict)
    names = sorted(input_dict)
    values = torch.stack([input_dict[name].detach() for name in names])
    dist.reduce(values, dst=0)
    if average and get_rank() == 0:
        values = values / world
    return dict(zip(names, values, strict=True))
