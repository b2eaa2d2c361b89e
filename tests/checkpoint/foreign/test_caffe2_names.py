"""Names of Caffe2 and torchvision, against the names that the models have."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import resnet50

from drivetrain.checkpoint.foreign.caffe2_names import from_caffe2, from_torchvision, is_caffe2, is_torchvision
from drivetrain.compat.model_zoo import get_config
from drivetrain.modeling.detectron2 import build_detectron2_model

NAMES = {
    "conv1_w": "stem.conv1.weight",
    "res_conv1_bn_s": "stem.conv1.norm.weight",
    "res_conv1_bn_riv": "stem.conv1.norm.running_var",
    "res_conv1_bn_rm": "stem.conv1.norm.running_mean",
    "res2_0_branch1_w": "res2.0.shortcut.weight",
    "res2_0_branch1_bn_b": "res2.0.shortcut.norm.bias",
    "res2_0_branch2a_w": "res2.0.conv1.weight",
    "res4_22_branch2c_bn_s": "res4.22.conv3.norm.weight",
    "conv1_gn_s": "stem.conv1.norm.weight",
    "fpn_inner_res5_2_sum_w": "fpn_lateral5.weight",
    "fpn_inner_res4_5_sum_lateral_b": "fpn_lateral4.bias",
    "fpn_res2_2_sum_w": "fpn_output2.weight",
    "conv_rpn_fpn2_w": "rpn_head.conv.weight",
    "rpn_cls_logits_b": "rpn_head.objectness_logits.bias",
    "rpn_bbox_pred_fpn2_w": "rpn_head.anchor_deltas.weight",
    "fc6_w": "box_head.fc1.weight",
    "fc7_b": "box_head.fc2.bias",
    "cls_score_w": "box_predictor.cls_score.weight",
    "_[mask]_fcn1_w": "mask_head.mask_fcn1.weight",
    "conv5_mask_b": "mask_head.deconv.bias",
    "mask_fcn_logits_w": "mask_head.predictor.weight",
    "conv_fcn8_w": "keypoint_head.conv_fcn8.weight",
    "kps_score_lowres_w": "keypoint_head.score_lowres.weight",
    "backbone.stem.conv1.weight": "backbone.stem.conv1.weight",
}


@pytest.mark.parametrize("name", NAMES)
def test_caffe2(name: str) -> None:
    assert from_caffe2(name) == NAMES[name]


@pytest.mark.parametrize("kind", ["InstanceSegmentation/mask", "Keypoints/keypoint"])
def test_each_name_ends_a_name_of_a_model(kind: str) -> None:
    with torch.device("meta"):
        model = build_detectron2_model(get_config(f"COCO-{kind}_rcnn_R_101_FPN_3x.yaml"))
    other = "keypoint_head" if "mask" in kind else "mask_head"
    known = list(model.state_dict())
    for name in NAMES.values():
        if not name.startswith(("backbone.", other)):
            assert sum(own.endswith(f".{name}") for own in known) == 1, name


def test_torchvision() -> None:
    with torch.device("meta"):
        theirs = resnet50().state_dict()
        ours = build_detectron2_model(get_config("COCO-Detection/retinanet_R_50_FPN_1x.yaml")).state_dict()
    prefix = "backbone.bottom_up."
    expected = {n.removeprefix(prefix): v.shape for n, v in ours.items() if n.startswith(prefix)}
    renamed = {from_torchvision(name): value.shape for name, value in theirs.items()}
    assert is_torchvision(theirs) and not is_caffe2(theirs) and is_caffe2(NAMES)
    extra = {name for name in renamed if name not in expected}
    assert {n for n in extra if not n.endswith("num_batches_tracked")} == {"fc.weight", "fc.bias"}
    assert {name: shape for name, shape in renamed.items() if name in expected} == expected
