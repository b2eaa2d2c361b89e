"""The config values that transformers models are built from, read in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.modeling.targets import IGNORE_LABEL

from .segments import MaskFormat

__all__ = ["TransformersOptions"]

_PREFIX = "transformers/"


@dataclass(frozen=True)
class TransformersOptions:
    """What ``cfg.MODEL`` says about a transformers model, a preset's values filled in.

    Attributes:
        name: MODEL.NAME, for messages.
        base: a preset's name, a model type of the library, or a folder.
        task: what the model is for.
        fields: of the library's config class.
        num_classes: without background.
        backbone: ``""`` is the base's own, else ``timm/NAME``.
        backbone_norm: ``""``, ``"BN"`` or ``"FrozenBN"``.
        stuff_classes: classes that the panoptic task does not count one by one.
        segment_score: the panoptic task leaves out queries scored no higher.
        segment_visible: the panoptic task leaves out segments of which a smaller share is seen.
        score_thresh: predictions below it are dropped.
        detections_per_image: at most so many are kept.
        pixel_mean: per channel, 0..255 scale.
        pixel_std: per channel, 0..255 scale.
        bgr: whether images are BGR.
        mask_format: what predicted instance masks are.
        ignore_label: pixels of a label map that have it count nowhere.
    """

    name: str
    base: str
    task: str
    fields: Mapping[str, Any]
    num_classes: int
    backbone: str
    backbone_norm: str
    stuff_classes: tuple[int, ...]
    segment_score: float
    segment_visible: float
    score_thresh: float
    detections_per_image: int
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    bgr: bool
    mask_format: MaskFormat
    ignore_label: int

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> TransformersOptions:
        """Read them from a config.

        Raises:
            ModelError: an option that these models do not have is set, or no base is named.
        """
        model = cfg.MODEL
        own = model.get("TRANSFORMERS", {})
        # A model name with the library's prefix arrives as the backbone's name too, also under a name of one's own.
        prefixed = next((n for n in (model.BACKBONE.NAME, model.NAME) if n.startswith(_PREFIX)), "")
        base = own.get("BASE", "") or prefixed.removeprefix(_PREFIX)
        if not base:
            raise ModelError(
                f"MODEL.NAME {model.NAME!r} needs MODEL.TRANSFORMERS.BASE: a folder with config.json and "
                "model.safetensors, or a model type of the transformers library"
            )
        if model.BACKBONE.FREEZE_AT:
            raise ModelError(
                f"MODEL.BACKBONE.FREEZE_AT is {model.BACKBONE.FREEZE_AT}, but transformers models do not tell their "
                "stages: leave it at 0"
            )
        return cls(
            name=model.NAME,
            base=base,
            task=own.get("TASK", ""),
            fields=_plain(own.get("CONFIG", {})),
            num_classes=model.NUM_CLASSES,
            backbone="" if model.BACKBONE.NAME.startswith(_PREFIX) else model.BACKBONE.NAME,
            backbone_norm=model.BACKBONE.NORM,
            stuff_classes=tuple(own.get("STUFF_CLASSES", ())),
            segment_score=own.get("SEGMENT_SCORE", 0.8),
            segment_visible=own.get("SEGMENT_VISIBLE", 0.8),
            score_thresh=model.SCORE_THRESH_TEST,
            detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
            pixel_mean=tuple(model.PIXEL_MEAN),
            pixel_std=tuple(model.PIXEL_STD),
            bgr=cfg.INPUT.FORMAT == "BGR",
            mask_format=cfg.TEST.get("MASK_FORMAT", "bitmask"),
            ignore_label=model.get("SEM_SEG_HEAD", {}).get("IGNORE_VALUE", IGNORE_LABEL),
        )


def _plain(value: Any) -> Any:
    """Config nodes as dicts, tuples as lists."""
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
