"""detectron2's architectures as classes that take a config, to be derived from and registered."""

from __future__ import annotations

from typing import Any

from drivetrain.config import CfgNode
from drivetrain.modeling import detectron2 as own
from drivetrain.modeling.detectron2 import build_detectron2_model

from .config import is_config

__all__ = ["GeneralizedRCNN", "RetinaNet"]


class GeneralizedRCNN(own.GeneralizedRCNN):
    """:class:`drivetrain.modeling.detectron2.GeneralizedRCNN` that also takes a config in place of its parts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """``GeneralizedRCNN(cfg)``, or the parts."""
        if args and is_config(args[0]):
            made = _built(args[0], "GeneralizedRCNN")
            features = made._rpn_features, made._roi_features
            args = (made.backbone, made.proposal_generator, made.roi_heads, made.preprocess, *features)
        super().__init__(*args, **kwargs)


class RetinaNet(own.RetinaNet):
    """:class:`drivetrain.modeling.detectron2.RetinaNet` that also takes a config in place of its parts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """``RetinaNet(cfg)``, or the parts."""
        if args and is_config(args[0]):
            made = _built(args[0], "RetinaNet")
            features = made._features, made._options
            args = (made.backbone, made.head, made.anchor_generator, made.preprocess, *features)
        super().__init__(*args, **kwargs)


def _built(cfg: CfgNode, architecture: str) -> Any:
    described = cfg.clone()
    described.defrost()
    described.MODEL.META_ARCHITECTURE = architecture
    return build_detectron2_model(described)
