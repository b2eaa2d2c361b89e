"""A small Mask R-CNN on drawn shapes, from the parts that configs in Python share."""

import os

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.model_zoo import get_config
from detectron2.modeling.backbone import BasicStem, ResNet
from detectron2.modeling.backbone.resnet import BasicBlock
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

from .data import dataloader  # noqa: F401 - a part of this config

WIDTHS = [8, 16, 24, 32]

model = get_config("common/models/mask_rcnn_fpn.py").model
model.backbone.bottom_up.stem = L(BasicStem)(in_channels=3, out_channels=8, norm="BN")
model.backbone.bottom_up.stages = [
    L(ResNet.make_stage)(
        block_class=BasicBlock,
        num_blocks=1,
        stride_per_block=[1 if i == 0 else 2],
        in_channels=WIDTHS[max(i - 1, 0)],
        out_channels=width,
        norm="BN",
    )
    for i, width in enumerate(WIDTHS)
]
model.backbone.out_channels = 32
model.proposal_generator.head.in_channels = 32
model.proposal_generator.anchor_generator.sizes = [[8], [16], [32], [64], [128]]
model.proposal_generator.post_nms_topk = (50, 20)
model.roi_heads.num_classes = 3
model.roi_heads.batch_size_per_image = 16
model.roi_heads.box_head.update(input_shape=ShapeSpec(channels=32, height=7, width=7), fc_dims=[32])
model.roi_heads.box_predictor.update(input_shape=ShapeSpec(channels=32), test_score_thresh=0.0)
model.roi_heads.mask_head.update(input_shape=ShapeSpec(channels=32, width=14, height=14), conv_dims=[16, 16])

optimizer = get_config("common/optim.py").SGD
optimizer.lr = 0.01

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1], milestones=[2, 4]),
    warmup_length=0.25,
    warmup_method="linear",
    warmup_factor=0.5,
)

train = get_config("common/train.py").train
train.device = "cpu"
train.max_iter = 4
train.eval_period = 4
train.log_period = 1
train.output_dir = os.path.join(os.getcwd(), "output")
train.checkpointer.period = 2
train.seed = 3
