"""The common parts of detectron2's lazy configs, by their names in its model zoo: optimizers, schedules, settings."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch

from drivetrain.errors import ConfigError, did_you_mean
from drivetrain.solver import get_default_optimizer_params

from .lazy import LazyCall
from .lazy_nodes import LazyNode
from .param_scheduler import MultiStepParamScheduler, WarmupParamScheduler

__all__ = ["common_config"]

_ITERATIONS = 90_000  # of the "1x" schedule, 12 epochs of COCO in batches of 16


def common_config(name: str) -> LazyNode:
    """A part that lazy configs share.

    Args:
        name: ``"common/optim.py"`` (``SGD``, ``AdamW``, whose ``params.model`` is to be set to the model),
            ``"common/coco_schedule.py"`` (``lr_multiplier_1x`` and so on) or ``"common/train.py"`` (``train``).

    Raises:
        ConfigError: there is no such part here.
    """
    if name not in _PARTS:
        raise ConfigError(
            f"the lazy config {name!r} is not here{did_you_mean(name, _PARTS) or ';'} there are {', '.join(_PARTS)}; "
            'models and data are described by LazyCall(model_zoo.get)(config_path="COCO-...yaml") and by LazyCall of '
            "what builds your data"
        )
    return _PARTS[name]()


def _optimizers() -> LazyNode:
    sgd_params = LazyCall(get_default_optimizer_params)(weight_decay_norm=0.0)
    adam_params = LazyCall(get_default_optimizer_params)(base_lr="${..lr}", weight_decay_norm=0.0)
    return LazyNode(
        SGD=LazyCall(torch.optim.SGD)(params=sgd_params, lr=0.02, momentum=0.9, weight_decay=1e-4),
        AdamW=LazyCall(torch.optim.AdamW)(params=adam_params, lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
    )


def _schedules() -> LazyNode:
    return LazyNode({f"lr_multiplier_{times}x": _schedule(times) for times in (1, 2, 3, 6, 9)})


def _schedule(times: int) -> LazyNode:
    """A warm-up of 1,000 iterations, and two decays: at 2/3 and 8/9 of short ones, near the end of longer ones."""
    total = times * _ITERATIONS
    milestones = [60_000, 80_000, 90_000] if times <= 2 else [total - 60_000, total - 20_000, total]
    return LazyCall(WarmupParamScheduler)(
        scheduler=LazyCall(MultiStepParamScheduler)(values=[1.0, 0.1, 0.01], milestones=milestones),
        warmup_length=1000 / total,
        warmup_method="linear",
        warmup_factor=0.001,
    )


def _settings() -> LazyNode:
    return LazyNode(
        train={
            "output_dir": "./output",
            "init_checkpoint": "",
            "max_iter": _ITERATIONS,
            "amp": {"enabled": False},
            "ddp": {"broadcast_buffers": False, "find_unused_parameters": False, "fp16_compression": False},
            "checkpointer": {"period": 5000, "max_to_keep": 100},
            "eval_period": 5000,
            "log_period": 20,
            "device": "cuda",
        }
    )


_PARTS: MappingProxyType[str, Callable[[], LazyNode]] = MappingProxyType(
    {"common/optim.py": _optimizers, "common/coco_schedule.py": _schedules, "common/train.py": _settings}
)
