"""``default_setup`` for configs of detectron2, in YAML or in Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drivetrain.engine import defaults
from drivetrain.runtime import comm

from .lazy import LazyConfig
from .unused_keys import warn_of_unused_keys

__all__ = ["default_setup"]


def default_setup(cfg: Any, args: Any) -> None:
    """:func:`drivetrain.engine.defaults.default_setup`, which also names keys that change nothing here.

    Args:
        cfg: a config; one in Python has ``train.output_dir``, ``train.seed`` and ``train.cudnn_benchmark`` instead of
            the keys at the top.
        args: parsed command-line arguments.
    """
    if "OUTPUT_DIR" in cfg:
        defaults.default_setup(cfg, args)
        warn_of_unused_keys(cfg)
        return
    train: Mapping[str, Any] = cfg.get("train", {})
    settings = defaults.get_cfg()
    settings.OUTPUT_DIR = str(train.get("output_dir", settings.OUTPUT_DIR))
    settings.SEED = int(train.get("seed", settings.SEED))
    settings.CUDNN_BENCHMARK = bool(train.get("cudnn_benchmark", settings.CUDNN_BENCHMARK))
    defaults.default_setup(settings, args)
    if comm.is_main_process():
        LazyConfig.save(cfg, Path(settings.OUTPUT_DIR) / "config.yaml")  # in place of the keys made up above
