"""From a file of detectron2's to a checkpoint that tells its model, channel order and class names."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from drivetrain._version import __version__
from drivetrain.checkpoint.files import atomic_write
from drivetrain.checkpoint.foreign.matching import ForeignWeights, Matching, match_weights
from drivetrain.checkpoint.formats import checkpoint_writer
from drivetrain.config import CfgNode
from drivetrain.engine.defaults.data import as_names
from drivetrain.errors import CheckpointError, ConfigError, IncompatibleWeightsError

from .config import get_cfg
from .zoo_names import COCO_CLASSES, zoo_file, zoo_name_of_file

__all__ = ["class_names_of", "config_for", "match_config", "write_checkpoint"]

_logger = logging.getLogger(__name__)


def config_for(path: Path, config_file: str = "", zoo: str = "") -> CfgNode:
    """The config of the model that weights are for.

    Args:
        path: the weights.
        config_file: the config, if it is a file.
        zoo: the config, if it is one of the model zoo's, by its name.

    Returns:
        The config; with neither given that of the model zoo whose file this is, by its name, or ``config.yaml`` beside
        it, where detectron2's trainings write theirs.

    Raises:
        ConfigError: both are given, none is found, or the config is wrong.
    """
    if config_file and zoo:
        raise ConfigError("--config-file and --zoo both name the config: give one of them")
    known, beside = zoo_name_of_file(path.name), path.parent / "config.yaml"
    if config_file or zoo or known:
        file = Path(config_file) if config_file else zoo_file(zoo or known)
    elif beside.is_file():
        file = beside
    else:
        raise ConfigError(
            f"nothing tells which model {path} is for: give its config by --config-file FILE, or by --zoo "
            "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml for a model of the zoo"
        )
    cfg = get_cfg()
    cfg.merge_from_file(file)
    return cfg


def match_config(cfg: CfgNode, weights: ForeignWeights) -> Matching:
    """Compare weights with the model of a config, which takes no memory.

    Raises:
        ModelError: the config describes a model that there is not here.
        IncompatibleWeightsError: nothing fits.
    """
    from drivetrain.modeling.detectron2 import build_detectron2_model

    with torch.device("meta"):
        expected = build_detectron2_model(cfg).state_dict()
    for name, key in (("pixel_mean", "PIXEL_MEAN"), ("pixel_std", "PIXEL_STD")):
        given = weights.tensors.get(name)
        if given is not None and not torch.allclose(given.flatten().float(), torch.tensor(cfg.MODEL[key])):
            _logger.warning(
                "%s has a %s of %s, but MODEL.%s is %s, which is what counts",
                *(weights.source, name, given.flatten().tolist(), key, cfg.MODEL[key]),
            )
    return match_weights(expected, weights)


def class_names_of(cfg: CfgNode, given: Sequence[str] = ()) -> list[str]:
    """The class names of a config's model: those given, or COCO's where it was trained on that.

    Raises:
        ConfigError: they are not as many as the model has classes.
    """
    section = {"RetinaNet": "RETINANET", "FCOS": "FCOS"}.get(cfg.MODEL.META_ARCHITECTURE, "ROI_HEADS")
    key, count = f"MODEL.{section}.NUM_CLASSES", cfg.MODEL[section].NUM_CLASSES
    if given:
        if len(given) != count:
            raise ConfigError(f"--classes has {len(given)} names, but {key} is {count}: name each class, in order")
        return list(given)
    for name in (*as_names(cfg.DATASETS.TEST), *as_names(cfg.DATASETS.TRAIN)):
        if name.startswith("keypoints_coco_2017") and count == 1:
            return ["person"]
        if name.startswith("coco_2017") and count == len(COCO_CLASSES):
            return list(COCO_CLASSES)
    return []


def write_checkpoint(
    path: Path, matching: Matching, cfg: CfgNode, source: str, *, names: Sequence[str] = (), partial: bool = False
) -> None:
    """Write what a model takes of some weights as a checkpoint; whole or not at all.

    A checkpoint of all of a model has the config in it, from which ``DefaultPredictor.from_checkpoint`` makes the model
    again; one of a part of it has none.

    Args:
        path: the file, ``.pth``.
        matching: what the model takes.
        cfg: the model's config.
        source: where the weights come from, for messages.
        names: class names.
        partial: write a part of a model too.

    Raises:
        IncompatibleWeightsError: tensors are missing, and ``partial`` is not set.
        CheckpointError: the path does not end in ``.pth``.
        OutputError: it cannot be written.
    """
    if path.suffix != ".pth":
        raise CheckpointError(f"the output {path} must be a .pth file")
    if not matching.complete and not partial:
        raise IncompatibleWeightsError(
            f"{source} lacks tensors of the model, or has them in another shape "
            f"({matching.listed('missing', 'other shape')}): give the config that it was trained with, or --partial to "
            "write what fits, for a training to start from"
        )
    metadata: dict[str, Any] = {
        "class_names": list(names),
        "channel_order": cfg.INPUT.FORMAT,
        "config": _described(cfg).dump() if matching.complete else "",
        "versions": {"drivetrain": __version__, "torch": str(torch.__version__)},
    }
    tensors = OrderedDict((name, tensor.contiguous()) for name, tensor in matching.tensors.items())
    atomic_write(path, checkpoint_writer({"model": tensors, "metadata": metadata}))


def _described(cfg: CfgNode) -> CfgNode:
    """The config as it is saved: without the weights that this file replaces."""
    saved = cfg.clone()
    saved.defrost()
    saved.MODEL.WEIGHTS = ""
    return saved
