"""Where a training is, read from its stack by another thread: the step pays nothing for it."""

from __future__ import annotations

import inspect
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from drivetrain.engine.hook_base import POINTS, HookBase, HookList

__all__ = ["Place", "PlaceFinder", "all_stacks", "batch_at_hand"]

_STEP = ("run_step", "fetch", "forward", "backward", "step")
_ORDER = ("before_train", "before_step", *_STEP[:4], "after_backward", "step", "after_step", "after_train")
_WAITING = ("/torch/distributed/", "/drivetrain/engine/hooks/agreement.py")  # parts of file names
_MOST_NAMES = 16  # of a batch


@dataclass(frozen=True)
class Place:
    """A point of the training.

    Attributes:
        phase: the innermost part of the loop (``"fetch"``, ``"after_step"``, ...), or ``"unknown"``.
        hook: the class of the innermost hook at work; ``""`` without one.
        waits: whether it is within torch.distributed, waits for other ranks in another way, or is in the backward,
            where gradients wait for them.
    """

    phase: str = "unknown"
    hook: str = ""
    waits: bool = False

    def __str__(self) -> str:
        """``after_step of hook EvalHook``."""
        return self.phase + (f" of hook {self.hook}" if self.hook else "")

    @property
    def progress(self) -> int:
        """How far it is within an iteration; -1 if that is unknown."""
        return _ORDER.index(self.phase) if self.phase in _ORDER else -1


class PlaceFinder:
    """Tells the :class:`Place` of a thread that runs a trainer's loop.

    Frames are known by their code. Local variables are read of the short frames that call hooks alone: a read keeps
    what it finds alive until the frame ends (before Python 3.13), and a step's frame holds batch and losses.

    Args:
        trainer: the trainer, or its weak proxy.
    """

    def __init__(self, trainer: Any) -> None:
        self._phases: dict[CodeType, str] = {}
        for part in (trainer, getattr(trainer, "_trainer", None)):
            for cls in part.__class__.__mro__:
                for name in (*POINTS, *_STEP):
                    method = vars(cls).get(name)
                    code = getattr(inspect.unwrap(method), "__code__", None) if callable(method) else None
                    if isinstance(code, CodeType):
                        self._phases[code] = name

    def place(self, thread: int) -> Place:
        """Where the thread with this identifier is now."""
        phase, hook, waits = "unknown", "", False
        owner: object = None
        calls_hook = False
        for frame in _outermost_first(sys._current_frames().get(thread)):
            if calls_hook and not isinstance(owner, HookBase):  # a plain function in a hook, as in CallbackHook
                owner = frame.f_locals.get("self")
            if isinstance(owner, HookBase):
                hook = type(owner).__name__
            known = self._phases.get(frame.f_code)
            phase = known or phase
            calls_hook = known in POINTS or frame.f_code is HookList.finish.__code__
            owner = getattr(frame.f_locals.get("call"), "__self__", None) if calls_hook else None
            if phase != "unknown":  # what started this process may lie outside
                file = frame.f_code.co_filename.replace(os.sep, "/")
                waits = waits or any(part in file for part in _WAITING)
        return Place(phase, hook, waits or (phase == "backward" and not hook))


def batch_at_hand(thread: int) -> str:
    """The images of the batch that a thread works on, as ``image_id 7 ('a.jpg'), ...``; ``""`` if it has none.

    It is the innermost local variable that is a list of dicts with an ``image_id`` or a ``file_name``.
    """
    for frame in reversed(list(_outermost_first(sys._current_frames().get(thread)))):
        for value in list(frame.f_locals.values()):
            if _is_batch(value):
                names = [_name(item) for item in value[:_MOST_NAMES]]
                return ", ".join(names) + (f", ... ({len(value)} in all)" if len(value) > len(names) else "")
    return ""


def _is_batch(value: object) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) > 0
        and isinstance(first := value[0], Mapping)
        and ("image_id" in first or "file_name" in first)
    )


def _name(item: Mapping[str, Any]) -> str:
    file = item.get("file_name")
    if "image_id" not in item:
        return repr(file)
    return f"image_id {item['image_id']!r}" + (f" ({file!r})" if file is not None else "")


def all_stacks(main: int) -> str:
    """The stacks of all threads of this process but the one that asks, that of the thread ``main`` first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()
    others = [ident for ident in frames if ident not in (main, threading.get_ident())]
    parts = []
    for ident in (main, *others):
        if ident in frames:
            parts += [f"Thread {names.get(ident, ident)}:\n", *traceback.format_stack(frames[ident])]
    return "".join(parts)


def _outermost_first(frame: FrameType | None) -> Iterator[FrameType]:
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return reversed(frames)
