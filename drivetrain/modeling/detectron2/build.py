"""From the MODEL section of a detectron2 config to the model that it describes, number for number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from drivetrain.errors import ModelError, did_you_mean
from drivetrain.modeling.preprocess import Preprocess

from .adapter import Detector, preprocess_for
from .anchors import build_anchors
from .backbones import build_backbone, resnet_options
from .box_head import BoxHead, BoxPredictor, PredictorOptions
from .dense import DenseHead
from .fcos import FCOS, FCOSHead, FCOSOptions
from .keypoint_head import KeypointHead
from .layers import ShapeSpec
from .mask_head import MaskHead
from .pooler import ROIPooler
from .rcnn import GeneralizedRCNN
from .regression import BoxLoss
from .resnet import make_stage
from .retinanet import RetinaNet, RetinaNetOptions
from .roi_heads import ROIHeads, SamplingOptions
from .rpn import RPN, RPNHead, RPNOptions

__all__ = ["build_detectron2_model"]


def build_detectron2_model(cfg: Any) -> nn.Module:
    """The model of ``cfg.MODEL``, with random weights, on the CPU.

    Args:
        cfg: a config with detectron2's keys; read are MODEL, and TEST.DETECTIONS_PER_IMAGE.

    Raises:
        ModelError: a part has no counterpart here, or values do not fit together; the message names the key.
    """
    builders: dict[str, Callable[[Any], Detector]] = {"GeneralizedRCNN": _rcnn, "RetinaNet": _retinanet, "FCOS": _fcos}
    model: Detector = _choice("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, builders)(cfg)
    return model


def _choice(key: str, name: str, known: dict[str, Any]) -> Any:
    """What ``name`` stands for.

    Raises:
        ModelError: nothing.
    """
    if name not in known:
        raise ModelError(
            f"{key} {name!r} has no counterpart here{did_you_mean(name, known) or ';'} there are {', '.join(known)}; "
            "an architecture or part of your own goes into a class registered with META_ARCH_REGISTRY, in a file that "
            "is imported"
        )
    return known[name]


# Parts that several architectures share

_Shapes = dict[str, ShapeSpec]
"""Of the feature maps that a part looks at, by name."""


def _shapes(key: str, names: Any, backbone: Any) -> _Shapes:
    shapes = backbone.output_shape()
    if not names or any(name not in shapes for name in names):
        raise ModelError(f"{key} {list(names)!r} must be of the backbone's features {', '.join(shapes)}")
    return {name: shapes[name] for name in names}


def _channels(shapes: _Shapes) -> int:
    return next(iter(shapes.values())).channels or 0


def _strides(shapes: _Shapes) -> list[int]:
    return [shape.stride or 0 for shape in shapes.values()]


def _preprocess(cfg: Any, backbone: nn.Module) -> Preprocess:
    return preprocess_for(backbone, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)


def _thresholds(key: str, section: Any, labels: list[int]) -> tuple[float, float]:
    """The two limits of a matcher, below which is background and from which on objects are."""
    if list(section.IOU_LABELS) != labels or len(section.IOU_THRESHOLDS) != len(labels) - 1:
        raise ModelError(f"{key}.IOU_LABELS must be {labels}, with a threshold between each two of them")
    return float(section.IOU_THRESHOLDS[0]), float(section.IOU_THRESHOLDS[-1])


# Two stages


def _rcnn(cfg: Any) -> GeneralizedRCNN:
    model = cfg.MODEL
    _choice("MODEL.PROPOSAL_GENERATOR.NAME", model.PROPOSAL_GENERATOR.NAME, {"RPN": None})
    backbone = build_backbone(cfg)
    rpn = _rpn(cfg, _shapes("MODEL.RPN.IN_FEATURES", model.RPN.IN_FEATURES, backbone))
    heads = {"StandardROIHeads": _standard_heads, "Res5ROIHeads": _res5_heads}
    roi_heads = _choice("MODEL.ROI_HEADS.NAME", model.ROI_HEADS.NAME, heads)(
        cfg, _shapes("MODEL.ROI_HEADS.IN_FEATURES", model.ROI_HEADS.IN_FEATURES, backbone)
    )
    return GeneralizedRCNN(backbone, rpn, roi_heads, _preprocess(cfg, backbone))


def _rpn(cfg: Any, shapes: _Shapes) -> RPN:
    anchors = build_anchors(cfg, list(shapes.values()))
    head = RPNHead(_channels(shapes), anchors.num_anchors, cfg.MODEL.RPN.CONV_DIMS)
    return RPN(list(shapes), head, anchors, _rpn_options(cfg))


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


def _standard_heads(cfg: Any, shapes: _Shapes) -> ROIHeads:
    section, model = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL
    strides, channels = _strides(shapes), _channels(shapes)
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
    return ROIHeads(
        list(shapes),
        _sampling(cfg),
        _pooler(section, strides),
        head,
        _predictor(cfg, head.channels),
        mask=(_pooler(model.ROI_MASK_HEAD, strides), _mask_head(cfg, channels)) if model.MASK_ON else None,
        keypoint=(_pooler(model.ROI_KEYPOINT_HEAD, strides), _keypoint_head(cfg, channels))
        if model.KEYPOINT_ON
        else None,
    )


def _res5_heads(cfg: Any, shapes: _Shapes) -> ROIHeads:
    if cfg.MODEL.KEYPOINT_ON:
        raise ModelError("MODEL.KEYPOINT_ON: Res5ROIHeads have no keypoints, neither here nor in detectron2")
    options = resnet_options(cfg)
    stage, out_channels = make_stage(3, options, _channels(shapes)), options.res2_out_channels * 8
    return ROIHeads(
        list(shapes),
        _sampling(cfg),
        _pooler(cfg.MODEL.ROI_BOX_HEAD, _strides(shapes)),
        stage,
        _predictor(cfg, out_channels),
        head_name="res5",
        mask=(None, _mask_head(cfg, out_channels)) if cfg.MODEL.MASK_ON else None,
    )


def _mask_head(cfg: Any, channels: int) -> MaskHead:
    section = cfg.MODEL.ROI_MASK_HEAD
    _choice("MODEL.ROI_MASK_HEAD.NAME", section.NAME, {"MaskRCNNConvUpsampleHead": None})
    num_classes = 1 if section.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES
    return MaskHead(channels, num_classes, [section.CONV_DIM] * (section.NUM_CONV + 1), section.NORM)


def _keypoint_head(cfg: Any, channels: int) -> KeypointHead:
    section = cfg.MODEL.ROI_KEYPOINT_HEAD
    _choice("MODEL.ROI_KEYPOINT_HEAD.NAME", section.NAME, {"KRCNNConvDeconvUpsampleHead": None})
    normalizer = None
    if not section.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS:
        heads = cfg.MODEL.ROI_HEADS
        normalizer = section.NUM_KEYPOINTS * heads.BATCH_SIZE_PER_IMAGE * heads.POSITIVE_FRACTION
    return KeypointHead(
        channels, section.NUM_KEYPOINTS, section.CONV_DIMS, loss_weight=section.LOSS_WEIGHT, normalizer=normalizer
    )


# One stage


def _retinanet(cfg: Any) -> RetinaNet:
    section, backbone = cfg.MODEL.RETINANET, build_backbone(cfg)
    shapes = _shapes("MODEL.RETINANET.IN_FEATURES", section.IN_FEATURES, backbone)
    channels, anchors = _channels(shapes), build_anchors(cfg, list(shapes.values()))
    options = RetinaNetOptions(
        **_dense_numbers(cfg, section),
        loss=BoxLoss(section.BBOX_REG_WEIGHTS, section.BBOX_REG_LOSS_TYPE, section.SMOOTH_L1_LOSS_BETA),
        iou_thresholds=_thresholds("MODEL.RETINANET", section, [0, -1, 1]),
    )
    head = DenseHead(channels, len(shapes), anchors.num_anchors, section.NUM_CLASSES, **_towers(section, channels))
    return RetinaNet(backbone, head, anchors, _preprocess(cfg, backbone), list(shapes), options)


def _fcos(cfg: Any) -> FCOS:
    section, backbone = cfg.MODEL.FCOS, build_backbone(cfg)
    shapes = _shapes("MODEL.FCOS.IN_FEATURES", section.IN_FEATURES, backbone)
    channels = _channels(shapes)
    options = FCOSOptions(**_dense_numbers(cfg, section), center_sampling_radius=section.CENTER_SAMPLING_RADIUS)
    head = FCOSHead(channels, len(shapes), section.NUM_CLASSES, **_towers(section, channels))
    return FCOS(backbone, head, _strides(shapes), _preprocess(cfg, backbone), list(shapes), options)


def _towers(section: Any, channels: int) -> dict[str, Any]:
    """What their heads have in common, as arguments of :class:`DenseHead`."""
    return {"conv_dims": [channels] * section.NUM_CONVS, "norm": section.NORM, "prior_prob": section.PRIOR_PROB}


def _dense_numbers(cfg: Any, section: Any) -> dict[str, Any]:
    """What the sections of one-stage detectors have in common, as arguments of :class:`DenseOptions`."""
    return {
        "num_classes": section.NUM_CLASSES,
        "focal_loss_alpha": section.FOCAL_LOSS_ALPHA,
        "focal_loss_gamma": section.FOCAL_LOSS_GAMMA,
        "score_thresh": section.SCORE_THRESH_TEST,
        "topk_candidates": section.TOPK_CANDIDATES_TEST,
        "nms_thresh": section.NMS_THRESH_TEST,
        "detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
    }
