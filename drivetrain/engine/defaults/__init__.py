"""Defaults that most trainings share, built from a config; nothing in the engine below depends on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from drivetrain.engine import hooks as hooks

    from .arguments import default_argument_parser as default_argument_parser
    from .config import get_cfg as get_cfg
    from .predictor import DefaultPredictor as DefaultPredictor
    from .setup import create_ddp_model as create_ddp_model
    from .setup import default_setup as default_setup
    from .setup import default_writers as default_writers
    from .trainer import DefaultTrainer as DefaultTrainer

__all__ = [
    "DefaultPredictor",
    "DefaultTrainer",
    "create_ddp_model",
    "default_argument_parser",
    "default_setup",
    "default_writers",
    "get_cfg",
    "hooks",
]

_resolve, __dir__ = attach(
    __name__,
    {
        "DefaultPredictor": "predictor",
        "DefaultTrainer": "trainer",
        "create_ddp_model": "setup",
        "default_argument_parser": "arguments",
        "default_setup": "setup",
        "default_writers": "setup",
        "get_cfg": "config",
    },
)


def __getattr__(name: str) -> object:
    if name == "hooks":  # code in the wild says `from ...engine.defaults import hooks`
        from drivetrain.engine import hooks

        return hooks
    return _resolve(name)
