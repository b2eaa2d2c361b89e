"""The engine: the training loop, its hooks, launching processes, and the defaults built from a config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from . import defaults as defaults
    from . import hooks as hooks
    from .amp import AMPTrainer as AMPTrainer
    from .defaults import DefaultPredictor as DefaultPredictor
    from .defaults import DefaultTrainer as DefaultTrainer
    from .defaults import create_ddp_model as create_ddp_model
    from .defaults import default_argument_parser as default_argument_parser
    from .defaults import default_setup as default_setup
    from .defaults import default_writers as default_writers
    from .defaults import get_cfg as get_cfg
    from .launcher import DEFAULT_TIMEOUT as DEFAULT_TIMEOUT
    from .launcher import launch as launch
    from .train_loop import HookBase as HookBase
    from .train_loop import SimpleTrainer as SimpleTrainer
    from .train_loop import TrainerBase as TrainerBase

_DEFAULTS = (
    "DefaultPredictor",
    "DefaultTrainer",
    "create_ddp_model",
    "default_argument_parser",
    "default_setup",
    "default_writers",
    "get_cfg",
)

__all__ = [
    "DEFAULT_TIMEOUT",
    "AMPTrainer",
    "DefaultPredictor",
    "DefaultTrainer",
    "HookBase",
    "SimpleTrainer",
    "TrainerBase",
    "create_ddp_model",
    "default_argument_parser",
    "default_setup",
    "default_writers",
    "defaults",
    "get_cfg",
    "hooks",
    "launch",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "AMPTrainer": "amp",
        "HookBase": "train_loop",
        "SimpleTrainer": "train_loop",
        "TrainerBase": "train_loop",
        "DEFAULT_TIMEOUT": "launcher",
        "launch": "launcher",
        "defaults": "defaults",
        "hooks": "hooks",
        **dict.fromkeys(_DEFAULTS, "defaults"),
    },
)
