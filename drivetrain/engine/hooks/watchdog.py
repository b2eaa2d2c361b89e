"""Saying where a training hangs."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from time import monotonic

from drivetrain.engine.hook_base import HookBase
from drivetrain.errors import TrainingError
from drivetrain.runtime import comm

from .board import Board, Note, dump_flight_recorder, suspects
from .shared_folder import make_shared_folder
from .whereabouts import Place, PlaceFinder, all_stacks, batch_at_hand

__all__ = ["Watchdog"]

logger = logging.getLogger(__name__)

_LONGEST_INTERVAL = 5.0  # seconds between two looks
_AUTOMATIC = {"step": 300.0, "first": 1800.0, "hooks": 3600.0}  # seconds; the least that automatic limits are
_TIMES = {"step": 20.0, "first": 3.0, "hooks": 5.0}  # how many times what was seen a limit is
_DEBUGGERS = ("bdb.", "pdb.", "ipdb.", "pudb.", "IPython.", "debugpy.", "pydevd", "_pydevd")  # how module names begin
_SEEMS = "seems to hang, and goes on waiting (WATCHDOG with a number of seconds would end it)"
_AT_A_PROMPT = "(debugger)"  # instead of a hook's name


class Watchdog(HookBase):
    """Says where every rank is, with the Python stacks of all threads, when an iteration takes too long.

    A thread looks on, eight times per timeout and at least every 5 seconds; iterations pay nothing for it. Where the
    training is (waiting for data, forward, backward, in which hook) is found from its stack. With several ranks each
    thread leaves a note of that in a folder, for when one rank hangs, the others wait for it and can no longer talk.
    The first that takes too long logs a table of all ranks, which rank the others seem to wait for (one that was
    stopped or has died too), the images at hand, everybody's stacks, and where PyTorch records collectives, those that
    are pending, with the file that ``torchfrtrace`` reads.

    With ``None``, limits are generous and fit what was seen: a step may take 5 minutes, and 20 times as long as the
    slowest one so far; the first one half an hour; one with hooks at work, such as an evaluation, an hour, and 5 times
    as long as the slowest so far. That is told, once an iteration, and nothing else, so that no training is ended
    that would have gone on; if it does go on, that is told too.

    A process that was stopped as a whole (a suspended machine, SIGSTOP) begins anew to wait, and one at a debugger's
    prompt does not hang, nor do those that wait for it.

    All ranks register it. Code that holds Python's interpreter lock while it hangs stops the watchdog of its process
    as well; the other ranks tell of it then.

    Args:
        timeout: seconds that a step may take; None for limits that fit what was seen.
        first_timeout: seconds for the first step, in which workers start and kernels are chosen (default: 10 times
            ``timeout``).
        hooks_timeout: seconds when hooks are at work, such as an evaluation, on this rank or another (default: 10
            times ``timeout``).
        abort: end the processes of all ranks (exit code 1) after the report, so that a launcher starts them again. A
            process that is stopped has to be killed by whoever started it.
        folder: an existing folder for notes and records of collectives; with several machines it should be on a disk
            that they share (default: where temporary files go). Notes are removed after the training; those of one
            whose processes were killed, when the next one begins there.

    Raises:
        TrainingError: a timeout is not more than 0 seconds, or ``folder`` is not there.
    """

    def __init__(
        self,
        timeout: float | None,
        *,
        first_timeout: float | None = None,
        hooks_timeout: float | None = None,
        abort: bool = False,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        given = {"timeout": timeout, "first_timeout": first_timeout, "hooks_timeout": hooks_timeout}
        for name, seconds in given.items():
            if seconds is not None and not seconds > 0:
                raise TrainingError(f"{name}={seconds!r} of Watchdog has to be more than 0 seconds")
        if folder is not None and not os.path.isdir(folder):
            raise TrainingError(f"folder={os.fspath(folder)!r} of Watchdog is no folder: make it before the training")
        self._limits = _Limits(timeout, first_timeout, hooks_timeout)
        shortest = self._limits.shortest
        self._interval = min(shortest / 8, _LONGEST_INTERVAL)
        self._patience = max(shortest / 2, 1.0)  # seconds to wait for the others' stacks
        self._abort = abort
        self._parent = os.path.abspath(folder or tempfile.gettempdir())
        self._first = 0
        self._reported: int | None = None
        self._thread_id = 0
        self._finder: PlaceFinder
        self._board: Board | None = None
        self._asked = False  # others about the hang that was reported
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def before_train(self) -> None:
        """Start the thread."""
        self._thread_id = threading.get_ident()
        self._first = self.trainer.iter
        self._finder = PlaceFinder(self.trainer)
        self._board = self._make_board()
        if self._board is not None:
            self._board.write(self._first, Place("before_train"))
        self._reported, self._asked = None, False
        self._stopped.clear()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def after_train(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._board is not None:
            self._close_question(self._board)
            self._board.leave()
            self._board = None

    def _make_board(self) -> Board | None:
        """The folder of notes, whose name rank 0 tells the others; None for a single process, or if it has none."""
        rank, world = comm.get_rank(), comm.get_world_size()
        if world == 1:
            return None
        own, occupancy = "", None
        if rank == 0:
            try:
                made, occupancy = make_shared_folder("watchdog-", self._parent)
                own = str(made)
            except OSError as error:
                logger.warning("Watchdog: each rank tells of itself alone, for its folder cannot be made: %s", error)
        folder = comm.all_gather(own)[0]
        board = Board(Path(folder), rank, world) if folder else None
        if occupancy is not None:
            occupancy.end()  # the board has its own
        return board

    # The thread

    def _watch(self) -> None:
        looked = start = monotonic()
        seen, at_work = self._first, False  # the iteration at the last look, and whether hooks were seen in it
        while not self._stopped.wait(self._interval):
            now = monotonic()
            try:
                iteration = int(self.trainer.iter)
            except ReferenceError:  # the trainer is gone, and this hook was not told
                return
            place = self._place()
            if iteration != seen:  # for an interval at most
                if seen == self._reported:
                    logger.warning("Rank %d goes on: iteration %d took %.1f s", comm.get_rank(), seen, now - start)
                self._limits.learn("first" if seen == self._first else "hooks" if at_work else "step", looked - start)
                seen, start, at_work = iteration, now, False
            at_work = at_work or bool(place.hook)
            if self._board is not None:
                self._tell(self._board, iteration, place)
            if now - looked > 2 * self._interval + 1 or place.hook == _AT_A_PROMPT:
                start = now  # the process was stopped as a whole, or somebody looks into it
            elif iteration != self._reported and (limit := self._exceeded(now - start, iteration, place)):
                self._reported = iteration
                hangs = _SEEMS if self._limits.automatic and not self._abort else "hangs"
                self._report(
                    f"Rank {comm.get_rank()} {hangs}: iteration {iteration} has taken {now - start:.1f} s (more than "
                    f"{limit:g} s), in {place}\n"
                )
            looked = monotonic()  # a report takes its time

    def _place(self) -> Place:
        place = self._finder.place(self._thread_id)
        return replace(place, hook=_AT_A_PROMPT) if _is_at_a_prompt(self._thread_id) else place

    def _tell(self, board: Board, iteration: int, place: Place) -> None:
        """Leave a note; answer a rank that asks, end with one that aborts."""
        board.write(iteration, place)
        if iteration != self._reported:
            self._close_question(board)
        if question := board.unanswered():
            board.answer(question, self._stacks())
        if self._abort and (other := board.aborted):
            message = "Rank %d ends, at iteration %d, in %s: rank %s has told of a hang"
            logger.critical(message, board.rank, iteration, place, other)
            self._end(board)

    def _exceeded(self, seconds: float, iteration: int, place: Place) -> float:
        """The limit that an iteration exceeds where it is now; 0 if it does not."""
        limits = self._limits
        if seconds < limits.shortest:
            return 0.0
        limit = limits.hooks if place.hook else limits.first if iteration == self._first else limits.step
        if limit <= seconds and self._board is not None:
            fresh = time.time() - 2 * self._interval - 1
            others = {n.hook for n in self._board.read().values() if n.hook and not n.left and n.written > fresh}
            if _AT_A_PROMPT in others:
                return 0.0
            if others:
                limit = limits.hooks  # this rank waits for a hook of another one
        return limit if seconds >= limit else 0.0

    def _report(self, headline: str) -> None:
        board = self._board
        if board is None:
            logger.critical("%s%s", headline, self._stacks())
            if self._abort:
                os._exit(1)
            return
        if question := board.ask():
            self._asked = True  # until it is over, so that no other rank tells everything once more
            report = headline + self._everything(board, question)
        else:  # another rank is about to tell everything
            if open_question := board.unanswered():
                board.answer(open_question, self._stacks())
            report = f"{headline}{board.table(board.read(), set())}\n{self._stacks()}"
        logger.critical("%s", report)
        if question and board.rank > 0:
            print(report, file=sys.stderr, flush=True)  # only rank 0 logs to the console
        if self._abort:
            end = monotonic() + 2 * self._patience
            while not question and not board.aborted and monotonic() < end:
                time.sleep(0.05)
            board.abort()
            self._end(board)

    def _everything(self, board: Board, question: int) -> str:
        """The table, who is waited for, and the stacks of all ranks, those of this one first."""
        before, own = board.read(), self._stacks()
        board.answer(question, own)
        expected = {rank for rank, note in before.items() if not note.left}
        end = monotonic() + self._patience
        while not expected <= board.answers(question).keys() and monotonic() < end and not self._stopped.is_set():
            time.sleep(0.02)
        answers, notes = board.answers(question), board.read()
        answers[board.rank] = own
        silent = {r for r in expected - answers.keys() if r in notes and notes[r].beat == before[r].beat}
        parts = [board.table(notes, silent), _blame(suspects(notes, silent), notes, silent)]
        own_first = sorted(answers, key=lambda r: (r != board.rank, r))
        parts += [f"Rank {rank}:\n{answers[rank].rstrip()}" for rank in own_first]
        parts += [f"Rank {rank} did not tell its stacks" for rank in sorted(expected - answers.keys())]
        return "\n".join(part for part in parts if part) + "\n"

    def _stacks(self) -> str:
        """The batch, pending collectives and stacks of this process."""
        batch = batch_at_hand(self._thread_id)
        record = ""
        if self._board is not None:
            folder = self._board.folder
            record = dump_flight_recorder(folder.with_name(f"{folder.name}-collectives"), self._board.rank)
        return (f"Batch at hand: {batch}\n" if batch else "") + record + all_stacks(self._thread_id)

    def _close_question(self, board: Board) -> None:
        if self._asked:
            board.close_question()
            self._asked = False

    def _end(self, board: Board) -> None:
        board.leave()
        os._exit(1)


class _Limits:
    """How long a step may take (s).

    Args:
        timeout: of a step; None for limits that grow with what is seen.
        first, hooks: of the first step, and of one with hooks at work.

    Attributes:
        automatic: whether they grow.
        step, first, hooks: the limits now.
    """

    def __init__(self, timeout: float | None, first: float | None, hooks: float | None) -> None:
        self.automatic = timeout is None
        least = _AUTOMATIC if timeout is None else {"step": timeout, "first": 10 * timeout, "hooks": 10 * timeout}
        self.step = float(least["step"])
        self.first = least["first"] if first is None else first
        self.hooks = least["hooks"] if hooks is None else hooks
        self.shortest = min(self.step, self.first, self.hooks)  # what automatic limits never get below

    def learn(self, kind: str, seconds: float) -> None:
        """Take note of an iteration that is over: the first, one with hooks at work, or another step."""
        if not self.automatic:
            return
        limit = _TIMES[kind] * seconds
        if kind == "hooks":
            self.hooks = max(self.hooks, limit)
        else:
            self.step = max(self.step, limit)


def _is_at_a_prompt(thread: int) -> bool:
    """Whether a debugger, or a console that was opened within the training, waits for somebody."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        module = str(frame.f_globals.get("__name__")) + "."
        if module.startswith(_DEBUGGERS):
            return True
        # A notebook's console lies outside of the training.
        frame = None if module.startswith("drivetrain.engine.") else frame.f_back
    return False


def _blame(ranks: list[int], notes: dict[int, Note], silent: set[int]) -> str:
    """Which ranks the others wait for, in words."""
    if not ranks:
        return "Which rank the others wait for cannot be told: all are at the same place" if len(notes) > 1 else ""
    parts = []
    for rank in ranks:
        note = notes[rank]
        if note.left:
            how = "which has left the training"
        elif rank in silent:
            how = "which shows no sign of life"
        else:
            how = f"in {note.place} of iteration {note.iteration}"
        parts.append(f"rank {rank}, {how}")
    return f"The others seem to wait for {'; '.join(parts)}"
