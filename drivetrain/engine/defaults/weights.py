"""Loading a checkpoint's weights for use rather than for training."""

from __future__ import annotations

import torch

from drivetrain.checkpoint import DetectionCheckpointer, read_checkpoint
from drivetrain.config import CfgNode
from drivetrain.engine.hooks import EMA
from drivetrain.errors import CheckpointError, ConfigError

__all__ = ["config_from_text", "config_of_checkpoint", "load_for_inference"]


def load_for_inference(model: torch.nn.Module, path: str) -> dict[str, object]:
    """Load the weights that the checkpoint's training evaluated: the averaged ones where it kept an average.

    Args:
        model: gets the weights.
        path: a checkpoint or weights file; ``""`` loads nothing.

    Returns:
        The checkpoint's metadata (class names, channel order, config), empty for bare weights.

    Raises:
        CheckpointError: the file is missing, damaged or of another model.
    """
    rest = DetectionCheckpointer(model).load(path, checkpointables=[])
    trainer = rest.get("trainer")
    hooks = trainer.get("hooks") if isinstance(trainer, dict) else None
    if isinstance(hooks, dict) and "EMA" in hooks:
        EMA.load_average(model, hooks["EMA"])
    return dict(rest.get("metadata", {}))


def config_of_checkpoint(path: str, base: CfgNode) -> tuple[CfgNode, list[str]]:
    """The config that a checkpoint was trained with, and its class names.

    Args:
        path: the checkpoint.
        base: the default config, which gives the keys' types; it is not changed.

    Raises:
        CheckpointError: the file cannot be read, or holds no config.
    """
    metadata = read_checkpoint(path).get("metadata", {})
    text = metadata.get("config", "")
    if not text:
        raise CheckpointError(f"{path} holds no config, for it was not saved by a DefaultTrainer: give one as well")
    try:
        cfg = config_from_text(text, base)
    except ConfigError as error:
        raise CheckpointError(f"the config in {path} cannot be used: {error}") from error
    return cfg, list(metadata.get("class_names", []))


def config_from_text(text: str, base: CfgNode) -> CfgNode:
    """The config that a training saved as YAML.

    Args:
        text: the YAML.
        base: the default config, which gives the keys' types; it is not changed.
    """
    cfg = base.clone()
    cfg.set_new_allowed(True)  # keys that the training's script had added
    cfg.merge_from_other_cfg(CfgNode.load_cfg(text))
    cfg.set_new_allowed(False)
    cfg.DATASETS.REGISTER.set_new_allowed(True)
    return cfg
