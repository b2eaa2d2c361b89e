"""Augmentations: random changes of an image and of everything drawn on it, by explicit random generators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .base import Augmentation as Augmentation
    from .base import Compose as Compose
    from .base import NoOpTransform as NoOpTransform
    from .base import Transform as Transform
    from .base import TransformList as TransformList
    from .base import fixed as fixed
    from .build import build_augmentation as build_augmentation
    from .color import ColorJitter as ColorJitter
    from .color import ColorTransform as ColorTransform
    from .crop import CropTransform as CropTransform
    from .crop import RandomCrop as RandomCrop
    from .flip import FlipTransform as FlipTransform
    from .flip import RandomFlip as RandomFlip
    from .iou_crop import RandomIoUCrop as RandomIoUCrop
    from .pad import FixedSizeCrop as FixedSizeCrop
    from .pad import Letterbox as Letterbox
    from .pad import PadTransform as PadTransform
    from .resize import ResizeShortestEdge as ResizeShortestEdge
    from .resize import ResizeTransform as ResizeTransform
    from .resize import shortest_edge_size as shortest_edge_size
    from .rotate import RandomRotation as RandomRotation
    from .rotate import RotationTransform as RotationTransform
    from .scale import Resize as Resize
    from .scale import ResizeScale as ResizeScale
    from .scale import ResizeToFit as ResizeToFit
    from .torchvision import FromTorchvision as FromTorchvision
    from .torchvision import TorchvisionTransform as TorchvisionTransform

__all__ = [
    "Augmentation",
    "ColorJitter",
    "ColorTransform",
    "Compose",
    "CropTransform",
    "FixedSizeCrop",
    "FlipTransform",
    "FromTorchvision",
    "Letterbox",
    "NoOpTransform",
    "PadTransform",
    "RandomCrop",
    "RandomFlip",
    "RandomIoUCrop",
    "RandomRotation",
    "Resize",
    "ResizeScale",
    "ResizeShortestEdge",
    "ResizeToFit",
    "ResizeTransform",
    "RotationTransform",
    "TorchvisionTransform",
    "Transform",
    "TransformList",
    "build_augmentation",
    "fixed",
    "shortest_edge_size",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Augmentation": "base",
        "ColorJitter": "color",
        "ColorTransform": "color",
        "Compose": "base",
        "CropTransform": "crop",
        "FixedSizeCrop": "pad",
        "FlipTransform": "flip",
        "FromTorchvision": "torchvision",
        "Letterbox": "pad",
        "NoOpTransform": "base",
        "PadTransform": "pad",
        "RandomCrop": "crop",
        "RandomFlip": "flip",
        "RandomIoUCrop": "iou_crop",
        "RandomRotation": "rotate",
        "Resize": "scale",
        "ResizeScale": "scale",
        "ResizeShortestEdge": "resize",
        "ResizeToFit": "scale",
        "ResizeTransform": "resize",
        "RotationTransform": "rotate",
        "TorchvisionTransform": "torchvision",
        "Transform": "base",
        "TransformList": "base",
        "build_augmentation": "build",
        "fixed": "base",
        "shortest_edge_size": "resize",
    },
)
