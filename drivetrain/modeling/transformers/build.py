"""From a config to a transformers model under the model contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from torch import nn

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError, did_you_mean

from .adapter import TransformersModel
from .bases import BASES, Base
from .configs import build_config, merge_fields, timm_backbone
from .families import FAMILIES
from .folder import load_folder, read_config, warn_of_normalisation
from .library import KINDS, UNIVERSAL_TYPES, config_class, make_model, model_types, quiet, require_library
from .options import TransformersOptions

__all__ = ["TASKS", "build_transformers"]

TASKS = ("detection", "instance", "semantic", "panoptic", "classification")
"""What MODEL.TRANSFORMERS.TASK may be."""
_FREEZE = "freeze_backbone_batch_norms"


def build_transformers(cfg: CfgNode) -> TransformersModel:
    """The model that MODEL.TRANSFORMERS.BASE names: one of :data:`~drivetrain.modeling.transformers.bases.BASES` or a
    model type of the library, with random weights, or a local folder with weights.

    Nothing is downloaded.

    Raises:
        MissingDependencyError: transformers or scipy is not installed.
        ModelError: the base is not known, or an option does not fit it.
        CorruptCheckpointError: a folder's weights cannot be read.
        IncompatibleWeightsError: none of a folder's weights fits.
    """
    options = TransformersOptions.from_cfg(cfg)
    require_library(f"MODEL.NAME {options.name!r}")
    folder = Path(options.base).expanduser()
    if options.base not in BASES and (folder.exists() or len(folder.parts) > 1):
        net = _saved(folder, options)
    else:
        net = _random(options)
    return _adapted(net, options)


def _kind(task: str, model_type: str) -> str:
    """The library's kind of model (see ``auto_class``) for a task.

    Raises:
        ModelError: models of that type are not for the task, or there is no such task.
    """
    if task not in TASKS:
        hint = did_you_mean(task, TASKS) or ""
        raise ModelError(f"MODEL.TRANSFORMERS.TASK {task!r} is not one of {', '.join(TASKS)}{hint}")
    universal = task in ("instance", "panoptic") or (task == "semantic" and model_type in UNIVERSAL_TYPES)
    kind = "masks" if universal else task
    if model_type not in model_types(kind):
        raise ModelError(
            f"MODEL.TRANSFORMERS.TASK is {task!r}, but transformers' models of type {model_type!r} are not for it: "
            f"types that are: {', '.join(model_types(kind))}"
        )
    return kind


def _base(options: TransformersOptions) -> Base:
    """The base of a name that is no folder's."""
    if options.base in BASES:
        return BASES[options.base]
    known = sorted({*BASES, *(name for kind in KINDS for name in model_types(kind))})
    if options.base not in known:
        hint = did_you_mean(options.base, known) or ";"
        raise ModelError(
            f"MODEL.TRANSFORMERS.BASE {options.base!r} is neither a folder nor a model that can be built{hint} known "
            f"names: {', '.join(known)}"
        )
    return Base(options.base)


def _saved(folder: Path, options: TransformersOptions) -> nn.Module:
    """The library's model with the weights of a folder."""
    if options.backbone or options.backbone_norm:
        raise ModelError(
            f"MODEL.BACKBONE.NAME {options.backbone!r} and NORM {options.backbone_norm!r} do not apply to the saved "
            f"model {options.base!r}, which has its backbone: leave them at ''"
        )
    content = read_config(folder)
    config_class(content["model_type"])
    kind = _kind(options.task, content["model_type"])
    warn_of_normalisation(folder, options.pixel_mean, options.pixel_std, bgr=options.bgr)
    return load_folder(folder, content, kind, options.fields, options.num_classes)


def _random(options: TransformersOptions) -> nn.Module:
    """The library's model with random weights."""
    base = _base(options)
    kind = _kind(options.task, base.model_type)
    family = FAMILIES.get(base.model_type)
    frozen = options.backbone_norm == "FrozenBN"
    fields = merge_fields(family.fields if family else {}, base.fields)
    if options.backbone:
        fields |= timm_backbone(options.backbone, base.model_type)
    if frozen and _FREEZE in fields:
        fields[_FREEZE] = True
    elif frozen and not (family and family.frozen_norm):
        raise ModelError(f"MODEL.BACKBONE.NORM is 'FrozenBN', which {base.model_type} does not have: set it to ''")
    config = build_config(base.model_type, merge_fields(fields, options.fields), options.num_classes)
    net = make_model(kind, config)
    if kind == "detection" and family and family.frozen_norm and not frozen:
        _renew_backbone(net)
    return net


def _renew_backbone(net: Any) -> None:
    """Put a backbone with live batch norms in the place of one whose norms the library has frozen."""
    from transformers.models.auto.modeling_auto import AutoBackbone

    make: Any = AutoBackbone.from_config
    with quiet():
        fresh = make(net.config.backbone_config)
    for encoder in net.modules():
        if type(encoder).__name__.endswith("ConvEncoder"):
            unwrapped = not hasattr(encoder.model, "_backbone")
            encoder.model = fresh._backbone if unwrapped and hasattr(fresh, "_backbone") else fresh


def _adapted(net: nn.Module, options: TransformersOptions) -> TransformersModel:
    """The library's model under the model contract."""
    common: dict[str, Any] = {
        "pixel_mean": options.pixel_mean,
        "pixel_std": options.pixel_std,
        "bgr": options.bgr,
    }
    limits: dict[str, Any] = {
        "score_thresh": options.score_thresh,
        "detections_per_image": options.detections_per_image,
    }
    task = options.task
    if task == "detection":
        from .detector import TransformersDetector

        return TransformersDetector(net, **common, **limits)
    if task == "classification":
        from .classifier import TransformersClassifier

        return TransformersClassifier(net, **common)
    if task == "semantic" and cast(Any, net).config.model_type not in UNIVERSAL_TYPES:
        from .semantic import TransformersSemanticSegmenter

        return TransformersSemanticSegmenter(net, ignore_label=options.ignore_label, **common)
    from .segmenter import SegmentationTask, TransformersSegmenter

    return TransformersSegmenter(
        net,
        task=cast(SegmentationTask, task),
        stuff_classes=options.stuff_classes,
        mask_format=options.mask_format,
        ignore_label=options.ignore_label,
        min_score=options.segment_score,
        min_visible=options.segment_visible,
        **common,
        **limits,
    )
