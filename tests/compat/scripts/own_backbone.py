"""A network of one's own under a feature pyramid, and blocks of one's own in a ResNet, as others write them."""

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import CfgNode as CN
from detectron2.engine import DefaultTrainer
from detectron2.layers import CNNBlockBase, Conv2d, FrozenBatchNorm2d, ShapeSpec, get_norm, nms
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone, build_model
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BasicStem, ResNet
from shapes import register, report, small_cfg
from torch import nn


class Block(CNNBlockBase):
    def __init__(self, in_channels, out_channels, *, stride=1, norm="BN"):
        super().__init__(in_channels, out_channels, stride)
        norm = get_norm(norm, out_channels)
        self.conv1 = Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False, norm=norm)
        weight_init.c2_msra_fill(self.conv1)

    def forward(self, x):
        return nn.functional.relu(self.conv1(x))


class Slim(Backbone):
    def __init__(self, cfg, in_channels):
        super().__init__()
        self._out_features = cfg.MODEL.RESNETS.OUT_FEATURES
        self._out_feature_channels, self._out_feature_strides = {}, {}
        self.stem = Block(in_channels, 8, stride=2)
        channels, stride = 8, 2
        for name in ["res2", "res3", "res4", "res5"]:
            self.add_module(name, Block(channels, channels + cfg.MODEL.SLIM.GROWTH, stride=2))
            channels, stride = channels + cfg.MODEL.SLIM.GROWTH, stride * 2
            self._out_feature_channels[name], self._out_feature_strides[name] = channels, stride

    def forward(self, x):
        outputs, x = {}, self.stem(x)
        for name in ["res2", "res3", "res4", "res5"]:
            x = getattr(self, name)(x)
            if name in self._out_features:
                outputs[name] = x
        return outputs

    def freeze(self, freeze_at):
        if freeze_at >= 1:
            self.stem.freeze()
        if freeze_at >= 2:
            for p in self.res2.parameters():
                p.requires_grad = False
            FrozenBatchNorm2d.convert_frozen_batchnorm(self.res2)
        return self


def pyramid(cfg, bottom_up):
    assert isinstance(bottom_up, Backbone), bottom_up
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


@BACKBONE_REGISTRY.register()
def build_slim_fpn_backbone(cfg, input_shape: ShapeSpec):
    return pyramid(cfg, Slim(cfg, input_shape.channels).freeze(cfg.MODEL.BACKBONE.FREEZE_AT))


@BACKBONE_REGISTRY.register()
def build_block_fpn_backbone(cfg, input_shape: ShapeSpec):
    stem = BasicStem(in_channels=input_shape.channels, out_channels=8, norm="BN")
    stages, channels = [], 8
    for idx, width in enumerate([8, 16, 24, 32]):
        first_stride = 1 if idx == 0 else 2
        stages.append(ResNet.make_stage(Block, 2, first_stride, in_channels=channels, out_channels=width, norm="BN"))
        channels = width
    net = ResNet(stem, stages, out_features=cfg.MODEL.RESNETS.OUT_FEATURES)
    return pyramid(cfg, net.freeze(cfg.MODEL.BACKBONE.FREEZE_AT))


register()
facts = {}
for name in ("build_slim_fpn_backbone", "build_block_fpn_backbone"):
    cfg = small_cfg()
    cfg.MODEL.SLIM = CN()
    cfg.MODEL.SLIM.GROWTH = 4
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    cfg.DATASETS.TEST = ()
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    model = build_model(cfg)
    bottom_up = model.backbone.bottom_up
    frozen = [p for n, p in bottom_up.named_parameters() if n.startswith(("stem", "res2"))]
    facts[name] = [
        trainer.iter,
        isinstance(model.backbone, Backbone),
        any(p.requires_grad for p in frozen),
        sum(isinstance(m, FrozenBatchNorm2d) for m in model.modules()),
        model.backbone.output_shape()["p6"].stride,
    ]
boxes, scores = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30]]), torch.tensor([0.5, 0.9, 0.7])
report(kept=nms(boxes, scores, 0.5).tolist(), **facts)
