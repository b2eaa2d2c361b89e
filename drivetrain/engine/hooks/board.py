"""What the ranks of a training tell each other through files: for when one hangs, and collectives do too."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch.distributed as dist

from .shared_folder import Occupancy
from .whereabouts import Place

__all__ = ["Board", "Note", "dump_flight_recorder", "suspects"]

_UNSEEN = "has no note here: is it on another machine? Then give Watchdog a folder on a disk that the machines share"


@dataclass(frozen=True)
class Note:
    """Where a rank was when it last looked.

    Attributes:
        rank, host, pid: whose note it is.
        beat: counts the notes of this rank.
        written, changed: clock times (s) of this note, and of the first one with this iteration and place.
        iteration, phase, hook, waits, progress: where it was; see :class:`Place`.
        left: whether it has left the training.
    """

    rank: int
    host: str
    pid: int
    beat: int
    written: float
    changed: float
    iteration: int
    phase: str
    hook: str
    waits: bool
    progress: int
    left: bool = False

    @property
    def place(self) -> Place:
        """Phase and hook."""
        return Place(self.phase, self.hook, self.waits)


class Board:
    """A folder with a note of each rank.

    A rank that sees itself hang asks the others for their stacks; one asks at a time. A rank that does not answer is
    stopped or dead. Nothing here raises when the folder is gone or full: a watchdog must not end a training by that.

    Args:
        folder: seen by all ranks of this machine; by those of other machines if it is on a shared disk.
        rank, world: this process' rank, and how many there are.
    """

    def __init__(self, folder: Path, rank: int, world: int) -> None:
        self.folder, self.rank, self.world = folder, rank, world
        self._asked, self._abort = folder / "asked", folder / "abort"
        self._host = socket.gethostname()
        self._note: Note | None = None
        self._answered = 0
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)  # rank 0 made it on its machine
        self._occupancy = Occupancy(folder)

    # Notes

    def write(self, iteration: int, place: Place, *, left: bool = False) -> None:
        """Write this rank's note."""
        now, last = time.time(), self._note
        same = last is not None and (last.iteration, last.place) == (iteration, place)
        beat, changed = (last.beat + 1, last.changed if same else now) if last is not None else (0, now)
        where = (iteration, place.phase, place.hook, place.waits, place.progress)
        self._note = Note(self.rank, self._host, os.getpid(), beat, now, changed, *where, left)
        self._put(f"{self.rank}.json", json.dumps(asdict(self._note)))

    def read(self) -> dict[int, Note]:
        """The notes that can be seen, by rank."""
        notes = {}
        for rank in range(self.world):
            with contextlib.suppress(OSError, ValueError, TypeError):
                notes[rank] = Note(**json.loads((self.folder / f"{rank}.json").read_bytes()))
        return notes

    # Stacks

    def ask(self) -> int:
        """Ask all ranks to tell their stacks; the question's number, or 0 if another rank has asked already."""
        try:
            os.close(os.open(self._asked, os.O_CREAT | os.O_EXCL, 0o600))
        except OSError:
            return 0
        return self.question()

    def question(self) -> int:
        """The number of the question that is open; 0 without one."""
        try:
            return self._asked.stat().st_mtime_ns
        except OSError:
            return 0

    def unanswered(self) -> int:
        """:meth:`question`, or 0 if this rank has answered it."""
        question = self.question()
        return 0 if question == self._answered else question

    def answer(self, question: int, stacks: str) -> None:
        """Tell this rank's stacks."""
        self._answered = question
        self._put(f"{self.rank}.stacks", f"{question}\n{stacks}")

    def answers(self, question: int) -> dict[int, str]:
        """The stacks told so far, by rank."""
        found = {}
        for rank in range(self.world):
            with contextlib.suppress(OSError):
                text = (self.folder / f"{rank}.stacks").read_text(encoding="utf-8", errors="replace")
                number, _, stacks = text.partition("\n")
                if number == str(question):
                    found[rank] = stacks
        return found

    def close_question(self) -> None:
        """Let others ask."""
        with contextlib.suppress(OSError):
            self._asked.unlink()

    # The end

    def abort(self) -> None:
        """Tell all ranks to end."""
        self._put(self._abort.name, str(self.rank))

    @property
    def aborted(self) -> str:
        """The rank that told all to end; ``""`` if none did."""
        try:
            return self._abort.read_text()
        except OSError:
            return ""

    def leave(self) -> None:
        """Say that this rank is no longer in the training; the last one to go removes the folder."""
        if self._note is not None:
            self.write(self._note.iteration, self._note.place, left=True)
        if all(note.left or self.state_of(note) == "gone" for note in self.read().values()):
            shutil.rmtree(self.folder, ignore_errors=True)
        self._occupancy.end()

    def state_of(self, note: Note) -> str:
        """``"gone"``, ``"stopped"`` or ``"running"``, for a process of this machine; ``""`` if it cannot be told."""
        if note.host != self._host or not os.path.isdir("/proc/self"):
            return ""
        try:
            state = Path(f"/proc/{note.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return "gone"
        return {"Z": "gone", "X": "gone", "T": "stopped", "t": "stopped"}.get(state, "running")

    def table(self, notes: Mapping[int, Note], silent: set[int]) -> str:
        """A line for each rank.

        Args:
            notes: the notes by rank.
            silent: the ranks that did not answer.
        """
        now = time.time()
        lines = [f"  {'rank':>4}  {'iteration':>9}  {'for':>9}  {'process':<24}  where"]
        for rank in range(self.world):
            note = notes.get(rank)
            if note is None:
                lines.append(f"  {rank:>4}  {_UNSEEN}")
                continue
            where = f"has left the training, from {note.place}" if note.left else str(note.place)
            if rank in silent and not note.left:
                state = {"gone": "its process is gone", "stopped": "its process is stopped"}.get(self.state_of(note))
                silence = f"NO SIGN OF LIFE for {now - note.written:.1f} s" + (f", {state}" if state else "")
                where = f"{silence}; seen in {note.place}"
            process = f"{note.host}:{note.pid}"
            lines.append(f"  {rank:>4}  {note.iteration:>9}  {now - note.changed:>7.1f} s  {process:<24}  {where}")
        return "\n".join(lines)

    def _put(self, name: str, text: str) -> None:
        temporary = self.folder / f".{name}.{self.rank}"
        with contextlib.suppress(OSError):
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
            os.replace(temporary, self.folder / name)


def suspects(notes: Mapping[int, Note], silent: set[int]) -> list[int]:
    """The ranks that the others seem to wait for; empty if that cannot be told.

    First those that show no sign of life, or have left the training; then those that got least far; of these, those
    that are not themselves waiting for others.
    """
    away = sorted(rank for rank, note in notes.items() if rank in silent or note.left)
    if away:
        return away if len(away) < len(notes) else []
    least = min(((n.iteration, n.progress) for n in notes.values()), default=None)
    behind = [rank for rank, n in sorted(notes.items()) if (n.iteration, n.progress) == least]
    found = [rank for rank in behind if not notes[rank].waits] or behind
    return found if len(found) < len(notes) else []


def dump_flight_recorder(folder: Path, rank: int) -> str:
    """Write PyTorch's record of this process' collectives to a file that ``torchfrtrace`` reads.

    Returns:
        The pending collectives and the file's name, for the log; ``""`` where nothing is recorded.
    """
    try:
        from torch._C import _distributed_c10d as c10d

        kind = "nccl" if dist.get_backend() == dist.Backend.NCCL else "fr"
        record = json.loads(getattr(c10d, f"_dump_{kind}_trace_json")())
        if not record.get("entries"):
            return ""
        pending = [e for e in record["entries"] if not e.get("retired", True)]
        shown = [f"{e.get('profiling_name')} {e.get('input_sizes')} (number {e.get('record_id')})" for e in pending]
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"nccl_trace_rank_{rank}"  # torchfrtrace expects such names
        path.write_bytes(getattr(c10d, f"_dump_{kind}_trace")())
    except Exception as error:  # PyTorch's own, private: it may change, and must not keep a report from being made
        return f"Flight recorder: not read ({type(error).__name__}: {error})\n"
    names = ", ".join(shown[-4:]) or "none"
    return f"Flight recorder: {path}, pending collectives: {names}\n"
