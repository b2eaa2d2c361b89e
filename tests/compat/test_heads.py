"""Heads with detectron2's arguments; that their numbers arrive is tested with whole models in test_lazy_models.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from drivetrain.compat import heads
from drivetrain.compat.lazy import instantiate
from drivetrain.compat.lazy_models import mask_rcnn_fpn
from drivetrain.errors import ConfigError, ModelError
from drivetrain.modeling.detectron2.layers import ShapeSpec


@pytest.mark.parametrize(
    ("base", "name"),
    [
        (heads.RPN, "predict_proposals"),
        (heads.StandardROIHeads, "_forward_box"),
        (heads.Res5ROIHeads, "forward"),
        (heads.FastRCNNOutputLayers, "losses"),
    ],
)
def test_what_would_not_be_called_is_refused(base: type, name: str) -> None:
    with pytest.raises(ModelError, match=rf"Mine\.{name} would not be called: .* META_ARCH_REGISTRY"):
        type("Mine", (base,), {name: lambda self: None})
    assert issubclass(type("Named", (base,), {"note": 1}), base)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_in_features": ["p3"]}, r"mask_in_features \['p3'\] are others than box_in_features"),
        ({"mask_pooler": None}, "mask_in_features are given, but not both of mask_pooler and mask_head"),
        ({"proposal_append_gt": False, "num_classes": 3, "box_predictor.num_classes": 4}, "num_classes is 3, but .* 4"),
        ({"box_pooler.output_size": (7, 5)}, r"output_size is \(7, 5\), but features are cut to squares"),
        ({"proposal_matcher.labels": [0, 2]}, r"matched with labels \[0, 1\]"),
    ],
)
def test_what_does_not_fit(changes: dict[str, Any], message: str) -> None:
    node = mask_rcnn_fpn().roi_heads
    for key, value in changes.items():
        *parents, last = key.split(".")
        part = node
        for parent in parents:
            part = part[parent]
        part[last] = value
    with torch.device("meta"), pytest.raises(ModelError, match=message):
        instantiate(node)


def test_a_branch_is_there_if_it_has_features() -> None:
    node = mask_rcnn_fpn().roi_heads
    with torch.device("meta"):
        assert instantiate(node).has_masks
        node.mask_in_features = None
        assert not instantiate(node).has_masks


def test_arguments_of_single_parts() -> None:
    shape = ShapeSpec(channels=4, height=3, width=3)
    assert heads.FastRCNNConvFCHead(shape, conv_dims=[], fc_dims=[8]).fc1.in_features == 36
    transform = heads.Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
    flat = heads.FastRCNNOutputLayers(shape, box2box_transform=transform, num_classes=2)
    assert flat.cls_score.in_features == 36 and flat.bbox_pred.out_features == 8
    of_width = heads.FastRCNNOutputLayers(5, box2box_transform=transform, num_classes=2, cls_agnostic_bbox_reg=True)
    assert of_width.cls_score.in_features == 5 and of_width.bbox_pred.out_features == 4
    with pytest.raises(ModelError, match="box_dim is 5, but boxes have 4 numbers"):
        heads.StandardRPNHead(in_channels=4, num_anchors=1, box_dim=5)
    with pytest.raises(ModelError, match="loss_normalizer is 'seen', but must be 'visible' or a number"):
        heads.KRCNNConvDeconvUpsampleHead(shape, num_keypoints=2, conv_dims=[4], loss_normalizer="seen")


def test_an_argument_that_is_not_there_says_so() -> None:
    node = mask_rcnn_fpn().proposal_generator
    node.pre_nms_topq = 5
    with pytest.raises(ConfigError, match=r"compat\.heads\.RPN cannot be made with .*pre_nms_topq"):
        instantiate(node)
