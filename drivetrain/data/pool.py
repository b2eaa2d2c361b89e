"""Worker processes that make batches in order, and that are replaced when they die.

torch's ``DataLoader`` ends with its first lost worker. Its workers share a queue, so that one that is killed while it
writes can leave the queue locked, or half a message in it for which the training waits for ever. Here every worker
has a connection of its own: its end closes with the process, what was sent is known, and a new process makes the
batches that are missing. As a batch depends on its task alone, the sequence is what it would have been.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Protocol

import torch
import torch.multiprocessing as multiprocessing
from torch._utils import ExceptionWrapper
from torch.utils.data._utils import worker as torch_worker

from drivetrain.errors import TrainingError

from .packing import BlockReader, BlockWriter, PackedBatch
from .processes import init_worker, worker_context

__all__ = ["BatchSource", "WorkerPool"]

logger = logging.getLogger(__name__)

_MOST_DEATHS = 3  # over one batch
_PATIENCE = 5.0  # seconds between looks at whether the parent lives, and for a process to end by itself
_HINTS = {
    "SIGKILL": " (the system does that when memory runs out)",
    "SIGBUS": " (that happens when the shared memory, /dev/shm, is full)",
}


class BatchSource(Protocol):
    """What makes the batches; a worker process has a copy."""

    def __getitems__(self, task: Any) -> Any:
        """The batch of a task: a function of the task alone."""
        ...

    def describe(self, task: Any) -> str:
        """The images of a task, for a message."""
        ...


class WorkerPool:
    """An iterator over the batches of one sequence of tasks after another, made by processes.

    Batch n of a sequence is made by worker n modulo their number. A worker that dies is replaced, which a warning
    tells; what it was to make is made again.
    """

    def __init__(self, source: BatchSource, size: int, ahead: int = 2) -> None:
        """Make the pool; its processes start with the first tasks.

        Args:
            source: makes the batches.
            size: number of processes, 1 or more.
            ahead: batches that each process prepares in advance.
        """
        self._source, self._size, self._ahead = source, size, ahead
        self._tasks: Iterator[Any] = iter(())
        self._workers: list[_Worker] = []
        self._turn = 0

    def feed(self, tasks: Iterator[Any]) -> None:
        """Go on with the batches of ``tasks``; those of earlier tasks are dropped."""
        if not self._workers:
            self._workers = [_Worker(self._source, number, self._size) for number in range(self._size)]
        for worker in self._workers:
            worker.drop()
        self._tasks, self._turn = tasks, 0
        for _ in range(self._ahead):
            for worker in self._workers:
                self._assign(worker)

    def __iter__(self) -> WorkerPool:
        """The pool itself."""
        return self

    def __next__(self) -> Any:
        """The next batch; what its making raised is raised here.

        Raises:
            TrainingError: three processes died over this batch; the message names its images.
        """
        worker = self._workers[self._turn] if self._workers else None
        if worker is None or not worker.is_busy():
            raise StopIteration
        result = worker.receive()
        self._assign(worker)
        self._turn = (self._turn + 1) % self._size
        return worker.unpack(result) if isinstance(result, PackedBatch) else result.reraise()  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """End the processes; the next `feed` starts new ones."""
        workers, self._workers, self._tasks = self._workers, [], iter(())
        for worker in workers:
            worker.dismiss()
        deadline = time.monotonic() + _PATIENCE
        for worker in workers:
            worker.join(max(deadline - time.monotonic(), 0.0))
            worker.kill()

    def _assign(self, worker: _Worker) -> None:
        for task in self._tasks:
            worker.send(task)
            return


class _Worker:
    """One place in the pool: its process now, and the tasks it has been given."""

    def __init__(self, source: BatchSource, number: int, size: int) -> None:
        self._source, self._number, self._size = source, number, size
        self._tasks: deque[Any] = deque()  # whose batches have not been received
        self._cautious = False  # whether its process knows the oldest task alone
        self._stale = 0  # batches still to come that nobody wants
        self._deaths = 0  # since the last batch
        self._start()

    def _start(self) -> None:
        self._reader = BlockReader()
        self._connection, theirs = multiprocessing.Pipe()
        arguments = (theirs, self._source, self._number, self._size)
        self._process = worker_context().Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        theirs.close()  # the process has the only other end, so that its death closes the connection
        # A batch can only be fetched while its process lives, so a task that kills would take the batch before it along
        # each time. One batch is fetched first; what is posted after it is then known to be at fault.
        self._stale, self._cautious = 0, bool(self._tasks)
        if self._tasks:
            self._post(self._tasks[0])

    def is_busy(self) -> bool:
        """Whether it has a batch to make that is wanted."""
        return bool(self._tasks)

    def is_alive(self) -> bool:
        """Whether its process runs."""
        return bool(self._process.is_alive())

    def send(self, task: Any) -> None:
        """Give it one more task."""
        self._tasks.append(task)
        if not self._cautious:
            self._post(task)

    def receive(self) -> PackedBatch | ExceptionWrapper:
        """What it made of its oldest task."""
        while True:
            try:
                result = self._next_result()
            except (EOFError, OSError) as error:  # an OSError also where a tensor's memory went with the process
                self._replace(error)
                continue
            self._deaths = 0
            if self._stale:
                self._stale -= 1
                if isinstance(result, PackedBatch):
                    self._reader.drop(result)
                continue
            self._tasks.popleft()
            if self._cautious:
                self._cautious = False
                for task in self._tasks:
                    self._post(task)
            return result  # type: ignore[no-any-return]

    def unpack(self, result: PackedBatch) -> Any:
        """The batch in a result."""
        return self._reader.unpack(result)

    def _next_result(self) -> Any:
        while not self._connection.poll(_PATIENCE):
            # A process that was forked just when this one started may hold the connection open.
            if not self.is_alive() and not self._connection.poll(0):
                raise EOFError
        return self._connection.recv()

    def drop(self) -> None:
        """Forget its tasks."""
        self._stale += 1 if self._cautious else len(self._tasks)
        self._cautious = False
        self._tasks.clear()

    def dismiss(self) -> None:
        """Ask its process to end."""
        with suppress(OSError):
            self._connection.send(None)
        self._connection.close()

    def join(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds until its process has ended."""
        self._process.join(timeout)

    def kill(self) -> None:
        """End its process if it still runs."""
        if self.is_alive():
            self._process.kill()
            self._process.join()

    def _post(self, task: Any) -> None:
        with suppress(OSError):  # a dead process is noticed when its batch is asked for
            self._connection.send((task, self._reader.released()))

    def _replace(self, error: Exception) -> None:
        """Start a new process for one that is gone; ``error`` is raised if it is not."""
        self._process.join(_PATIENCE)
        how = _manner(self._process.exitcode)
        if how is None:
            raise error
        self._deaths += 1
        if self._deaths == _MOST_DEATHS:
            self._deaths = 0
            raise TrainingError(
                f"{_MOST_DEATHS} loader processes died over the same batch, the last one {how}; one of its images may "
                f"be the reason: {self._source.describe(self._tasks[0])}; lower DATALOADER.NUM_WORKERS if memory is "
                "short (0 makes batches in the training process)"
            ) from None
        logger.warning("Loader process %d (pid %d) %s; a new one goes on", self._number, self._process.pid, how)
        self._connection.close()
        self._start()


def _manner(exitcode: int | None) -> str | None:
    """How a process ended, as the rest of a sentence; None if it did not."""
    if exitcode is None or exitcode >= 0:
        return None if exitcode is None else f"ended with exit code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"was ended by {name}{_HINTS.get(name, '')}"


def _work(connection: Any, source: BatchSource, number: int, size: int) -> None:
    """What a process does: make the batch of each task that it is sent, until None comes or nobody listens."""
    init_worker(number)
    torch.set_num_threads(1)
    # What torch's get_worker_info() returns, which datasets and mappers ask.
    torch_worker._worker_info = torch_worker.WorkerInfo(id=number, num_workers=size, seed=number, dataset=source)  # type: ignore[arg-type]
    parent, writer = os.getppid(), BlockWriter()
    with suppress(EOFError, ConnectionError):
        while (message := _next_message(connection, parent)) is not None:
            task, released = message
            writer.release(released)
            connection.send(_made(source, task, writer, number))


def _next_message(connection: Any, parent: int) -> Any:
    """The next task, and the blocks that are free again; None when there is none any more."""
    while not connection.poll(_PATIENCE):
        # The connection may stay open without the parent: processes forked later hold its end too.
        if os.getppid() != parent:
            return None
    return connection.recv()


def _made(source: BatchSource, task: Any, writer: BlockWriter, number: int) -> PackedBatch | ExceptionWrapper:
    try:
        return writer.pack(source.__getitems__(task))
    except Exception:
        return ExceptionWrapper(where=f"in loader process {number}")  # type: ignore[no-untyped-call]
