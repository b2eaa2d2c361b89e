"""An architecture of one's own, registered by name and built from the config."""

from detectron2.config import CfgNode as CN
from detectron2.config import configurable
from detectron2.engine import DefaultTrainer
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN, build_model
from detectron2.utils.registry import Registry
from shapes import register, report, small_cfg
from torch import nn

HEADS = Registry("HEADS")


@HEADS.register()
class LossScale(nn.Module):
    @configurable
    def __init__(self, scale, *, channels=3):
        super().__init__()
        self.scale = scale
        self.stem = Conv2d(channels, 8, 3, padding=1, norm=get_norm("BN", 8), activation=nn.functional.relu)

    @classmethod
    def from_config(cls, cfg, input_shape):
        return {"scale": cfg.MODEL.MINE.SCALE, "channels": input_shape.channels}

    def forward(self, losses):
        return {name: value * self.scale for name, value in losses.items()}


@META_ARCH_REGISTRY.register()
class ScaledRCNN(GeneralizedRCNN):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.head = HEADS.get(cfg.MODEL.MINE.HEAD)(cfg, ShapeSpec(channels=3))

    def forward(self, batched_inputs):
        outputs = super().forward(batched_inputs)
        return self.head(outputs) if self.training else outputs


register()
cfg = small_cfg()
cfg.MODEL.MINE = CN({"SCALE": 0.5, "HEAD": "LossScale"})
cfg.MODEL.META_ARCHITECTURE = "ScaledRCNN"
cfg.DATASETS.TEST = ()
model = build_model(cfg)
trainer = DefaultTrainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()
report(built=type(model).__name__, trained=type(trainer.model).__name__, scale=model.head.scale, iteration=trainer.iter)
