"""detectron2's ``data.transforms`` on top of `drivetrain.data.transforms`: arrays (H, W, C) in and out."""

from __future__ import annotations

from .transforms_base import NoOpTransform, Transform, TransformList
from .transforms_color import (
    BlendTransform,
    ColorTransform,
    PILColorTransform,
    RandomBrightness,
    RandomContrast,
    RandomLighting,
    RandomSaturation,
)
from .transforms_geometry import (
    CropTransform,
    ExtentTransform,
    HFlipTransform,
    PadTransform,
    ResizeTransform,
    RotationTransform,
    VFlipTransform,
)
from .transforms_input import AugInput, Augmentation, AugmentationList, RandomApply, apply_augmentations
from .transforms_random import (
    FixedSizeCrop,
    MinIoURandomCrop,
    RandomCrop,
    RandomCrop_CategoryAreaConstraint,
    RandomExtent,
    RandomFlip,
    RandomRotation,
    Resize,
    ResizeScale,
    ResizeShortestEdge,
)

__all__ = [
    "AugInput",
    "Augmentation",
    "AugmentationList",
    "BlendTransform",
    "ColorTransform",
    "CropTransform",
    "ExtentTransform",
    "FixedSizeCrop",
    "HFlipTransform",
    "MinIoURandomCrop",
    "NoOpTransform",
    "PILColorTransform",
    "PadTransform",
    "RandomApply",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomCrop_CategoryAreaConstraint",
    "RandomExtent",
    "RandomFlip",
    "RandomLighting",
    "RandomRotation",
    "RandomSaturation",
    "Resize",
    "ResizeScale",
    "ResizeShortestEdge",
    "ResizeTransform",
    "RotationTransform",
    "StandardAugInput",
    "Transform",
    "TransformGen",
    "TransformList",
    "VFlipTransform",
    "apply_augmentations",
    "apply_transform_gens",
]

# Older names of detectron2's.
StandardAugInput = AugInput
TransformGen = Augmentation
apply_transform_gens = apply_augmentations
