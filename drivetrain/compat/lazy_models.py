"""detectron2's models as lazy configs describe them, by the names of their files in its model zoo.

Each call gives nodes of its own, to be changed: ``model.backbone.bottom_up.stages.depth = 101``,
``model.roi_heads.num_classes = 3``.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from drivetrain.modeling.detectron2.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from drivetrain.modeling.detectron2.layers import ShapeSpec
from drivetrain.modeling.detectron2.resnet import BasicStem, BottleneckBlock

from . import heads
from .anchors import DefaultAnchorGenerator
from .backbones import ResNet
from .lazy import LazyCall
from .lazy_nodes import LazyNode
from .matching import Box2BoxTransform, Matcher
from .modeling import FCOS, GeneralizedRCNN, RetinaNet

__all__ = ["PIXELS", "fcos", "keypoint_rcnn_fpn", "mask_rcnn_c4", "mask_rcnn_fpn", "retinanet"]

_RATIOS = [0.5, 1.0, 2.0]

PIXELS = MappingProxyType(
    {
        "imagenet_rgb256_mean": (123.675, 116.28, 103.53),
        "imagenet_rgb256_std": (58.395, 57.12, 57.375),
        "imagenet_bgr256_mean": (103.53, 116.28, 123.675),
        "imagenet_bgr256_std": (1.0, 1.0, 1.0),
    }
)
"""Means and deviations of colours by the names that lazy configs know; ResNets of BGR images take them unscaled."""


def _pixels() -> dict[str, Any]:
    return {
        "pixel_mean": list(PIXELS["imagenet_bgr256_mean"]),
        "pixel_std": list(PIXELS["imagenet_bgr256_std"]),
        "input_format": "BGR",
    }


def _resnet(out_features: Sequence[str]) -> LazyNode:
    return LazyCall(ResNet)(
        stem=LazyCall(BasicStem)(in_channels=3, out_channels=64, norm="FrozenBN"),
        stages=LazyCall(ResNet.make_default_stages)(depth=50, stride_in_1x1=True, norm="FrozenBN"),
        out_features=list(out_features),
    )


def _rpn(features: Sequence[str], channels: int, sizes: list[list[int]], strides: list[int]) -> LazyNode:
    return LazyCall(heads.RPN)(
        in_features=list(features),
        head=LazyCall(heads.StandardRPNHead)(in_channels=channels, num_anchors=len(sizes[0]) * len(_RATIOS)),
        anchor_generator=LazyCall(DefaultAnchorGenerator)(
            sizes=sizes, aspect_ratios=list(_RATIOS), strides=strides, offset=0.0
        ),
        anchor_matcher=LazyCall(Matcher)(thresholds=[0.3, 0.7], labels=[0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=LazyCall(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_topk=(2000, 1000),
        post_nms_topk=(1000, 1000),
        nms_thresh=0.7,
    )


def _sampling() -> dict[str, Any]:
    return {
        "num_classes": 80,
        "batch_size_per_image": 512,
        "positive_fraction": 0.25,
        "proposal_matcher": LazyCall(Matcher)(thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False),
    }


def _pooler(size: int, strides: Sequence[int]) -> LazyNode:
    scales = tuple(1 / stride for stride in strides)
    return LazyCall(heads.ROIPooler)(output_size=size, scales=scales, sampling_ratio=0, pooler_type="ROIAlignV2")


def _predictor(shape: LazyNode) -> LazyNode:
    return LazyCall(heads.FastRCNNOutputLayers)(
        input_shape=shape,
        test_score_thresh=0.05,
        box2box_transform=LazyCall(Box2BoxTransform)(weights=(10, 10, 5, 5)),
        num_classes="${..num_classes}",
    )


def mask_rcnn_fpn() -> LazyNode:
    """Mask R-CNN over a feature pyramid."""
    levels, strides = ["p2", "p3", "p4", "p5"], [4, 8, 16, 32]
    return LazyCall(GeneralizedRCNN)(
        backbone=LazyCall(FPN)(
            bottom_up=_resnet(["res2", "res3", "res4", "res5"]),
            in_features="${.bottom_up.out_features}",
            out_channels=256,
            top_block=LazyCall(LastLevelMaxPool)(),
        ),
        proposal_generator=_rpn([*levels, "p6"], 256, [[32], [64], [128], [256], [512]], [*strides, 64]),
        roi_heads=LazyCall(heads.StandardROIHeads)(
            **_sampling(),
            box_in_features=levels,
            box_pooler=_pooler(7, strides),
            box_head=LazyCall(heads.FastRCNNConvFCHead)(
                input_shape=LazyCall(ShapeSpec)(channels=256, height=7, width=7), conv_dims=[], fc_dims=[1024, 1024]
            ),
            box_predictor=_predictor(LazyCall(ShapeSpec)(channels=1024)),
            mask_in_features=levels,
            mask_pooler=_pooler(14, strides),
            mask_head=LazyCall(heads.MaskRCNNConvUpsampleHead)(
                input_shape=LazyCall(ShapeSpec)(channels=256, width=14, height=14),
                num_classes="${..num_classes}",
                conv_dims=[256] * 5,
            ),
        ),
        **_pixels(),
    )


def keypoint_rcnn_fpn() -> LazyNode:
    """Keypoint R-CNN over a feature pyramid, for persons of 17 keypoints."""
    model = mask_rcnn_fpn()
    roi = model.roi_heads
    pooler, features = roi.pop("mask_pooler"), roi.pop("mask_in_features")
    roi.pop("mask_head")
    roi.update(
        num_classes=1,
        keypoint_in_features=features,
        keypoint_pooler=pooler,
        keypoint_head=LazyCall(heads.KRCNNConvDeconvUpsampleHead)(
            input_shape=LazyCall(ShapeSpec)(channels=256, width=14, height=14),
            num_keypoints=17,
            conv_dims=[512] * 8,
            loss_normalizer="visible",
        ),
    )
    roi.box_predictor.smooth_l1_beta = 0.5
    model.proposal_generator.post_nms_topk = (1500, 1000)
    return model


def mask_rcnn_c4() -> LazyNode:
    """Mask R-CNN over the fourth stage of a ResNet, whose fifth is the second stage's head."""
    rpn = _rpn(["res4"], 1024, [[32, 64, 128, 256, 512]], [16])
    rpn.update(pre_nms_topk=(12000, 6000), post_nms_topk=(2000, 1000))
    stage = LazyCall(ResNet.make_stage)(
        block_class=BottleneckBlock,
        num_blocks=3,
        stride_per_block=[2, 1, 1],
        in_channels=1024,
        bottleneck_channels=512,
        out_channels=2048,
        norm="FrozenBN",
        stride_in_1x1=True,
    )
    return LazyCall(GeneralizedRCNN)(
        backbone=_resnet(["res4"]),
        proposal_generator=rpn,
        roi_heads=LazyCall(heads.Res5ROIHeads)(
            **_sampling(),
            in_features=["res4"],
            pooler=_pooler(14, [16]),
            res5=stage,
            box_predictor=_predictor(LazyCall(ShapeSpec)(channels="${...res5.out_channels}", height=1, width=1)),
            mask_head=LazyCall(heads.MaskRCNNConvUpsampleHead)(
                input_shape=LazyCall(ShapeSpec)(channels="${...res5.out_channels}"),
                num_classes="${..num_classes}",
                conv_dims=[256],
            ),
        ),
        **_pixels(),
    )


def _dense(architecture: type, head: LazyNode, top: LazyNode) -> LazyNode:
    return LazyCall(architecture)(
        backbone=LazyCall(FPN)(
            bottom_up=_resnet(["res3", "res4", "res5"]),
            in_features=["res3", "res4", "res5"],
            out_channels=256,
            top_block=top,
        ),
        head=head,
        num_classes=80,
        head_in_features=["p3", "p4", "p5", "p6", "p7"],
        focal_loss_alpha=0.25,
        focal_loss_gamma=2.0,
        **_pixels(),
    )


def _head(kind: type, **more: Any) -> LazyNode:
    return LazyCall(kind)(
        input_shape=[LazyCall(ShapeSpec)(channels=256) for _ in range(5)],
        num_classes="${..num_classes}",
        conv_dims=[256] * 4,
        prior_prob=0.01,
        **more,
    )


def retinanet() -> LazyNode:
    """RetinaNet."""
    top = LazyCall(LastLevelP6P7)(in_channels=2048, out_channels="${..out_channels}")
    model = _dense(RetinaNet, _head(heads.RetinaNetHead, num_anchors=9), top)
    model.update(
        anchor_generator=LazyCall(DefaultAnchorGenerator)(
            sizes=[[side, side * 2 ** (1 / 3), side * 2 ** (2 / 3)] for side in (32, 64, 128, 256, 512)],
            aspect_ratios=list(_RATIOS),
            strides=[8, 16, 32, 64, 128],
            offset=0.0,
        ),
        box2box_transform=LazyCall(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
        anchor_matcher=LazyCall(Matcher)(thresholds=[0.4, 0.5], labels=[0, -1, 1], allow_low_quality_matches=True),
    )
    return model


def fcos() -> LazyNode:
    """FCOS, whose further levels come from p5."""
    top = LazyCall(LastLevelP6P7)(in_channels=256, out_channels="${..out_channels}", in_feature="p5")
    model = _dense(FCOS, _head(heads.FCOSHead, norm="GN"), top)
    model.pop("input_format")
    model.update(test_score_thresh=0.2, test_nms_thresh=0.6)
    return model
