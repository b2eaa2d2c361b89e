"""Joining the processes that torchrun, Slurm or the like started."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import torch
import torch.distributed as dist

from drivetrain.errors import LaunchError
from drivetrain.runtime import comm

__all__ = ["Cluster", "find_cluster", "group_machines", "join"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """This process' place among processes that something else started.

    Attributes:
        kind: ``"torchrun"`` or ``"slurm"``.
        rank, world_size: among all processes.
        local_rank, local_size: on this machine.
        address: where rank 0 listens; None where PyTorch's own ``env://`` knows.
    """

    kind: str
    rank: int
    world_size: int
    local_rank: int
    local_size: int
    address: tuple[str, int] | None = None


def find_cluster(
    environ: Mapping[str, str], num_gpus: int = 1, num_machines: int = 1, dist_url: str | None = None
) -> Cluster | None:
    """The processes described by environment variables; None where there are none, or one launcher per machine.

    torchrun (and those that imitate it) sets ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, ``MASTER_ADDR`` and
    ``MASTER_PORT``. ``srun`` sets ``SLURM_PROCID``, ``SLURM_LOCALID`` and, only in processes that it started
    itself, ``SLURM_STEP_NUM_TASKS``.

    Args:
        environ: the environment.
        num_gpus, num_machines, dist_url: as `launch` got them.

    Raises:
        LaunchError: the variables contradict each other or the request.
    """
    if {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} <= environ.keys():
        return _torchrun(environ, num_gpus, num_machines)
    if environ.get("SLURM_STEP_NUM_TASKS", "") not in ("", "0", "1") and "SLURM_PROCID" in environ:
        return _slurm(environ, num_gpus, num_machines, dist_url)
    return None


def join(cluster: Cluster, main_func: Callable[..., Any], args: tuple[Any, ...], timeout: timedelta) -> Any:
    """Make the process group with the others, run the function, and leave the group.

    Returns:
        What the function returned, on every rank.

    Raises:
        LaunchError: this machine has fewer GPUs than processes.
    """
    if cluster.world_size == 1:
        return main_func(*args)
    backend = "gloo"
    if torch.cuda.is_available():
        if cluster.local_rank >= torch.cuda.device_count():
            raise LaunchError(
                f"{cluster.kind} started {cluster.local_size} processes on this machine, which shows "
                f"{torch.cuda.device_count()} GPUs: start one process per GPU"
            )
        torch.cuda.set_device(cluster.local_rank)
        backend = "nccl"
    _logger.info("Joining %d processes started by %s as rank %d", cluster.world_size, cluster.kind, cluster.rank)
    if cluster.address is None:
        dist.init_process_group(backend, init_method="env://", timeout=timeout)
    else:
        from drivetrain.engine._agent import tcp_store

        store = tcp_store(*cluster.address, serves=cluster.rank == 0, timeout=timeout)
        dist.init_process_group(backend, store=store, rank=cluster.rank, world_size=cluster.world_size, timeout=timeout)
    group_machines(cluster.local_size)
    from torch.distributed.elastic.multiprocessing.errors import record

    result = record(main_func)(*args)  # lets torchrun show this process' traceback, not its exit code alone
    dist.destroy_process_group()
    return result


def group_machines(processes: int) -> None:
    """Make the groups of processes of each machine, and wait for all.

    Args:
        processes: how many were started on this machine.

    Raises:
        LaunchError: it is another number elsewhere.
    """
    numbers = sorted(set(comm.all_gather(processes)))
    if len(numbers) > 1:
        raise LaunchError(
            f"different numbers of processes were started on the machines ({', '.join(map(str, numbers))}): start the "
            "same number on each"
        )
    comm.create_local_process_group(processes)
    comm.synchronize()


def _torchrun(environ: Mapping[str, str], num_gpus: int, num_machines: int) -> Cluster:
    """What torchrun's variables say; they win over the request."""
    try:
        world, rank, local = (int(environ[key]) for key in ("WORLD_SIZE", "RANK", "LOCAL_RANK"))
        local_size = int(environ.get("LOCAL_WORLD_SIZE", world))
    except ValueError:
        raise LaunchError("RANK, WORLD_SIZE, LOCAL_RANK or LOCAL_WORLD_SIZE in the environment is no number") from None
    if not (0 <= rank < world and 0 <= local < local_size <= world):
        raise LaunchError(
            f"the environment says RANK={rank} WORLD_SIZE={world} LOCAL_RANK={local} LOCAL_WORLD_SIZE={local_size}, "
            "which cannot be: unset them, or start with torchrun"
        )
    asked = num_gpus * num_machines
    if asked > 1 and world not in (asked, num_machines * local_size):
        _logger.warning("%d processes were asked for; torchrun started %d, which are used", asked, world)
    return Cluster("torchrun", rank, world, local, local_size)


def _slurm(environ: Mapping[str, str], num_gpus: int, num_machines: int, dist_url: str | None) -> Cluster | None:
    """What srun's variables say, if it started one process per GPU and not one launcher per machine."""
    try:
        world, rank = int(environ["SLURM_STEP_NUM_TASKS"]), int(environ["SLURM_PROCID"])
        local = int(environ.get("SLURM_LOCALID", "0"))
        nodes = int(environ.get("SLURM_STEP_NUM_NODES", environ.get("SLURM_NNODES", "1")))
    except ValueError:
        raise LaunchError(
            "SLURM_PROCID, SLURM_LOCALID, SLURM_STEP_NUM_TASKS or SLURM_STEP_NUM_NODES in the environment is no number"
        ) from None
    asked = num_gpus * num_machines
    if asked not in (0, 1, world):
        if num_machines == world:
            return None  # srun started one launcher per machine
        raise LaunchError(
            f"srun started {world} processes and {num_machines} x {num_gpus} were asked for: use srun "
            f"--ntasks={asked}, or leave --num-gpus and --num-machines away"
        )
    local_size = world // max(nodes, 1)
    if world % max(nodes, 1) or rank % local_size != local:
        raise LaunchError(
            f"srun placed {world} processes unevenly on {nodes} machines (rank {rank} is number {local} on its "
            "machine): use --ntasks-per-node and --distribution=block"
        )
    return Cluster("slurm", rank, world, local, local_size, _slurm_address(environ, nodes, dist_url))


def _slurm_address(environ: Mapping[str, str], nodes: int, dist_url: str | None) -> tuple[str, int]:
    """Where the processes meet: as asked, or the job's first machine and a port drawn from the job's number."""
    if dist_url and dist_url.startswith("tcp://"):
        url = urlsplit(dist_url)
        if url.hostname and url.port:
            return url.hostname, url.port
    job = int(re.sub(r"\D", "", environ.get("SLURM_JOB_ID", "0")) or 0)
    step = int(re.sub(r"\D", "", environ.get("SLURM_STEP_ID", "0")) or 0)
    try:
        port = int(environ.get("MASTER_PORT", 20000 + (job * 31 + step) % 10000))
    except ValueError:
        raise LaunchError(f"MASTER_PORT is {environ['MASTER_PORT']!r}, which is no number: unset it") from None
    if nodes == 1:
        return "127.0.0.1", port
    hosts = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "")
    host = environ.get("MASTER_ADDR") or first_host(hosts)
    if not host:
        raise LaunchError("SLURM_STEP_NODELIST is not set: give --dist-url tcp://HOST:PORT of the first machine")
    return host, port


def first_host(nodes: str) -> str:
    """The first machine in Slurm's notation: ``"gpu[03-05,9],cpu1"`` gives ``"gpu03"``."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes.strip())
    return re.sub(r"\[([^,\-\]]+)[^\]]*\]", r"\1", first[0]) if first else ""
