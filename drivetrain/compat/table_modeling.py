"""The table's part for models and layers."""

from __future__ import annotations

from types import MappingProxyType

from .entries import Names, same

__all__ = ["MODELING", "MODELING_MODULES"]

_ARCHITECTURES = same("drivetrain.compat.modeling", "GeneralizedRCNN RetinaNet") | same(
    "drivetrain.compat.registry", "META_ARCH_REGISTRY"
)
_BUILD = same("drivetrain.modeling", "build_model")
_LAYERS = same("drivetrain.compat.layers", "Conv2d ShapeSpec batched_nms cat get_norm nonzero_tuple") | {
    "FrozenBatchNorm2d": "torchvision.ops:FrozenBatchNorm2d",
    **{name: f"torch.nn:{name}" for name in ("BatchNorm2d", "ConvTranspose2d", "Linear")},
    "interpolate": "torch.nn.functional:interpolate",
    "cross_entropy": "torch.nn.functional:cross_entropy",
}

MODELING: MappingProxyType[str, Names] = MappingProxyType(
    {
        "detectron2.modeling": {
            **_ARCHITECTURES,
            **_BUILD,
            **same("drivetrain.compat.tta", "GeneralizedRCNNWithTTA DatasetMapperTTA"),
        },
        "detectron2.modeling.meta_arch": {**_ARCHITECTURES, **_BUILD},
        "detectron2.modeling.meta_arch.build": {
            **_BUILD,
            **same("drivetrain.compat.registry", "META_ARCH_REGISTRY"),
        },
        "detectron2.modeling.meta_arch.rcnn": same("drivetrain.compat.modeling", "GeneralizedRCNN"),
        "detectron2.modeling.meta_arch.retinanet": same("drivetrain.compat.modeling", "RetinaNet"),
        "detectron2.modeling.test_time_augmentation": same(
            "drivetrain.compat.tta", "GeneralizedRCNNWithTTA DatasetMapperTTA"
        ),
        "detectron2.layers": _LAYERS,
        "detectron2.layers.wrappers": same("drivetrain.compat.layers", "Conv2d cat nonzero_tuple"),
        "detectron2.layers.batch_norm": {
            **same("drivetrain.compat.layers", "get_norm"),
            "FrozenBatchNorm2d": "torchvision.ops:FrozenBatchNorm2d",
        },
        "detectron2.layers.nms": same("drivetrain.compat.layers", "batched_nms"),
        "detectron2.layers.shape_spec": same("drivetrain.compat.layers", "ShapeSpec"),
    }
)

MODELING_MODULES: Names = MappingProxyType({})
