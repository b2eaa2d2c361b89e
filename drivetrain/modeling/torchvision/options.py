"""The config values that detectors are built from, read and checked in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.modeling.backbones import Body, build_body

__all__ = ["DetectorOptions"]


@dataclass(frozen=True)
class DetectorOptions:
    """What ``cfg.MODEL`` says about a detector, a preset's values filled in.

    Attributes:
        num_classes: without background.
        score_thresh: predictions below it are dropped.
        nms_thresh: of two boxes of one class with a higher IoU one is dropped.
        detections_per_image: at most so many are kept.
        backbone: name, see ``build_body``.
        freeze_at: see ``build_body``.
        backbone_norm: see ``build_body``.
        channels: of the feature pyramid.
        num_convs: convolutions before each prediction.
        rois_per_image: boxes that a two-stage detector's second stage learns from, per image; 0 is its own number.
        proposals: boxes that a two-stage detector's first stage hands on; 0 is its own number.
        head_norm: ``""`` or ``"GN"``, between these convolutions where the detector leaves the choice.
        sizes: anchor sizes in pixels, one tuple per level.
        ratios: anchor height over width, one tuple per level.
        pixel_mean: per channel, 0..255 scale.
        pixel_std: per channel, 0..255 scale.
    """

    num_classes: int
    score_thresh: float
    nms_thresh: float
    detections_per_image: int
    backbone: str
    freeze_at: int
    backbone_norm: str
    channels: int
    num_convs: int
    head_norm: str
    rois_per_image: int
    proposals: int
    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[tuple[float, ...], ...]
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> DetectorOptions:
        """Read them from a config.

        Raises:
            ModelError: anchor sizes and aspect ratios are not of one length.
        """
        model = cfg.MODEL
        sizes = _levels(model.ANCHOR_GENERATOR.SIZES, "SIZES")
        ratios = _levels(model.ANCHOR_GENERATOR.ASPECT_RATIOS, "ASPECT_RATIOS") or ((1.0,),)
        if len(ratios) == 1:
            ratios = ratios * len(sizes)
        if len(ratios) != len(sizes):
            raise ModelError(
                f"MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS has {len(ratios)} levels and SIZES {len(sizes)}: give one list "
                "per level in both, or a single list of aspect ratios"
            )
        return cls(
            num_classes=model.NUM_CLASSES,
            score_thresh=model.SCORE_THRESH_TEST,
            nms_thresh=model.NMS_THRESH_TEST,
            detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
            backbone=model.BACKBONE.NAME,
            freeze_at=model.BACKBONE.FREEZE_AT,
            backbone_norm=model.BACKBONE.NORM,
            channels=model.FPN.OUT_CHANNELS,
            num_convs=model.HEAD.NUM_CONVS,
            head_norm=model.HEAD.NORM,
            rois_per_image=model.HEAD.BATCH_SIZE_PER_IMAGE,
            proposals=model.HEAD.NUM_PROPOSALS,
            sizes=sizes,
            ratios=ratios,
            pixel_mean=tuple(model.PIXEL_MEAN),
            pixel_std=tuple(model.PIXEL_STD),
        )

    def strides(self, finest: int) -> tuple[int, ...]:
        """The strides of the levels: as many as there are lists of anchor sizes, doubling from ``finest``."""
        return tuple(finest * 2**level for level in range(len(self.sizes)))

    def body(self, strides: Sequence[int]) -> Body:
        """The backbone, with the wanted of its strides."""
        return build_body(self.backbone, strides, freeze_at=self.freeze_at, norm=self.backbone_norm)

    def require_groups(self) -> None:
        """Check that the channels can be normalised in 32 groups; ModelError where they cannot."""
        if self.channels % 32:
            raise ModelError(
                f"MODEL.FPN.OUT_CHANNELS is {self.channels}, but this model's heads have group norm with 32 groups: "
                "choose a multiple of 32"
            )


def _levels(value: Sequence[Any], key: str) -> tuple[tuple[float, ...], ...]:
    """A list of lists as tuples; ModelError for a flat list."""
    if not all(isinstance(level, (list, tuple)) and level for level in value):
        raise ModelError(f"MODEL.ANCHOR_GENERATOR.{key} is a list of lists, one per level, not {value!r}")
    return tuple(tuple(level) for level in value)
