"""The networks that ``MODEL.BACKBONE.NAME`` names: detectron2's, and those of one's own.

::

    @BACKBONES.register()
    def build_mine(cfg, input_shape):
        return MyNet(channels=input_shape.channels)

A backbone turns images (N, C, H, W) into a dict of feature maps. Its ``output_shape()`` gives a :class:`ShapeSpec` with
channels and stride for each, and ``size_divisibility``, if it has one, what the images' sides have to be multiples of.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from drivetrain.errors import ModelError

from .fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from .layers import ShapeSpec
from .registry import Registry
from .resnet import ResNet, ResNetOptions, make_resnet

__all__ = [
    "BACKBONES",
    "build_backbone",
    "build_fcos_resnet_fpn_backbone",
    "build_resnet_backbone",
    "build_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone",
    "resnet_options",
]


def build_backbone(cfg: Any, input_shape: ShapeSpec | None = None) -> Any:
    """The network of ``MODEL.BACKBONE.NAME``.

    Args:
        cfg: a config with detectron2's keys.
        input_shape: of the images; by default they have as many channels as ``MODEL.PIXEL_MEAN``.

    Raises:
        ModelError: there is none of that name, or what is registered under it makes no backbone.
    """
    name = cfg.MODEL.BACKBONE.NAME
    try:
        builder = BACKBONES.get(name)
    except KeyError as error:
        raise ModelError(f"MODEL.BACKBONE.NAME {name!r} has no counterpart here: {error.args[0]}") from None
    backbone = builder(cfg, input_shape or ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN)))
    shapes = backbone.output_shape() if callable(getattr(backbone, "output_shape", None)) else {}
    known = all(shape.channels and shape.stride for shape in shapes.values())
    if not isinstance(backbone, nn.Module) or not shapes or not known:
        raise ModelError(
            f"the backbone that {name!r} (MODEL.BACKBONE.NAME) makes is {type(backbone).__name__}, but it has to be an "
            "nn.Module with an output_shape() that gives channels and stride of each feature map"
        )
    return backbone


def build_resnet_backbone(cfg: Any, input_shape: ShapeSpec | None = None) -> ResNet:
    """The ResNet of ``MODEL.RESNETS``."""
    channels = len(cfg.MODEL.PIXEL_MEAN) if input_shape is None else input_shape.channels
    features, freeze_at = cfg.MODEL.RESNETS.OUT_FEATURES, cfg.MODEL.BACKBONE.FREEZE_AT
    return make_resnet(resnet_options(cfg), features, freeze_at, in_channels=channels or 3)


def build_resnet_fpn_backbone(cfg: Any, input_shape: ShapeSpec | None = None) -> FPN:
    """A feature pyramid over it, with a level p6 by subsampling."""
    return _pyramid(cfg, build_resnet_backbone(cfg, input_shape), LastLevelMaxPool())


def build_retinanet_resnet_fpn_backbone(cfg: Any, input_shape: ShapeSpec | None = None) -> FPN:
    """A feature pyramid over it, with levels p6 and p7 from res5."""
    net = build_resnet_backbone(cfg, input_shape)
    if "res5" not in net.output_shape():
        raise ModelError(f"MODEL.RESNETS.OUT_FEATURES {list(net.out_features)!r} must have res5, from which p6 is made")
    channels = net.output_shape()["res5"].channels
    return _pyramid(cfg, net, LastLevelP6P7(channels or 0, cfg.MODEL.FPN.OUT_CHANNELS))


def build_fcos_resnet_fpn_backbone(cfg: Any, input_shape: ShapeSpec | None = None) -> FPN:
    """A feature pyramid over it, with levels p6 and p7 from p5."""
    channels = cfg.MODEL.FPN.OUT_CHANNELS
    return _pyramid(cfg, build_resnet_backbone(cfg, input_shape), LastLevelP6P7(channels, channels, "p5"))


def _pyramid(cfg: Any, net: ResNet, top: LastLevelMaxPool | LastLevelP6P7) -> FPN:
    section = cfg.MODEL.FPN
    return FPN(net, section.IN_FEATURES, section.OUT_CHANNELS, section.NORM, top, section.FUSE_TYPE)


def resnet_options(cfg: Any) -> ResNetOptions:
    """The numbers of ``MODEL.RESNETS``.

    Raises:
        ModelError: there are no such ResNets here.
    """
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


BACKBONES = Registry(
    "BACKBONE",
    (
        build_resnet_backbone,
        build_resnet_fpn_backbone,
        build_retinanet_resnet_fpn_backbone,
        build_fcos_resnet_fpn_backbone,
    ),
)
"""Functions or classes that make a backbone of a config and the shape of images."""
