"""Starting the processes of a training, on one machine or several, or joining those that a cluster started.

The processes are looked after by ``torch.distributed.elastic``: it starts them, ends all when one fails, and
starts them again if asked to. They are spawned (fresh interpreters), not forked: a fork of a process that has
used threads or a GPU can hang, and forked processes would share this one's random numbers and open files. The
price is that each imports PyTorch anew, a few seconds, all at the same time.

On one machine nothing listens on a port that others can reach: the processes find each other through a file
in a private folder and talk over the loopback interface. With several machines, machine 0 listens at the
address asked for.
"""

from __future__ import annotations

import inspect
import logging
import multiprocessing
import os
import pickle
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import torch
import torch.distributed as dist

from drivetrain.errors import LaunchError

__all__ = ["DEFAULT_TIMEOUT", "launch"]

DEFAULT_TIMEOUT = timedelta(minutes=30)

_logger = logging.getLogger(__name__)


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple[Any, ...] = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
    *,
    max_restarts: int = 0,
) -> Any:
    """Run ``main_func(*args)`` in every process of a training.

    With one process in all, it is a plain call here. With more, ``num_gpus_per_machine`` processes are
    started on this machine; each joins the process group (NCCL, or gloo on a machine without GPUs, where a
    "GPU" is a process), takes its GPU, and knows the processes of its machine. Where torchrun, Slurm's
    ``srun`` or another engine already started the processes, this one joins them and starts none.

    Args:
        main_func: a function at the top level of a module.
        num_gpus_per_machine: processes on each machine; 0 or 1 with one machine is a plain call.
        num_machines: how many machines; run the same command on each.
        machine_rank: which one this is, from 0.
        dist_url: ``tcp://HOST:PORT`` of machine 0. On one machine not needed (None or ``"auto"``).
        args: the function's arguments, a tuple.
        timeout: how long a collective operation, and the meeting of the machines, may take.
        max_restarts: how often all processes are started again after one failed. ``main_func`` has to
            continue from its last checkpoint by itself.

    Returns:
        What ``main_func`` returned on rank 0; None on the other machines.

    Raises:
        LaunchError: something about the request is wrong; found before any process is started.
        UserInputError: (or a subclass) as a process raised it, with that process' traceback as its cause.
        TrainingError: a process failed in another way; the message names the first rank that did and has its
            whole traceback.
    """
    _check_request(main_func, num_gpus_per_machine, num_machines, machine_rank, args, timeout, max_restarts)
    if dist.is_available() and dist.is_initialized():
        return main_func(*args)  # an engine such as Ray made the group, or this is within a launched process
    from drivetrain.engine._cluster import find_cluster, join

    cluster = find_cluster(os.environ, num_gpus_per_machine, num_machines, dist_url)
    if cluster is not None:
        return join(cluster, main_func, args, timeout)
    if num_gpus_per_machine <= 1 and num_machines == 1:
        return main_func(*args)
    address = _check_address(dist_url, num_machines)
    _check_devices(num_gpus_per_machine, num_machines)
    _check_can_spawn(main_func, args)
    from drivetrain.engine._agent import run_processes

    return run_processes(
        main_func,
        args,
        processes=num_gpus_per_machine,
        machines=num_machines,
        machine_rank=machine_rank,
        address=address,
        timeout=timeout,
        max_restarts=max_restarts,
    )


def _check_request(
    main_func: object,
    num_gpus: object,
    num_machines: object,
    machine_rank: object,
    args: object,
    timeout: object,
    max_restarts: object,
) -> None:
    """Refuse what is wrong whatever the machine.

    Raises:
        LaunchError: naming the argument, what was received and the fix.
    """
    if not callable(main_func):
        raise LaunchError(
            f"launch() needs a function to run and got {main_func!r:.80} ({type(main_func).__name__}): "
            "pass the function itself, launch(main, ...), not the result of calling it"
        )
    counts = {
        "num_gpus_per_machine": (num_gpus, 0),
        "num_machines": (num_machines, 1),
        "machine_rank": (machine_rank, 0),
        "max_restarts": (max_restarts, 0),
    }
    for name, (value, least) in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise LaunchError(f"launch(): {name} is {value!r}: give an integer of {least} or more")
    if isinstance(machine_rank, int) and isinstance(num_machines, int) and machine_rank >= num_machines:
        raise LaunchError(
            f"launch(): machine_rank is {machine_rank} of {num_machines} machines: they are numbered from 0 to "
            f"{num_machines - 1}"
        )
    if not isinstance(args, (tuple, list)):
        raise LaunchError(f"launch(): args is a {type(args).__name__}: give a tuple, such as args=(value,)")
    if not isinstance(timeout, timedelta) or timeout <= timedelta(0):
        raise LaunchError(f"launch(): timeout is {timeout!r}: give a positive datetime.timedelta")


def _check_address(dist_url: str | None, num_machines: int) -> tuple[str, int] | None:
    """Host and port of machine 0; None on one machine, which needs none.

    Raises:
        LaunchError: it is missing or malformed.
    """
    if dist_url in (None, "", "auto"):
        if num_machines > 1:
            raise LaunchError(
                f"launch(): {num_machines} machines need an address to meet at and dist_url is {dist_url!r}: give the "
                "same tcp://HOST:PORT of machine 0 on all of them (--dist-url)"
            )
        return None
    if num_machines == 1 and str(dist_url).startswith("file://"):
        return None
    try:
        url = urlsplit(str(dist_url))
        host, port = url.hostname, url.port
    except ValueError:
        host = port = None
    if not host or not port or url.scheme != "tcp":
        raise LaunchError(f"launch(): dist_url is {dist_url!r}: give tcp://HOST:PORT, such as tcp://10.0.0.1:29500")
    return (host, port) if num_machines > 1 else None


def _check_devices(num_gpus: int, num_machines: int) -> None:
    """Refuse several machines without processes, and more processes than GPUs where there are GPUs.

    Raises:
        LaunchError: saying which.
    """
    if num_gpus == 0:
        raise LaunchError(
            f"launch(): num_gpus_per_machine is 0 with {num_machines} machines, each of which would train by itself: "
            "give the number of processes on each, at least 1"
        )
    if torch.cuda.is_available() and num_gpus > torch.cuda.device_count():
        raise LaunchError(
            f"launch(): {num_gpus} GPUs were asked for and this machine shows {torch.cuda.device_count()}: use "
            "--num-gpus with a smaller number, or CUDA_VISIBLE_DEVICES='' to run that many processes on the CPU"
        )


def _check_can_spawn(main_func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Refuse what cannot be handed to a new process.

    Raises:
        LaunchError: naming what cannot.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise LaunchError(
            "launch() was reached while a new process imports your script: put the call under "
            "if __name__ == '__main__':"
        )
    name = getattr(main_func, "__qualname__", repr(main_func))
    if "<lambda>" in name or "<locals>" in name:
        raise LaunchError(
            f"launch(): {name} is defined inside a function or expression, where new processes cannot find it: "
            "define it with def at the top level of a module"
        )
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if getattr(inspect.unwrap(main_func), "__module__", "") == "__main__" and not os.path.isfile(script or ""):
        raise LaunchError(
            f"launch(): {name} was defined interactively, where new processes cannot find it: put it into a .py file "
            "and import it, or use one process"
        )
    _check_sendable("main_func", main_func)
    for i, arg in enumerate(args):
        _check_sendable(f"args[{i}]", arg)


def _check_sendable(what: str, value: object) -> None:
    """Refuse what cannot be pickled.

    Raises:
        LaunchError: naming it.
    """
    try:
        pickle.dumps(value)
    except Exception as error:  # objects may raise anything while they are pickled
        if "through inheritance" in str(error):
            return  # queues and locks of multiprocessing: can be sent, but only while a process starts
        raise LaunchError(
            f"launch(): {what} ({type(value).__name__}) cannot be sent to new processes ({error}): pass plain "
            "values and make such objects inside main_func"
        ) from error
