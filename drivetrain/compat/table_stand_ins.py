"""The table's part for names that can be imported and not used: why, and what to use instead."""

from __future__ import annotations

from types import MappingProxyType

from .entries import Names

__all__ = ["STAND_INS", "STAND_IN_NAMES"]

_CITYSCAPES = (
    "the Cityscapes server's own evaluation is not rebuilt here; evaluate the data as COCO (COCOEvaluator) or as label "
    "maps (SemSegEvaluator)"
)
_ROTATED = "rotated boxes are not supported; use boxes along the axes, or masks"
_PANOPTIC = (
    "Panoptic-DeepLab is not part of this package; panoptic models are those of transformers, such as MODEL.NAME "
    "mask2former"
)

STAND_INS: Names = MappingProxyType(
    {
        "detectron2.evaluation.CityscapesEvaluator": _CITYSCAPES,
        "detectron2.evaluation.CityscapesInstanceEvaluator": _CITYSCAPES,
        "detectron2.evaluation.CityscapesSemSegEvaluator": _CITYSCAPES,
        "detectron2.evaluation.cityscapes_evaluation.CityscapesEvaluator": _CITYSCAPES,
        "detectron2.evaluation.cityscapes_evaluation.CityscapesInstanceEvaluator": _CITYSCAPES,
        "detectron2.evaluation.cityscapes_evaluation.CityscapesSemSegEvaluator": _CITYSCAPES,
        "detectron2.evaluation.RotatedCOCOEvaluator": _ROTATED,
        "detectron2.evaluation.rotated_coco_evaluation.RotatedCOCOEvaluator": _ROTATED,
        "detectron2.data.benchmark.DataLoaderBenchmark": "time the loader that build_detection_train_loader returns: "
        "it is an iterable",
        "detectron2.projects.point_rend.add_pointrend_config": "PointRend is not part of this package; masks are those "
        "of Mask R-CNN",
        "detectron2.projects.panoptic_deeplab.add_panoptic_deeplab_config": _PANOPTIC,
        "detectron2.projects.panoptic_deeplab.PanopticDeeplabDatasetMapper": _PANOPTIC,
    }
)
"""A name's dotted path -> the reason."""


def _names() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for path in STAND_INS:
        module, _, name = path.rpartition(".")
        found.setdefault(module, {})[name] = f"drivetrain.compat.stand_ins:{name}"
    return found


STAND_IN_NAMES: MappingProxyType[str, Names] = MappingProxyType(_names())
"""Module -> its names -> what they are here, as in the other parts."""
