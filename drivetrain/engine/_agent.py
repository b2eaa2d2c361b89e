"""The launching process: starts the workers through ``torch.distributed.elastic`` and explains their failures.

The machines meet with a rendezvous handler of our own rather than torch's: its ``c10d`` one unpickles what
any client writes, numbers machines as it likes, and hands restarted workers the addresses of dead ones
(pytorch#135712); its ``static`` one listens on all interfaces and leaves the other machines waiting when one
gives up. Ours is a store, a counter of attempts, and a flag.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import multiprocessing
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.rendezvous.api import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

from drivetrain.engine._failure import failure
from drivetrain.engine._worker import WorkerPlan, returned, run_worker
from drivetrain.engine.hooks.shared_folder import shared_folder
from drivetrain.engine.hooks.startup import before_startup
from drivetrain.errors import LaunchError, TrainingError, UserInputError

__all__ = ["run_processes", "tcp_store"]

_c10d: Any = dist  # torch does not declare its stores
_logger = logging.getLogger(__name__)

_RESUMABLE = 75  # the exit code of a process that saved to be resumed
_FINAL = (2, _RESUMABLE)  # those after which nothing is started again; 2 is bad input
_SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP", "SIGQUIT")
_SIGNALS_VARIABLE = "TORCHELASTIC_SIGNALS_TO_HANDLE"
_GRACE = 3.0  # seconds for the others to end by themselves when one has failed


def run_processes(
    main_func: Callable[..., Any],
    args: tuple[Any, ...],
    *,
    processes: int,
    machines: int,
    machine_rank: int,
    address: tuple[str, int] | None,
    timeout: timedelta,
    max_restarts: int,
) -> Any:
    """Start this machine's processes, wait for them, and return rank 0's value; see `launch` for the rest.

    Args:
        processes: how many to start here.
        address: where the machines meet; None with one machine.
    """
    loopback = address is None or _is_loopback(address[0])
    with shared_folder() as folder:
        if address is None:
            store: Any = _c10d.FileStore(str(folder / "machines"), 1)
        else:
            store = tcp_store(*address, serves=machine_rank == 0, timeout=timeout)
        meeting = _Meeting(store, machine_rank, machines, folder)
        plan = WorkerPlan(str(folder), address, loopback, torch.cuda.is_available(), processes, timeout)
        spec = WorkerSpec(
            role="worker",
            local_world_size=processes,
            entrypoint=run_worker,
            args=(plan, main_func, tuple(args)),
            rdzv_handler=meeting,
            max_restarts=max_restarts,
        )
        agent = _Agent(spec, DefaultLogsSpecs(log_dir=str(folder)), start_method="spawn")
        agent.meeting = meeting
        meeting.agent = agent
        result = _run(agent, meeting)
        if result.is_failed():
            raise failure(folder, meeting.attempt, meeting.exit_codes())
        value = meeting.returned()
        # written by rank 0, a process of this launch, into the launch's private folder
        return pickle.loads(value) if value else None  # noqa: S301


def _run(agent: LocalElasticAgent, meeting: _Meeting) -> RunResult:
    """Run the agent, tell the other machines how it ended, and turn its signals into Python's usual ones."""
    failed = True
    try:
        with _signal_handlers_kept(), _quiet_agent():
            result: RunResult = agent.run()
        failed = result.is_failed()
        return result
    except SignalException as error:
        if _RESUMABLE in meeting.exit_codes().values():
            raise SystemExit(_RESUMABLE) from None
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + int(error.sigval)) from None
    except dist.DistError as error:
        raise TrainingError(
            f"the connection to machine 0 is lost, or not all machines came in time ({error})"
        ) from error
    finally:
        meeting.leave(failed=failed)


class _Agent(LocalElasticAgent):
    """The agent of torch, with other manners when processes fail or are to end.

    It does not wait half a minute for processes that one failed process holds up; processes whose function has returned
    have not failed, whatever comes of them then; and Ctrl-C, which a terminal sends to all processes, is not sent to
    them once more, which would mean not to save: they have some seconds to end by themselves, then get SIGTERM.
    """

    meeting: _Meeting

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        if self.meeting.returned() is None:
            self.meeting.end_all_if_one_failed()
        result: RunResult = super()._monitor_workers(worker_group)
        if not result.is_failed() or self.meeting.returned() is None:
            return result
        _logger.warning(
            "Every process has finished its work; what went wrong when they ended, after it, changes nothing (exit "
            "codes %s)",
            ", ".join(map(str, self.meeting.exit_codes().values())),
        )
        return RunResult(WorkerState.SUCCEEDED, return_values={w.global_rank: None for w in worker_group.workers})

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = 30) -> None:
        if death_sig == signal.SIGINT:
            self.meeting.wait_for_end()
            death_sig = signal.SIGTERM
        super()._shutdown(death_sig, timeout)
        # PyTorch has processes write their errors here as well, and leaves the files.
        for file in getattr(getattr(self._pcontext, "_pc", None), "error_files", None) or ():
            with contextlib.suppress(OSError):
                os.unlink(file)


class _Meeting(RendezvousHandler):
    """The machines of one launch, numbered as the user numbered them.

    Args:
        store: shared by the machines.
        machine_rank, machines: which one this is, of how many.
        folder: this machine's private folder; ``attempt`` in it tells the workers which attempt they belong
            to.
    """

    def __init__(self, store: Any, machine_rank: int, machines: int, folder: Path) -> None:
        self._store, self._rank, self._machines, self._folder = store, machine_rank, machines, folder
        self._processes: dict[int, BaseProcess] = {}
        self._ended: set[int] = set()  # numbers of the processes that were ended because another one had failed
        self.attempt = -1
        self.agent: LocalElasticAgent | None = None

    def next_rendezvous(self) -> RendezvousInfo:
        """Begin an attempt: the next one, or a later one that another machine has begun.

        Raises:
            UserInputError: what is wrong will be wrong again.
            SystemExit: a process asked for the end of the launch, as after saving for a resume.
        """
        following = self.attempt + 1
        if following and self._machines > 1:
            before = "" if self.attempt == 0 else str(self.attempt)
            following = int(self._store.compare_set("attempt", before, str(following)))
        if following:
            reason = failure(self._folder, self.attempt, self.exit_codes())
            if isinstance(reason, UserInputError) or getattr(reason, "code", None) in _FINAL:
                raise reason
            _logger.warning("Starting all processes again (restart %d): %s", following, reason)
        self.attempt = following
        (self._folder / "attempt").write_text(str(following))
        store = _c10d.PrefixStore(f"attempt{following}", self._store)
        return RendezvousInfo(store, self._rank, self._machines, RendezvousStoreInfo("127.0.0.1", 0))

    def num_nodes_waiting(self) -> int:
        """Called several times a second while the workers run. 1 makes the agent start them again.

        Raises:
            TrainingError: another machine has given up.
        """
        for process in multiprocessing.active_children():
            if process.pid is not None:
                self._processes[process.pid] = process
        if self._machines == 1:
            return 0
        if self._store.check(["gave up"]):
            raise TrainingError(f"machine {self._store.get('gave up').decode()} gave up; its log has the reason")
        newest = int(self._store.get("attempt")) if self._store.check(["attempt"]) else 0
        return int(newest > self.attempt)

    def exit_codes(self) -> dict[int, int | None]:
        """Global rank -> exit code of this machine's workers; None while one runs, -SIGTERM if we ended it."""
        ended = -int(signal.SIGTERM)
        processes = self._workers().items()
        return {rank: ended if process.pid in self._ended else process.exitcode for rank, process in processes}

    def returned(self) -> bytes | None:
        """What the function returned on rank 0, pickled, if all workers of this machine are through with it.

        ``b""`` if rank 0 is elsewhere, None while they are at work.
        """
        ranks = sorted(w.global_rank for w in self.agent.get_worker_group().workers) if self.agent else []
        return returned(self._folder, self.attempt, ranks) if ranks else None

    def end_all_if_one_failed(self) -> None:
        """Give the others some seconds to fail by themselves, which leaves their reports, then end them for good.

        They wait for the one that failed, and SIGTERM may only ask them to save at a step boundary that never comes.
        """
        workers = self._workers().values()
        if not any(process.exitcode for process in workers):
            return
        self.wait_for_end()
        for process in workers:
            if process.exitcode is None and process.pid is not None:
                self._ended.add(process.pid)
                process.kill()
                process.join(_GRACE)

    def wait_for_end(self) -> None:
        """Wait some seconds for this machine's processes to end."""
        end = time.monotonic() + _GRACE
        for process in self._workers().values():
            process.join(max(0.0, end - time.monotonic()))

    def _workers(self) -> dict[int, BaseProcess]:
        workers = self.agent.get_worker_group().workers if self.agent else []
        return {w.global_rank: self._processes[w.id] for w in workers if w.id in self._processes}

    def leave(self, *, failed: bool) -> None:
        """Say that this machine is done. Machine 0, which has the store, lets the others hear it first."""
        if self._machines == 1:
            return
        with contextlib.suppress(dist.DistError):
            if failed and not self._store.check(["gave up"]):
                self._store.set("gave up", str(self._rank))
            self._store.add("left", 1)
            end = time.monotonic() + 10
            while self._rank == 0 and self._store.add("left", 0) < self._machines and time.monotonic() < end:
                time.sleep(0.05)

    @property
    def use_agent_store(self) -> bool:
        """False: the workers make their own."""
        return False

    def get_backend(self) -> str:
        """The name of this kind of meeting."""
        return "drivetrain"

    def get_run_id(self) -> str:
        """A name for the launch."""
        return self._folder.name

    def is_closed(self) -> bool:
        """False: the number of machines is fixed."""
        return False

    def set_closed(self) -> None:
        """Nothing to do; see `leave`."""

    def shutdown(self) -> bool:
        """Nothing to do; see `leave`."""
        return True


def tcp_store(host: str, port: int, *, serves: bool, timeout: timedelta) -> Any:
    """A store at an address: its server, which listens at this address alone, or a client.

    Raises:
        LaunchError: the address cannot be listened at, or nobody answers there in time.
    """
    try:
        if not serves:
            return _c10d.TCPStore(host, port, None, False, timeout, False)
        listener = _listen(host, port)
        return _c10d.TCPStore(
            host, port, None, True, timeout, False, master_listen_fd=listener.detach(), multi_tenant=False
        )
    except (OSError, dist.DistError, RuntimeError) as error:
        what = "cannot listen" if serves else f"got no answer within {timeout}"
        raise LaunchError(
            f"{what} at tcp://{host}:{port} ({' '.join(str(error).split())[:150]}): give the address of machine 0 and "
            "a free port in --dist-url, the same on all machines"
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket at an address; with a warning, at all of the machine's if it is not an own one.

    A machine's own name often leads to a loopback address (Debian's 127.0.1.1), where no other machine gets
    through.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    family, ip = found[0], str(found[4][0])
    if ipaddress.ip_address(ip).is_global:
        _logger.warning("The training listens at the public address %s: anybody can connect to it", ip)
    own_name = ipaddress.ip_address(ip).is_loopback and not _is_loopback(host)
    if not own_name:
        try:
            return socket.create_server((ip, port), family=family, backlog=1024)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
    _logger.warning("%s is no address of this machine's interfaces: listening at all of them, port %d", host, port)
    return socket.create_server(("", port), family=family, backlog=1024)


def _is_loopback(host: str) -> bool:
    """Whether an address means this machine and nothing else."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Put back the signal handlers that the agent replaces.

    It passes on SIGUSR1 as well, by which clusters announce an end, unless that means something else here.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = {name: number for name in _SIGNALS if (number := getattr(signal, name, None)) is not None}
    before = {name: signal.getsignal(number) for name, number in numbers.items()}
    handled = [name for name in numbers if name != "SIGUSR1" or before_startup(before[name]) == signal.SIG_DFL]
    listed = os.environ.get(_SIGNALS_VARIABLE)
    os.environ[_SIGNALS_VARIABLE] = ",".join(handled) if listed is None else listed
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(numbers[name], handler if handler is not None else signal.SIG_DFL)
        if listed is None:
            del os.environ[_SIGNALS_VARIABLE]


@contextlib.contextmanager
def _quiet_agent() -> Iterator[None]:
    """Keep the agent's own account of failures off the console; ours is whole and comes once.

    ``LOGLEVEL``, by which PyTorch's users ask for it, brings it back.
    """
    if "LOGLEVEL" in os.environ:
        yield
        return
    elastic = [f"torch.distributed.elastic.{name}" for name in ("multiprocessing.api", "agent.server.api")]
    loggers = [logging.getLogger(name) for name in (*elastic, "torch.multiprocessing.spawn")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
