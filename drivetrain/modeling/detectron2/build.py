"""From the MODEL section of a detectron2 config to the model that it describes, number for number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from drivetrain.errors import ModelError, did_you_mean
from drivetrain.modeling.preprocess import Preprocess

from .adapter import Detector
from .anchors import AnchorGenerator
from .box_head import BoxHead, BoxPredictor, PredictorOptions
from .fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from .keypoint_head import KeypointHead
from .mask_head import MaskHead
from .pooler import ROIPooler
from .rcnn import GeneralizedRCNN
from .regression import BoxLoss
from .resnet import ResNet, ResNetOptions, make_stage
from .retinanet import RetinaNet, RetinaNetHead, RetinaNetOptions
from .roi_heads import Branches, ROIHeads, SamplingOptions
from .rpn import RPN, RPNOptions

__all__ = ["build_detectron2_model"]


def build_detectron2_model(cfg: Any) -> nn.Module:
    """The model of ``cfg.MODEL``, with random weights, on the CPU.

    Args:
        cfg: a config with detectron2's keys; read are MODEL, and TEST.DETECTIONS_PER_IMAGE.

    Raises:
        ModelError: a part has no counterpart here, or values do not fit together; the message names the key.
    """
    builders: dict[str, Callable[[Any], Detector]] = {"GeneralizedRCNN": _rcnn, "RetinaNet": _retinanet}
    model: Detector = _choice("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, builders)(cfg)
    return model


def _choice(key: str, name: str, known: dict[str, Any]) -> Any:
    """What ``name`` stands for.

    Raises:
        ModelError: nothing.
    """
    if name not in known:
        raise ModelError(
            f"{key} {name!r} has no counterpart here{did_you_mean(name, known) or ';'} there are {', '.join(known)}"
        )
    return known[name]


# Backbones: each gives the network, its feature names, their strides and their channels

_Backbone = tuple[nn.Module, dict[str, int], dict[str, int]]


def _resnet_options(cfg: Any) -> ResNetOptions:
    section = cfg.MODEL.RESNETS
    if any(section.DEFORM_ON_PER_STAGE):
        raise ModelError("MODEL.RESNETS.DEFORM_ON_PER_STAGE: deformable convolutions have no counterpart here")
    return ResNetOptions(
        depth=section.DEPTH,
        norm=section.NORM,
        num_groups=section.NUM_GROUPS,
        width_per_group=section.WIDTH_PER_GROUP,
        stride_in_1x1=section.STRIDE_IN_1X1,
        res5_dilation=section.RES5_DILATION,
        res2_out_channels=section.RES2_OUT_CHANNELS,
        stem_out_channels=section.STEM_OUT_CHANNELS,
    )


def _resnet(cfg: Any) -> ResNet:
    return ResNet(_resnet_options(cfg), cfg.MODEL.RESNETS.OUT_FEATURES, cfg.MODEL.BACKBONE.FREEZE_AT)


def _plain_backbone(cfg: Any) -> _Backbone:
    net = _resnet(cfg)
    return net, net.strides, net.channels


def _fpn_backbone(cfg: Any) -> _Backbone:
    return _with_pyramid(cfg, lambda net, channels: LastLevelMaxPool())


def _retinanet_backbone(cfg: Any) -> _Backbone:
    return _with_pyramid(cfg, lambda net, channels: LastLevelP6P7(net.channels["res5"], channels))


def _with_pyramid(cfg: Any, top: Callable[[ResNet, int], Any]) -> _Backbone:
    section, net = cfg.MODEL.FPN, _resnet(cfg)
    channels = section.OUT_CHANNELS
    pyramid = FPN(net, section.IN_FEATURES, channels, top(net, channels), norm=section.NORM, fuse=section.FUSE_TYPE)
    return pyramid, pyramid.strides, dict.fromkeys(pyramid.strides, channels)


_BACKBONES: dict[str, Callable[[Any], _Backbone]] = {
    "build_resnet_backbone": _plain_backbone,
    "build_resnet_fpn_backbone": _fpn_backbone,
    "build_retinanet_resnet_fpn_backbone": _retinanet_backbone,
}


def _backbone(cfg: Any) -> _Backbone:
    made: _Backbone = _choice("MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME, _BACKBONES)(cfg)
    return made


def _features(key: str, names: Any, strides: dict[str, int]) -> list[str]:
    missing = [name for name in names if name not in strides]
    if missing or not names:
        raise ModelError(f"{key} {list(names)!r} must be of the backbone's features {', '.join(strides)}")
    return list(names)


# Parts that several architectures share


def _preprocess(cfg: Any, strides: dict[str, int]) -> Preprocess:
    # A pyramid needs whole cells on its coarsest stage of the ResNet; other backbones take any size.
    divisibility = 32 if any(name.startswith("p") for name in strides) else 1
    return Preprocess(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, divisibility)


def _anchors(cfg: Any, strides: list[int]) -> AnchorGenerator:
    section = cfg.MODEL.ANCHOR_GENERATOR
    _choice("MODEL.ANCHOR_GENERATOR.NAME", section.NAME, {"DefaultAnchorGenerator": None})
    return AnchorGenerator(section.SIZES, section.ASPECT_RATIOS, strides, section.OFFSET)


def _thresholds(key: str, section: Any, labels: list[int]) -> tuple[float, float]:
    """The two limits of a matcher, below which is background and from which on objects are."""
    if list(section.IOU_LABELS) != labels or len(section.IOU_THRESHOLDS) != len(labels) - 1:
        raise ModelError(f"{key}.IOU_LABELS must be {labels}, with a threshold between each two of them")
    return float(section.IOU_THRESHOLDS[0]), float(section.IOU_THRESHOLDS[-1])


# Two stages


def _rcnn(cfg: Any) -> GeneralizedRCNN:
    model = cfg.MODEL
    _choice("MODEL.PROPOSAL_GENERATOR.NAME", model.PROPOSAL_GENERATOR.NAME, {"RPN": None})
    backbone, strides, channels = _backbone(cfg)
    rpn_features = _features("MODEL.RPN.IN_FEATURES", model.RPN.IN_FEATURES, strides)
    roi_features = _features("MODEL.ROI_HEADS.IN_FEATURES", model.ROI_HEADS.IN_FEATURES, strides)
    anchors = _anchors(cfg, [strides[name] for name in rpn_features])
    rpn = RPN(channels[rpn_features[0]], anchors, _rpn_options(cfg), model.RPN.CONV_DIMS)
    heads = _choice(
        "MODEL.ROI_HEADS.NAME",
        model.ROI_HEADS.NAME,
        {"StandardROIHeads": _standard_heads, "Res5ROIHeads": _res5_heads},
    )(cfg, [strides[name] for name in roi_features], channels[roi_features[0]])
    return GeneralizedRCNN(backbone, rpn, heads, _preprocess(cfg, strides), rpn_features, roi_features)


def _rpn_options(cfg: Any) -> RPNOptions:
    section = cfg.MODEL.RPN
    _choice("MODEL.RPN.HEAD_NAME", section.HEAD_NAME, {"StandardRPNHead": None})
    return RPNOptions(
        loss=BoxLoss(section.BBOX_REG_WEIGHTS, section.BBOX_REG_LOSS_TYPE, section.SMOOTH_L1_BETA),
        iou_thresholds=_thresholds("MODEL.RPN", section, [0, -1, 1]),
        batch_size_per_image=section.BATCH_SIZE_PER_IMAGE,
        positive_fraction=section.POSITIVE_FRACTION,
        pre_nms_topk=(section.PRE_NMS_TOPK_TRAIN, section.PRE_NMS_TOPK_TEST),
        post_nms_topk=(section.POST_NMS_TOPK_TRAIN, section.POST_NMS_TOPK_TEST),
        nms_thresh=section.NMS_THRESH,
        min_size=cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
        boundary_thresh=section.BOUNDARY_THRESH,
        loss_weight=section.LOSS_WEIGHT,
        box_loss_weight=section.BBOX_REG_LOSS_WEIGHT,
    )


def _sampling(cfg: Any) -> SamplingOptions:
    section = cfg.MODEL.ROI_HEADS
    return SamplingOptions(
        iou_threshold=_thresholds("MODEL.ROI_HEADS", section, [0, 1])[0],
        batch_size_per_image=section.BATCH_SIZE_PER_IMAGE,
        positive_fraction=section.POSITIVE_FRACTION,
        append_gt=section.PROPOSAL_APPEND_GT,
    )


def _predictor(cfg: Any, channels: int) -> BoxPredictor:
    section, heads = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_HEADS
    options = PredictorOptions(
        num_classes=heads.NUM_CLASSES,
        loss=BoxLoss(section.BBOX_REG_WEIGHTS, section.BBOX_REG_LOSS_TYPE, section.SMOOTH_L1_BETA),
        class_agnostic=section.CLS_AGNOSTIC_BBOX_REG,
        score_thresh=heads.SCORE_THRESH_TEST,
        nms_thresh=heads.NMS_THRESH_TEST,
        detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
        box_loss_weight=section.BBOX_REG_LOSS_WEIGHT,
    )
    return BoxPredictor(channels, options)


def _pooler(section: Any, strides: list[int]) -> ROIPooler:
    return ROIPooler(section.POOLER_RESOLUTION, strides, section.POOLER_SAMPLING_RATIO, section.POOLER_TYPE)


def _standard_heads(cfg: Any, strides: list[int], channels: int) -> ROIHeads:
    section, model = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL
    if section.TRAIN_ON_PRED_BOXES:
        raise ModelError("MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES True has no counterpart here: leave it False")
    _choice("MODEL.ROI_BOX_HEAD.NAME", section.NAME or "FastRCNNConvFCHead", {"FastRCNNConvFCHead": None})
    head = BoxHead(
        channels,
        section.POOLER_RESOLUTION,
        (section.CONV_DIM,) * section.NUM_CONV,
        (section.FC_DIM,) * section.NUM_FC,
        section.NORM,
    )
    keypoints = model.ROI_KEYPOINT_HEAD
    return ROIHeads(
        _sampling(cfg),
        _pooler(section, strides),
        head,
        _predictor(cfg, head.channels),
        mask=(_pooler(model.ROI_MASK_HEAD, strides), _mask_head(cfg, channels)) if model.MASK_ON else None,
        keypoint=(_pooler(keypoints, strides), _keypoint_head(cfg, channels)) if model.KEYPOINT_ON else None,
        branches=Branches(keypoints.LOSS_WEIGHT, keypoints.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS),
    )


def _res5_heads(cfg: Any, strides: list[int], channels: int) -> ROIHeads:
    if cfg.MODEL.KEYPOINT_ON:
        raise ModelError("MODEL.KEYPOINT_ON: Res5ROIHeads have no keypoints, neither here nor in detectron2")
    stage, out_channels = make_stage(3, _resnet_options(cfg), channels)
    return ROIHeads(
        _sampling(cfg),
        _pooler(cfg.MODEL.ROI_BOX_HEAD, strides),
        stage,
        _predictor(cfg, out_channels),
        head_name="res5",
        mask=(None, _mask_head(cfg, out_channels)) if cfg.MODEL.MASK_ON else None,
    )


def _mask_head(cfg: Any, channels: int) -> MaskHead:
    section = cfg.MODEL.ROI_MASK_HEAD
    _choice("MODEL.ROI_MASK_HEAD.NAME", section.NAME, {"MaskRCNNConvUpsampleHead": None})
    return MaskHead(
        channels,
        cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        section.NUM_CONV,
        section.CONV_DIM,
        section.NORM,
        section.CLS_AGNOSTIC_MASK,
    )


def _keypoint_head(cfg: Any, channels: int) -> KeypointHead:
    section = cfg.MODEL.ROI_KEYPOINT_HEAD
    _choice("MODEL.ROI_KEYPOINT_HEAD.NAME", section.NAME, {"KRCNNConvDeconvUpsampleHead": None})
    return KeypointHead(channels, section.NUM_KEYPOINTS, section.CONV_DIMS)


# One stage


def _retinanet(cfg: Any) -> RetinaNet:
    section = cfg.MODEL.RETINANET
    backbone, strides, channels = _backbone(cfg)
    features = _features("MODEL.RETINANET.IN_FEATURES", section.IN_FEATURES, strides)
    anchors = _anchors(cfg, [strides[name] for name in features])
    options = RetinaNetOptions(
        num_classes=section.NUM_CLASSES,
        loss=BoxLoss(section.BBOX_REG_WEIGHTS, section.BBOX_REG_LOSS_TYPE, section.SMOOTH_L1_LOSS_BETA),
        iou_thresholds=_thresholds("MODEL.RETINANET", section, [0, -1, 1]),
        num_convs=section.NUM_CONVS,
        norm=section.NORM,
        prior_prob=section.PRIOR_PROB,
        focal_loss_alpha=section.FOCAL_LOSS_ALPHA,
        focal_loss_gamma=section.FOCAL_LOSS_GAMMA,
        score_thresh=section.SCORE_THRESH_TEST,
        topk_candidates=section.TOPK_CANDIDATES_TEST,
        nms_thresh=section.NMS_THRESH_TEST,
        detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
    )
    head = RetinaNetHead(channels[features[0]], anchors.num_anchors, options)
    return RetinaNet(backbone, head, anchors, _preprocess(cfg, strides), features, options)
