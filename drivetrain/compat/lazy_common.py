"""detectron2's lazy configs and their common parts, by their names in its model zoo."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch

from drivetrain.errors import ConfigError, did_you_mean
from drivetrain.solver import get_default_optimizer_params

from .lazy import LazyCall
from .lazy_data import coco, coco_keypoint
from .lazy_models import PIXELS, fcos, keypoint_rcnn_fpn, mask_rcnn_c4, mask_rcnn_fpn, retinanet
from .lazy_nodes import LazyNode
from .param_scheduler import MultiStepParamScheduler, WarmupParamScheduler

__all__ = ["common_config"]

_ITERATIONS = 90_000  # of the "1x" schedule, 12 epochs of COCO in batches of 16


def common_config(name: str) -> LazyNode:
    """A lazy config, or a part that several share; each call gives one of its own.

    Args:
        name: ``"common/optim.py"`` (``SGD``, ``AdamW``, whose ``params.model`` is to be set to the model),
            ``"common/coco_schedule.py"`` (``lr_multiplier_1x`` and so on), ``"common/train.py"`` (``train``),
            ``"common/data/coco.py"`` (``dataloader``), ``"common/models/mask_rcnn_fpn.py"`` (``model``) and others; or
            a whole one, as ``"COCO-Detection/fcos_R_50_FPN_1x.py"`` (``model``, ``dataloader``, ``optimizer``,
            ``lr_multiplier``, ``train``).

    Raises:
        ConfigError: there is no such config here.
    """
    if name in _PARTS:
        return _PARTS[name]()
    if name in _WHOLE:
        return _whole(*_WHOLE[name])
    if name in _ABSENT:
        raise ConfigError(f"the lazy config {name!r} is not here: {_ABSENT[name]}")
    known = (*_PARTS, *_WHOLE)
    raise ConfigError(
        f"the lazy config {name!r} is not here{did_you_mean(name, known) or ';'} there are {', '.join(known)}"
    )


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


def _whole(model: Callable[[], LazyNode], data: Callable[[], LazyNode], lr: float, masks: bool) -> LazyNode:
    """A config with the schedule of 12 epochs, over a ResNet-50 whose first two stages are not trained."""
    cfg = LazyNode(
        model=model(),
        dataloader=data(),
        optimizer=_optimizers().SGD,
        lr_multiplier=_schedule(1),
        train=_settings().train,
    )
    cfg.optimizer.lr = lr
    cfg.dataloader.train.mapper.use_instance_mask = masks
    network = cfg.model.backbone
    (network.bottom_up if "bottom_up" in network else network).freeze_at = 2
    cfg.train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
    return cfg


_PARTS: MappingProxyType[str, Callable[[], LazyNode]] = MappingProxyType(
    {
        "common/optim.py": _optimizers,
        "common/coco_schedule.py": _schedules,
        "common/train.py": _settings,
        "common/data/coco.py": lambda: LazyNode(dataloader=coco()),
        "common/data/coco_keypoint.py": lambda: LazyNode(dataloader=coco_keypoint()),
        "common/data/constants.py": lambda: LazyNode(constants={name: list(values) for name, values in PIXELS.items()}),
        "common/models/fcos.py": lambda: LazyNode(model=fcos()),
        "common/models/keypoint_rcnn_fpn.py": lambda: LazyNode(model=keypoint_rcnn_fpn()),
        "common/models/mask_rcnn_c4.py": lambda: LazyNode(model=mask_rcnn_c4()),
        "common/models/mask_rcnn_fpn.py": lambda: LazyNode(model=mask_rcnn_fpn()),
        "common/models/retinanet.py": lambda: LazyNode(model=retinanet()),
    }
)

_WHOLE: MappingProxyType[str, tuple[Callable[[], LazyNode], Callable[[], LazyNode], float, bool]] = MappingProxyType(
    {
        "COCO-Detection/fcos_R_50_FPN_1x.py": (fcos, coco, 0.01, False),
        "COCO-Detection/retinanet_R_50_FPN_1x.py": (retinanet, coco, 0.01, False),
        "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.py": (mask_rcnn_c4, coco, 0.02, True),
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py": (mask_rcnn_fpn, coco, 0.02, True),
        "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.py": (keypoint_rcnn_fpn, coco_keypoint, 0.02, False),
    }
)
"""Config -> its model, its data, learning rate, and whether masks are loaded."""

_PANOPTIC = "panoptic models are those of transformers (MODEL.NAME mask2former... in a YAML config)"

_ABSENT: MappingProxyType[str, str] = MappingProxyType(
    {
        "common/coco_loader_lsj.py": "take common/data/coco.py, and ResizeScale and FixedSizeCrop as augmentations",
        "common/data/coco_panoptic_separated.py": _PANOPTIC,
        "common/models/cascade_rcnn.py": "Cascade R-CNN is not here; take common/models/mask_rcnn_fpn.py",
        "common/models/mask_rcnn_vitdet.py": "ViT backbones are not here; set model.backbone of "
        "common/models/mask_rcnn_fpn.py to a LazyCall of a network of your own",
        "common/models/panoptic_fpn.py": _PANOPTIC,
    }
)
"""What is not here, and what to take instead."""
