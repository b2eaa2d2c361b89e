"""Every error that Drivetrain raises on purpose.

::

    DrivetrainError
    ├── UserInputError                    something that was given is wrong; the command line exits with code 2
    │   ├── ConfigError                   a config file, key or value
    │   │   └── UnknownKeyError           a key that does not exist (also a KeyError and an AttributeError)
    │   ├── DatasetError                  annotations, images, dataset names
    │   ├── ModelError                    a model's name, options or interface
    │   ├── CheckpointError               a checkpoint or weights file
    │   │   ├── CorruptCheckpointError    damaged, truncated or not what its digest says
    │   │   └── IncompatibleWeightsError  sound, but of another architecture
    │   ├── OutputError                   a folder or file that cannot be written
    │   ├── LaunchError                   processes that cannot be started as asked
    │   └── MissingDependencyError        an optional library that is not installed (also an ImportError)
    ├── TrainingError                     a training that cannot go on or is used in the wrong way
    │   └── NonFiniteLossError            (also a FloatingPointError)
    └── EvaluationError                   an evaluator or its results broke their contract (also a ValueError)

A message is one sentence that gives the value received, where it came from and the fix.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConfigError",
    "CorruptCheckpointError",
    "DatasetError",
    "DrivetrainError",
    "EvaluationError",
    "IncompatibleWeightsError",
    "LaunchError",
    "MissingDependencyError",
    "ModelError",
    "NonFiniteLossError",
    "OutputError",
    "TrainingError",
    "UnknownKeyError",
    "UserInputError",
    "did_you_mean",
]


class DrivetrainError(Exception):
    """Base of every error raised on purpose by this package."""

    def __str__(self) -> str:
        """The message as written (KeyError, mixed in below, would print its repr)."""
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class UserInputError(DrivetrainError):
    """Something the user gave is wrong; the message names it and the fix."""


class ConfigError(UserInputError, ValueError):
    """A config file, key or value is wrong."""


class UnknownKeyError(ConfigError, KeyError, AttributeError):
    """A config key does not exist."""


class DatasetError(UserInputError, ValueError):
    """A dataset name, annotation file or image is wrong."""


class ModelError(UserInputError, ValueError):
    """A model's name or options are wrong, or the model breaks the model contract."""


class CheckpointError(UserInputError):
    """A checkpoint or weights file cannot be used."""


class CorruptCheckpointError(CheckpointError):
    """A checkpoint file is damaged, truncated or differs from its recorded digest."""


class IncompatibleWeightsError(CheckpointError, ValueError):
    """Weights do not fit the model; the message lists missing, unexpected and differently shaped tensors."""


class OutputError(UserInputError, OSError):
    """A folder or file cannot be written."""


class LaunchError(UserInputError, ValueError):
    """Training processes cannot be started as asked."""


class MissingDependencyError(UserInputError, ImportError):
    """An optional library is not installed."""

    @classmethod
    def for_extra(cls, library: str, extra: str, purpose: str) -> MissingDependencyError:
        """The error for a missing ``library`` that ``pip install "drivetrain[extra]"`` brings."""
        return cls(f"{purpose} needs {library}, which is not installed: pip install 'drivetrain[{extra}]'")


class TrainingError(DrivetrainError, RuntimeError):
    """Training cannot go on, or a trainer is used in the wrong way."""


class NonFiniteLossError(TrainingError, FloatingPointError):
    """The loss (or a gradient) became infinite or NaN."""


class EvaluationError(DrivetrainError, ValueError):
    """An evaluator or an evaluation result breaks its contract."""


def did_you_mean(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """A hint of names close to ``name``: ``"; did you mean 'a' or 'b'?"``, or ``""`` when none is close."""
    options = {str(k).lower(): str(k) for k in known}
    close = [options[m] for m in difflib.get_close_matches(str(name).lower(), options, n=most, cutoff=0.6)]
    return f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
