"""detectron2's model zoo: its configs by their names, and where their weights are published. Nothing is downloaded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

from drivetrain.checkpoint.foreign.published import PUBLISHED_AT, find_weights
from drivetrain.errors import CheckpointError, ConfigError, did_you_mean

from .config import get_cfg
from .zoo_names import CHECKPOINTS, zoo_file

if TYPE_CHECKING:
    from torch import nn

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file"]

_logger = logging.getLogger(__name__)


def get_config_file(config_path: str) -> str:
    """The path of a config's file, for ``cfg.merge_from_file``.

    Args:
        config_path: its name in the zoo, ``"COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"``.

    Raises:
        ConfigError: it is not there; the message says why, or names close ones.
    """
    return str(zoo_file(config_path))


def get_config(config_path: str, trained: bool = False) -> Any:
    """A config of the zoo.

    Args:
        config_path: its name in the zoo; one that ends with ``.py`` is a lazy config or a part of such, see
            :func:`drivetrain.compat.lazy_common.common_config`.
        trained: ``MODEL.WEIGHTS`` is the address of the published weights, not of those of the backbone alone.

    Raises:
        ConfigError: it is not there.
    """
    if config_path.endswith(".py"):
        return _lazy_config(config_path, trained)
    cfg = get_cfg()
    cfg.merge_from_file(get_config_file(config_path))
    if trained:
        cfg.MODEL.WEIGHTS = get_checkpoint_url(config_path)
    return cfg


def _lazy_config(config_path: str, trained: bool) -> Any:
    from .lazy_common import common_config

    cfg = common_config(config_path)
    if trained:
        cfg.train.init_checkpoint = get_checkpoint_url(config_path)
    return cfg


def get_checkpoint_url(config_path: str) -> str:
    """The address of the published weights of a config.

    As ``MODEL.WEIGHTS`` it stands for the file of that name on this machine; see
    :func:`drivetrain.checkpoint.foreign.published.find_weights`.

    Raises:
        ConfigError: there is no such config, or it has no published weights.
    """
    if not config_path.endswith(".py"):
        zoo_file(config_path)  # which says why there is none of that name
    name = config_path.removesuffix(".py").removesuffix(".yaml")
    if name not in CHECKPOINTS:
        raise ConfigError(f"the config {config_path!r} has no published weights{did_you_mean(name, CHECKPOINTS)}")
    return f"{PUBLISHED_AT}{name}/{CHECKPOINTS[name]}"


def get(config_path: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """A model of the zoo, in training mode.

    Args:
        config_path: its name in the zoo.
        trained: with its published weights. Else it has the weights of a trained backbone where they are on this
            machine, and random ones, with a warning, where they are not.
        device: where it lies; by default "cuda", and "cpu" on machines without.

    Raises:
        ConfigError: it is not there.
        CheckpointError: its weights are asked for and not on this machine, or damaged.
    """
    from drivetrain.checkpoint.foreign import DetectionCheckpointer
    from drivetrain.modeling.detectron2 import build_detectron2_model

    from .lazy import instantiate

    cfg = get_config(config_path, trained)
    lazy = config_path.endswith(".py")
    address = cfg.train.init_checkpoint if lazy else cfg.MODEL.WEIGHTS
    weights = ""
    try:
        weights = str(find_weights(address))
    except CheckpointError as error:
        if trained:
            raise
        _logger.warning("The model starts from random weights: %s", error)
    model = instantiate(cfg.model) if lazy else build_detectron2_model(cfg)
    model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).train()
    DetectionCheckpointer(model).load(weights)
    return model
