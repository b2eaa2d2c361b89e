"""What stands on a backbone, with detectron2's arguments, as lazy configs describe it.

The classes make the parts of :mod:`drivetrain.modeling.detectron2`. What those are asked for differs from what
detectron2's are: a class that overrides a method which would not be called is refused when it is defined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2 import roi_heads, rpn
from drivetrain.modeling.detectron2.box_head import BoxHead, BoxPredictor, PredictorOptions
from drivetrain.modeling.detectron2.dense import DenseHead
from drivetrain.modeling.detectron2.fcos import FCOSHead as OwnFCOSHead
from drivetrain.modeling.detectron2.keypoint_head import KeypointHead
from drivetrain.modeling.detectron2.layers import ShapeSpec
from drivetrain.modeling.detectron2.mask_head import MaskHead
from drivetrain.modeling.detectron2.regression import BoxLoss

from . import calls
from .anchors import given_anchors
from .calls import refuse_overrides, without_config
from .matching import Box2BoxTransform, Matcher

__all__ = [
    "RPN",
    "FCOSHead",
    "FastRCNNConvFCHead",
    "FastRCNNOutputLayers",
    "KRCNNConvDeconvUpsampleHead",
    "MaskRCNNConvUpsampleHead",
    "ROIPooler",
    "Res5ROIHeads",
    "RetinaNetHead",
    "StandardROIHeads",
    "StandardRPNHead",
]


class StandardRPNHead(rpn.RPNHead):
    """Objectness and box differences of every anchor."""

    def __init_subclass__(cls) -> None:
        """Refuse what would be asked for something else."""
        super().__init_subclass__()
        refuse_overrides(cls, ("forward",))

    def __init__(
        self, *, in_channels: int, num_anchors: int, box_dim: int = 4, conv_dims: Sequence[int] = (-1,)
    ) -> None:
        """Over feature maps with that many channels; of ``conv_dims`` -1 stands for as many.

        Raises:
            ModelError: boxes are not of 4 numbers.
        """
        if box_dim != 4:
            raise ModelError(f"box_dim is {box_dim}, but boxes have 4 numbers here")
        super().__init__(in_channels, num_anchors, conv_dims)


class RPN(calls.RPN):
    """Proposes boxes that may hold an object."""

    @without_config
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        head: rpn.RPNHead,
        anchor_generator: nn.Module,
        anchor_matcher: Matcher,
        box2box_transform: Box2BoxTransform,
        batch_size_per_image: int,
        positive_fraction: float,
        pre_nms_topk: tuple[int, int],
        post_nms_topk: tuple[int, int],
        nms_thresh: float = 0.7,
        min_box_size: float = 0.0,
        anchor_boundary_thresh: int = -1,
        loss_weight: float = 1.0,
        box_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 0.0,
    ) -> None:
        """Assemble the parts; pairs are for training and for testing."""
        options = rpn.RPNOptions(
            loss=BoxLoss(box2box_transform.weights, box_reg_loss_type, smooth_l1_beta),
            iou_thresholds=anchor_matcher.limits([0, -1, 1], low_quality=True),
            batch_size_per_image=batch_size_per_image,
            positive_fraction=positive_fraction,
            pre_nms_topk=(pre_nms_topk[0], pre_nms_topk[1]),
            post_nms_topk=(post_nms_topk[0], post_nms_topk[1]),
            nms_thresh=nms_thresh,
            min_size=min_box_size,
            boundary_thresh=anchor_boundary_thresh,
            loss_weight=loss_weight,
        )
        super().__init__(in_features, head, given_anchors(anchor_generator), options)


class ROIPooler(calls.ROIPooler):
    """Cuts features of one size out of feature maps."""

    def __init__(
        self,
        output_size: int | Sequence[int],
        scales: Sequence[float],
        sampling_ratio: int,
        pooler_type: str,
        canonical_box_size: int = 224,
        canonical_level: int = 4,
    ) -> None:
        """``scales`` are those of the feature maps, 1 / stride.

        Raises:
            ModelError: there is no such pooler, features are to be cut to a size that is not square, or boxes of other
                than 224 pixels belong to level 4.
        """
        if (canonical_box_size, canonical_level) != (224, 4):
            raise ModelError(
                f"canonical_box_size {canonical_box_size} and canonical_level {canonical_level} were received, but "
                "boxes of 224 pixels belong to level 4 here"
            )
        sides = {output_size} if isinstance(output_size, int) else set(output_size)
        if len(sides) != 1:
            raise ModelError(f"output_size is {output_size!r}, but features are cut to squares here")
        super().__init__(sides.pop(), [round(1 / scale) for scale in scales], sampling_ratio, pooler_type)


class FastRCNNConvFCHead(BoxHead):
    """Convolutions, then fully connected layers."""

    @without_config
    def __init__(
        self, input_shape: ShapeSpec, *, conv_dims: Sequence[int], fc_dims: Sequence[int], conv_norm: str = ""
    ) -> None:
        """Layers over features of a shape with ``channels`` and ``height``."""
        super().__init__(
            input_shape.channels or 0, input_shape.height or 0, tuple(conv_dims), tuple(fc_dims), conv_norm
        )


class FastRCNNOutputLayers(BoxPredictor):
    """Scores of all classes, the background last, and box differences."""

    def __init_subclass__(cls) -> None:
        """Refuse what would not be called."""
        super().__init_subclass__()
        refuse_overrides(cls, ("losses", "inference", "predict_boxes", "predict_probs", "box_reg_loss"))

    @without_config
    def __init__(
        self,
        input_shape: ShapeSpec | int,
        *,
        box2box_transform: Box2BoxTransform,
        num_classes: int,
        test_score_thresh: float = 0.0,
        test_nms_thresh: float = 0.5,
        test_topk_per_image: int = 100,
        cls_agnostic_bbox_reg: bool = False,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        loss_weight: float | Mapping[str, float] = 1.0,
    ) -> None:
        """Layers over features of a shape, or of that many channels; ``loss_weight`` may weigh ``loss_box_reg``.

        Raises:
            ModelError: ``loss_weight`` weighs another loss.
        """
        weights = dict(loss_weight) if isinstance(loss_weight, Mapping) else {"loss_cls": loss_weight}
        box_loss_weight = float(weights.pop("loss_box_reg", 1.0))
        if any(weight != 1 for weight in weights.values()):
            raise ModelError(f"loss_weight is {loss_weight!r}, but loss_box_reg alone has a weight here: give a dict")
        options = PredictorOptions(
            num_classes=num_classes,
            loss=BoxLoss(box2box_transform.weights, box_reg_loss_type, smooth_l1_beta),
            class_agnostic=cls_agnostic_bbox_reg,
            score_thresh=test_score_thresh,
            nms_thresh=test_nms_thresh,
            detections_per_image=test_topk_per_image,
            box_loss_weight=box_loss_weight,
        )
        if not isinstance(input_shape, int):
            input_shape = (input_shape.channels or 0) * (input_shape.height or 1) * (input_shape.width or 1)
        super().__init__(input_shape, options)


class MaskRCNNConvUpsampleHead(MaskHead):
    """Convolutions and one upsampling to a mask for each class, or to one for all classes."""

    def __init__(
        self, input_shape: ShapeSpec, *, num_classes: int, conv_dims: Sequence[int], conv_norm: str = ""
    ) -> None:
        """Layers over features of a shape; the last of ``conv_dims`` is the upsampling's."""
        super().__init__(input_shape.channels or 0, num_classes, conv_dims, conv_norm)

    def layers(self, x: Tensor) -> Tensor:
        """Features (N, C, S, S) to logits (N, K, 2 S, 2 S): what a class derived from this overrides."""
        return super().forward(x)

    def forward(self, features: Tensor) -> Tensor:
        """:meth:`layers`."""
        return self.layers(features)


class KRCNNConvDeconvUpsampleHead(KeypointHead):
    """Convolutions, one upsampling by layers and one by interpolation."""

    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_keypoints: int,
        conv_dims: Sequence[int],
        loss_weight: float = 1.0,
        loss_normalizer: float | str = 1.0,
    ) -> None:
        """Layers over features of a shape; ``loss_normalizer`` is a number for each image, or "visible".

        Raises:
            ModelError: it is another text.
        """
        if isinstance(loss_normalizer, str) and loss_normalizer != "visible":
            raise ModelError(f"loss_normalizer is {loss_normalizer!r}, but must be 'visible' or a number")
        normalizer = None if isinstance(loss_normalizer, str) else float(loss_normalizer)
        super().__init__(
            input_shape.channels or 0, num_keypoints, conv_dims, loss_weight=loss_weight, normalizer=normalizer
        )

    def layers(self, x: Tensor) -> Tensor:
        """Features (N, C, S, S) to logits (N, K, 4 S, 4 S): what a class derived from this overrides."""
        return super().forward(x)

    def forward(self, features: Tensor) -> Tensor:
        """:meth:`layers`."""
        return self.layers(features)


class StandardROIHeads(calls.ROIHeads):
    """Boxes, masks and keypoints, each from features of their own."""

    @without_config
    def __init__(
        self,
        *,
        box_in_features: Sequence[str],
        box_pooler: calls.ROIPooler,
        box_head: nn.Module,
        box_predictor: BoxPredictor,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
        mask_in_features: Sequence[str] | None = None,
        mask_pooler: calls.ROIPooler | None = None,
        mask_head: MaskHead | None = None,
        keypoint_in_features: Sequence[str] | None = None,
        keypoint_pooler: calls.ROIPooler | None = None,
        keypoint_head: KeypointHead | None = None,
    ) -> None:
        """Assemble the parts; a branch is there if its ``..._in_features`` are.

        Raises:
            ModelError: a branch looks at other features than the boxes' or lacks a part, or numbers of classes differ.
        """
        mask = _branch("mask", box_in_features, mask_in_features, mask_pooler, mask_head)
        keypoint = _branch("keypoint", box_in_features, keypoint_in_features, keypoint_pooler, keypoint_head)
        _check_classes(num_classes, box_predictor)
        super().__init__(
            box_in_features,
            _sampling(proposal_matcher, batch_size_per_image, positive_fraction, proposal_append_gt),
            box_pooler,
            box_head,
            box_predictor,
            mask=mask,
            keypoint=keypoint,
        )


class Res5ROIHeads(calls.ROIHeads):
    """Boxes and masks from the last stage of a ResNet, run on each box."""

    @without_config
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        pooler: calls.ROIPooler,
        res5: Sequence[nn.Module] | nn.Sequential,
        box_predictor: BoxPredictor,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
        mask_head: MaskHead | None = None,
    ) -> None:
        """Assemble the parts; ``res5`` is the stage, or its blocks.

        Raises:
            ModelError: numbers of classes differ.
        """
        _check_classes(num_classes, box_predictor)
        super().__init__(
            in_features,
            _sampling(proposal_matcher, batch_size_per_image, positive_fraction, proposal_append_gt),
            pooler,
            nn.Sequential(*res5),
            box_predictor,
            head_name="res5",
            mask=None if mask_head is None else (None, mask_head),
        )


def _branch(
    name: str, of_boxes: Sequence[str], features: Sequence[str] | None, pooler: calls.ROIPooler | None, head: Any
) -> Any:
    """Pooler and head of a branch, or None."""
    if features is None:
        return None
    if list(features) != list(of_boxes):
        raise ModelError(
            f"{name}_in_features {list(features)} are others than box_in_features {list(of_boxes)}; all branches look "
            "at the same ones here"
        )
    if pooler is None or head is None:
        raise ModelError(f"{name}_in_features are given, but not both of {name}_pooler and {name}_head")
    return pooler, head


def _sampling(matcher: Matcher, count: int, fraction: float, append_gt: bool) -> roi_heads.SamplingOptions:
    threshold, _ = matcher.limits([0, 1], low_quality=False)
    return roi_heads.SamplingOptions(threshold, count, fraction, append_gt)


def _check_classes(num_classes: int, predictor: BoxPredictor) -> None:
    if num_classes != predictor.options.num_classes:
        raise ModelError(f"num_classes is {num_classes}, but that of box_predictor {predictor.options.num_classes}")


class RetinaNetHead(DenseHead):
    """Class scores and box differences of every anchor."""

    def __init_subclass__(cls) -> None:
        """Refuse what would be asked for something else."""
        super().__init_subclass__()
        refuse_overrides(cls, ("forward",))

    def __init__(
        self,
        *,
        input_shape: Sequence[ShapeSpec],
        num_classes: int,
        num_anchors: int,
        conv_dims: Sequence[int],
        norm: str = "",
        prior_prob: float = 0.01,
    ) -> None:
        """Over feature maps of these shapes."""
        super().__init__(
            *(input_shape[0].channels or 0, len(input_shape), num_anchors, num_classes),
            conv_dims=conv_dims,
            norm=norm,
            prior_prob=prior_prob,
        )


class FCOSHead(OwnFCOSHead):
    """Class scores, distances to the four sides and centerness of every place."""

    def __init_subclass__(cls) -> None:
        """Refuse what would be asked for something else."""
        super().__init_subclass__()
        refuse_overrides(cls, ("forward",))

    def __init__(
        self,
        *,
        input_shape: Sequence[ShapeSpec],
        num_classes: int,
        conv_dims: Sequence[int],
        norm: str = "",
        prior_prob: float = 0.01,
    ) -> None:
        """Over feature maps of these shapes."""
        super().__init__(
            *(input_shape[0].channels or 0, len(input_shape), num_classes),
            conv_dims=conv_dims,
            norm=norm,
            prior_prob=prior_prob,
        )
