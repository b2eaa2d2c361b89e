"""What runs inside each process that `launch` starts."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import pickle
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from drivetrain.checkpoint.background import wait_for_saves
from drivetrain.engine._cluster import group_machines
from drivetrain.engine.hooks.shared_folder import Occupancy

__all__ = ["WorkerPlan", "returned", "run_worker"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerPlan:
    """What a started process has to know.

    Attributes:
        folder: the launch's private folder on this machine; has ``attempt``, and gets results and error reports.
        address: where the machines meet; None on one machine, whose processes meet at a file in the folder.
        loopback: whether all processes are on this machine.
        gpus: whether each process takes a GPU.
        processes: how many on each machine.
        timeout: of collective operations.
    """

    folder: str
    address: tuple[str, int] | None
    loopback: bool
    gpus: bool
    processes: int
    timeout: timedelta


def run_worker(plan: WorkerPlan, main_func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Join the others, run the function, and leave a result or an error report for the launching process.

    The result is there before the interpreter ends, whose end may go wrong: threads of gloo, and libraries that
    register something to be done then, are known to abort a process that has finished its work.
    """
    rank = int(os.environ["RANK"])
    attempt = (Path(plan.folder) / "attempt").read_text()
    occupancy = Occupancy(plan.folder)
    _end_with_parent()
    result = None
    try:
        _join(plan, rank, attempt)
        result = main_func(*args)
        dist.destroy_process_group()
    except SystemExit as error:
        if error.code not in (None, 0):
            _report(plan, rank, attempt, error)
            raise
    except Exception as error:
        _report(plan, rank, attempt, error)
        raise
    wait_for_saves()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a console that is gone
            stream.flush()
    _leave(_result_file(plan.folder, attempt, rank), _encode(result) if rank == 0 else b"")
    occupancy.end()


def returned(folder: str | Path, attempt: int, ranks: Iterable[int]) -> bytes | None:
    """What ranks of this machine left when their function had returned.

    Args:
        folder: the launch's private folder.
        attempt: the attempt.
        ranks: their global ranks.

    Returns:
        The pickled value if rank 0 is among them, else ``b""``; None while one of them has not returned.
    """
    files = [_result_file(folder, attempt, rank) for rank in ranks]
    return b"".join(file.read_bytes() for file in files) if all(file.exists() for file in files) else None


def _result_file(folder: str | Path, attempt: int | str, rank: int) -> Path:
    return Path(folder) / f"result-{attempt}-{rank}"


def _leave(path: Path, content: bytes) -> None:
    """Write a file that is whole when it has its name."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    temporary.rename(path)


def _join(plan: WorkerPlan, rank: int, attempt: str) -> None:
    """Make the process group and the group of this machine; take the GPU."""
    if plan.loopback:
        names = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            if names:
                os.environ.setdefault(variable, names[0])
    if plan.gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // plan.processes))
    world = int(os.environ["WORLD_SIZE"])
    c10d: Any = dist  # whose stores torch does not declare
    if plan.address is None:
        store: Any = c10d.FileStore(str(Path(plan.folder) / f"group{attempt}"), world)
    else:
        from drivetrain.engine._agent import tcp_store

        store = c10d.PrefixStore(f"group{attempt}", tcp_store(*plan.address, serves=False, timeout=plan.timeout))
    backend = "nccl" if plan.gpus else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=plan.timeout)
    group_machines(plan.processes)


def _report(plan: WorkerPlan, rank: int, attempt: str, error: BaseException) -> None:
    """Leave type, message, time and traceback of an error in the private folder."""
    data = {
        "rank": rank,
        "time": time.time(),
        "module": type(error).__module__,
        "type": type(error).__qualname__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
        "exit_code": error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else None,
    }
    _leave(Path(plan.folder) / f"error-{attempt}-{rank}.json", json.dumps(data).encode())


def _encode(result: Any) -> bytes:
    """The return value for the launching process; what cannot be sent must not fail a training that is over."""
    try:
        return pickle.dumps(result)
    except Exception as error:  # objects may raise anything while they are pickled
        _logger.warning(
            "launch() returns None: the %s that was returned cannot be sent between processes (%s)",
            type(result).__name__,
            error,
        )
        return pickle.dumps(None)


def _end_with_parent() -> None:
    """End this process soon after the launching one is gone (killed), which could not tell it to."""
    launcher = multiprocessing.parent_process()
    parent = os.getppid() if launcher is None else launcher.pid  # it may have gone while modules were imported

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
