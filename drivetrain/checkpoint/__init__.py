"""Checkpoints that survive crashes: saved whole or not at all, verified when read, never able to run code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .background import wait_for_copies as wait_for_copies
    from .checkpointer import Checkpointer as Checkpointer
    from .checkpointer import DetectionCheckpointer as DetectionCheckpointer
    from .checkpointer import unwrap_model as unwrap_model
    from .compare import StateDifference as StateDifference
    from .compare import compare_state as compare_state
    from .files import FileLayer as FileLayer
    from .files import atomic_write as atomic_write
    from .folder import CheckpointFolder as CheckpointFolder
    from .formats import model_state as model_state
    from .formats import read_checkpoint as read_checkpoint
    from .manifest import Entry as Entry
    from .manifest import Manifest as Manifest
    from .periodic import PeriodicCheckpointer as PeriodicCheckpointer

__all__ = [
    "CheckpointFolder",
    "Checkpointer",
    "DetectionCheckpointer",
    "Entry",
    "FileLayer",
    "Manifest",
    "PeriodicCheckpointer",
    "StateDifference",
    "atomic_write",
    "compare_state",
    "model_state",
    "read_checkpoint",
    "unwrap_model",
    "wait_for_copies",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "CheckpointFolder": "folder",
        "Checkpointer": "checkpointer",
        "DetectionCheckpointer": "checkpointer",
        "Entry": "manifest",
        "FileLayer": "files",
        "Manifest": "manifest",
        "PeriodicCheckpointer": "periodic",
        "StateDifference": "compare",
        "atomic_write": "files",
        "compare_state": "compare",
        "model_state": "formats",
        "read_checkpoint": "formats",
        "unwrap_model": "checkpointer",
        "wait_for_copies": "background",
    },
)
