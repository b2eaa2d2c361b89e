"""Worker processes of loaders: how they start and how they end.

Workers go on when the signals that stop a training reach the whole process group, and end with the loader, an error
or the process without being waited for. torch's ``DataLoader`` leaves that open.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import signal
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import torch.multiprocessing as multiprocessing

__all__ = ["AtEnd", "init_worker", "stop_workers", "worker_context", "workers_of"]

_GRACE = 60  # seconds that a worker goes on after SIGTERM


def worker_context() -> Any:
    """How worker processes are started: by fork on Linux, so that they share the memory of what has been imported.

    A process that was spawned itself, as each rank of a launched training is, would spawn its workers by default: each
    would import everything anew, which takes seconds and hundreds of megabytes.
    """
    return multiprocessing.get_context("fork" if sys.platform.startswith("linux") else None)


def init_worker(worker_id: int) -> None:
    """Prepare a worker process, at its start.

    Signals that ask the training to stop reach the whole process group. The training process decides what they
    mean; workers go on, so that it can end at a step boundary, and end with it: they notice when it is gone.
    """
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _first_term)
    # A forked process shares the memory of all that was imported until it writes there, which the garbage collector
    # does when it visits an object: hundreds of megabytes. What there is now is not garbage; it need not be visited.
    gc.freeze()
    _keep_memory()


def _first_term(number: int, frame: FrameType | None) -> None:
    """Outlive one SIGTERM, which the training process has got too, but not for ever; the next one ends this process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_GRACE)


def _keep_memory() -> None:
    """Tell glibc to keep freed memory of image size: returning it and faulting it in anew costs up to half the time."""
    if not sys.platform.startswith("linux") or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(-3, 256 << 20)  # M_MMAP_THRESHOLD
    mallopt(-1, 512 << 20)  # M_TRIM_THRESHOLD


def stop_workers(batches: Any) -> None:
    """End the worker processes of a ``DataLoader``'s iterator now, if it has any.

    Dropping the last reference would do, but a traceback may hold one; and when the iterator is then found by the
    cyclic garbage collector, its queues are gone before it and the workers have to be waited for and killed.
    """
    shutdown = getattr(batches, "_shutdown_workers", None)
    if shutdown is not None:
        shutdown()


class AtEnd:
    """Calls a function when called itself, when an owner is gone, or at the exit of this process: the first of these.

    At exit it has to come before torch and multiprocessing take leave, who then wait for workers that ignore a first
    SIGTERM: hence ``atexit``, which calls last what was registered first.
    """

    def __init__(self, owner: object | None, function: Callable[[], None]) -> None:
        """Watch over ``owner`` (None: over the process alone); ``function`` must not refer to it."""
        self._function, self._process = function, os.getpid()
        atexit.register(self)
        if owner is not None:
            weakref.finalize(owner, self).atexit = False

    def __call__(self) -> None:
        """Call the function, unless this is a forked copy of the process that it belongs to."""
        atexit.unregister(self)
        if os.getpid() == self._process:
            self._function()


@contextmanager
def workers_of(batches: Iterator[Any]) -> Iterator[Iterator[Any]]:
    """Use a ``DataLoader``'s iterator in a block and end its workers after it, or with this process."""
    finalizer = AtEnd(None, partial(stop_workers, batches))
    try:
        yield batches
    finally:
        finalizer()
