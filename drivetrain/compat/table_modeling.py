"""The table's part for models and layers."""

from __future__ import annotations

from types import MappingProxyType

from .entries import Names, same

__all__ = ["MODELING", "MODELING_MODULES"]

_ARCHITECTURES = same("drivetrain.compat.modeling", "FCOS GeneralizedRCNN RetinaNet") | same(
    "drivetrain.compat.registry", "META_ARCH_REGISTRY"
)
_BUILD = same("drivetrain.compat.modeling", "build_model")
_RESNET = same("drivetrain.compat.backbones", "ResNet") | same(
    "drivetrain.modeling.detectron2.resnet", "BasicBlock BasicStem BottleneckBlock"
)
_BUILDERS = {
    "BACKBONE_REGISTRY": "drivetrain.modeling.detectron2.backbones:BACKBONES",
    **same("drivetrain.modeling.detectron2.backbones", "build_backbone build_resnet_backbone"),
}
_PYRAMID = same("drivetrain.modeling.detectron2.fpn", "FPN LastLevelMaxPool LastLevelP6P7")
_PYRAMID_BUILDERS = same(
    "drivetrain.modeling.detectron2.backbones", "build_resnet_fpn_backbone build_retinanet_resnet_fpn_backbone"
)
_BACKBONES = {
    **_RESNET,
    **_BUILDERS,
    **same("drivetrain.compat.backbones", "Backbone"),
    **same("drivetrain.modeling.detectron2.fpn", "FPN"),
}
_ANCHORS = {
    "ANCHOR_GENERATOR_REGISTRY": "drivetrain.modeling.detectron2.anchors:ANCHOR_GENERATORS",
    **same("drivetrain.compat.anchors", "DefaultAnchorGenerator build_anchor_generator"),
}
_ROI_HEADS = same("drivetrain.compat.heads", "Res5ROIHeads StandardROIHeads")
_BOX_HEADS = same("drivetrain.compat.heads", "FastRCNNConvFCHead")
_OUTPUTS = same("drivetrain.compat.heads", "FastRCNNOutputLayers")
_MASK_HEADS = same("drivetrain.compat.heads", "MaskRCNNConvUpsampleHead")
_KEYPOINT_HEADS = same("drivetrain.compat.heads", "KRCNNConvDeconvUpsampleHead")
_FROZEN = same("drivetrain.compat.layers", "FrozenBatchNorm2d")
_BOX_LOSSES = {
    "ciou_loss": "torchvision.ops:complete_box_iou_loss",
    "diou_loss": "torchvision.ops:distance_box_iou_loss",
}
_LAYERS = {
    **same("drivetrain.compat.layers", "CNNBlockBase Conv2d ShapeSpec batched_nms cat get_norm nonzero_tuple"),
    **_FROZEN,
    **_BOX_LOSSES,
    "nms": "torchvision.ops:nms",
    **{name: f"torch.nn:{name}" for name in ("BatchNorm2d", "ConvTranspose2d", "Linear")},
    "interpolate": "torch.nn.functional:interpolate",
    "cross_entropy": "torch.nn.functional:cross_entropy",
}

MODELING: MappingProxyType[str, Names] = MappingProxyType(
    {
        "detectron2.modeling": {
            **_ARCHITECTURES,
            **_BUILD,
            **_BACKBONES,
            **same("drivetrain.modeling.detectron2.layers", "ShapeSpec"),
            **_PYRAMID_BUILDERS,
            **_ANCHORS,
            **same("drivetrain.compat.tta", "GeneralizedRCNNWithTTA DatasetMapperTTA"),
            **same("drivetrain.compat.postprocessing", "detector_postprocess"),
        },
        "detectron2.modeling.meta_arch": {**_ARCHITECTURES, **_BUILD},
        "detectron2.modeling.meta_arch.build": {
            **_BUILD,
            **same("drivetrain.compat.registry", "META_ARCH_REGISTRY"),
        },
        "detectron2.modeling.meta_arch.rcnn": same("drivetrain.compat.modeling", "GeneralizedRCNN"),
        "detectron2.modeling.meta_arch.retinanet": {
            **same("drivetrain.compat.modeling", "RetinaNet"),
            **same("drivetrain.compat.heads", "RetinaNetHead"),
        },
        "detectron2.modeling.meta_arch.fcos": {
            **same("drivetrain.compat.modeling", "FCOS"),
            **same("drivetrain.compat.heads", "FCOSHead"),
        },
        "detectron2.modeling.anchor_generator": {**_ANCHORS, **same("drivetrain.compat.anchors", "BufferList")},
        "detectron2.modeling.backbone": _BACKBONES,
        "detectron2.modeling.backbone.backbone": same("drivetrain.compat.backbones", "Backbone"),
        "detectron2.modeling.backbone.build": same("drivetrain.modeling.detectron2.backbones", "build_backbone")
        | {"BACKBONE_REGISTRY": _BUILDERS["BACKBONE_REGISTRY"]},
        "detectron2.modeling.backbone.fpn": {**_PYRAMID, **_PYRAMID_BUILDERS},
        "detectron2.modeling.backbone.resnet": {
            **_RESNET,
            **same("drivetrain.modeling.detectron2.backbones", "build_resnet_backbone"),
            "ResNetBlockBase": "drivetrain.compat.layers:CNNBlockBase",
        },
        "detectron2.modeling.box_regression": same("drivetrain.compat.matching", "Box2BoxTransform"),
        "detectron2.modeling.matcher": same("drivetrain.compat.matching", "Matcher"),
        "detectron2.modeling.poolers": same("drivetrain.compat.heads", "ROIPooler"),
        "detectron2.modeling.postprocessing": same(
            "drivetrain.compat.postprocessing", "detector_postprocess sem_seg_postprocess"
        ),
        "detectron2.modeling.proposal_generator": same("drivetrain.compat.heads", "RPN"),
        "detectron2.modeling.proposal_generator.rpn": same("drivetrain.compat.heads", "RPN StandardRPNHead"),
        "detectron2.modeling.roi_heads": {
            **_ROI_HEADS,
            **_BOX_HEADS,
            **_OUTPUTS,
            **_MASK_HEADS,
            **_KEYPOINT_HEADS,
        },
        "detectron2.modeling.roi_heads.roi_heads": _ROI_HEADS,
        "detectron2.modeling.roi_heads.box_head": _BOX_HEADS,
        "detectron2.modeling.roi_heads.fast_rcnn": _OUTPUTS,
        "detectron2.modeling.roi_heads.mask_head": _MASK_HEADS,
        "detectron2.modeling.roi_heads.keypoint_head": _KEYPOINT_HEADS,
        "detectron2.modeling.sampling": same("drivetrain.compat.matching", "subsample_labels"),
        "detectron2.modeling.test_time_augmentation": same(
            "drivetrain.compat.tta", "GeneralizedRCNNWithTTA DatasetMapperTTA"
        ),
        "detectron2.layers": _LAYERS,
        "detectron2.layers.wrappers": same("drivetrain.compat.layers", "Conv2d cat nonzero_tuple"),
        "detectron2.layers.batch_norm": {
            **same("drivetrain.compat.layers", "get_norm"),
            **_FROZEN,
        },
        "detectron2.layers.blocks": same("drivetrain.compat.layers", "CNNBlockBase"),
        "detectron2.layers.losses": _BOX_LOSSES,
        "detectron2.layers.nms": {
            **same("drivetrain.compat.layers", "batched_nms"),
            "nms": "torchvision.ops:nms",
        },
        "detectron2.layers.shape_spec": same("drivetrain.compat.layers", "ShapeSpec"),
    }
)

MODELING_MODULES: Names = MappingProxyType({})
