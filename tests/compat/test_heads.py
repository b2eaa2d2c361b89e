"""Heads with detectron2's arguments; that their numbers arrive is tested with whole models in test_lazy_models.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from drivetrain.compat import heads
from drivetrain.compat.config import get_cfg
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
        (heads.StandardRPNHead, "forward"),
        (heads.RetinaNetHead, "forward"),
        (heads.FCOSHead, "forward"),
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


def test_layers_of_ones_own_are_called() -> None:
    class Doubled(heads.MaskRCNNConvUpsampleHead):
        def layers(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().layers(x)

    class Negative(heads.KRCNNConvDeconvUpsampleHead):
        def layers(self, x: torch.Tensor) -> torch.Tensor:
            return -super().layers(x)

    shape, x = ShapeSpec(channels=4, height=3, width=3), torch.randn(2, 4, 3, 3)
    masks = Doubled(shape, num_classes=2, conv_dims=[4, 4])
    plain = heads.MaskRCNNConvUpsampleHead(shape, num_classes=2, conv_dims=[4, 4])
    plain.load_state_dict(masks.state_dict())
    assert torch.equal(masks(x), 2 * plain(x)) and masks(x).shape == (2, 2, 6, 6)
    points = Negative(shape, num_keypoints=2, conv_dims=[4])
    other = heads.KRCNNConvDeconvUpsampleHead(shape, num_keypoints=2, conv_dims=[4])
    other.load_state_dict(points.state_dict())
    assert torch.equal(points(x), -other(x)) and points(x).shape == (2, 2, 12, 12)


def test_the_weight_of_the_loss_of_boxes() -> None:
    transform = heads.Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
    made = heads.FastRCNNOutputLayers(
        4, box2box_transform=transform, num_classes=2, loss_weight={"loss_cls": 1.0, "loss_box_reg": 2.5}
    )
    assert made.options.box_loss_weight == 2.5
    for weight in (2.0, {"loss_cls": 2.0}):
        with pytest.raises(ModelError, match=r"loss_weight is .*2\.0.*, but loss_box_reg alone has a weight"):
            heads.FastRCNNOutputLayers(4, box2box_transform=transform, num_classes=2, loss_weight=weight)


def test_the_size_of_boxes_of_a_level_is_fixed() -> None:
    assert heads.ROIPooler(7, (1 / 4,), 0, "ROIAlignV2", canonical_box_size=224, canonical_level=4).size == 7
    with pytest.raises(ModelError, match="canonical_box_size 112 and canonical_level 4 were received"):
        heads.ROIPooler(7, (1 / 4,), 0, "ROIAlignV2", canonical_box_size=112)


def test_every_number_of_the_proposals_arrives() -> None:
    node = mask_rcnn_fpn().proposal_generator
    node.update(batch_size_per_image=3, positive_fraction=0.1, nms_thresh=0.2, min_box_size=4.0)
    node.update(anchor_boundary_thresh=5, loss_weight=6.0, box_reg_loss_type="giou", smooth_l1_beta=0.7)
    node.update(pre_nms_topk=(8, 9), post_nms_topk=(10, 11))
    node.anchor_matcher.thresholds = [0.12, 0.13]
    node.box2box_transform.weights = [1.0, 2.0, 3.0, 4.0]
    found = vars(instantiate(node)._options)
    assert vars(found.pop("loss").coder)["weights"] == (1.0, 2.0, 3.0, 4.0)
    assert found == {
        "iou_thresholds": (0.12, 0.13),
        "batch_size_per_image": 3,
        "positive_fraction": 0.1,
        "pre_nms_topk": (8, 9),
        "post_nms_topk": (10, 11),
        "nms_thresh": 0.2,
        "min_size": 4.0,
        "boundary_thresh": 5,
        "loss_weight": 6.0,
        "box_loss_weight": 1.0,
    }


def test_every_number_of_the_second_stage_arrives() -> None:
    node = mask_rcnn_fpn().roi_heads
    node.update(batch_size_per_image=3, positive_fraction=0.1, proposal_append_gt=False, num_classes=2)
    node.proposal_matcher.thresholds = [0.12]
    node.box_predictor.update(test_score_thresh=0.3, test_nms_thresh=0.4, test_topk_per_image=5)
    node.box_predictor.update(cls_agnostic_bbox_reg=True, box_reg_loss_type="giou", smooth_l1_beta=0.6)
    with torch.device("meta"):
        made = instantiate(node)
    sampling = {"iou_threshold": 0.12, "batch_size_per_image": 3, "positive_fraction": 0.1, "append_gt": False}
    assert vars(made._sampling) == sampling
    found = dict(vars(made.box_predictor.options))
    loss = vars(found.pop("loss"))
    assert (loss["coder"].weights, loss["_kind"], loss["_beta"]) == ((10.0, 10.0, 5.0, 5.0), "giou", 0.6)
    assert found == {
        "num_classes": 2,
        "class_agnostic": True,
        "score_thresh": 0.3,
        "nms_thresh": 0.4,
        "detections_per_image": 5,
        "box_loss_weight": 1.0,
    }


def test_norms_and_priors_arrive() -> None:
    shape = ShapeSpec(channels=32, height=3, width=3)
    with torch.device("meta"):
        box = heads.FastRCNNConvFCHead(shape, conv_dims=[32], fc_dims=[8], conv_norm="GN")
        mask = heads.MaskRCNNConvUpsampleHead(shape, num_classes=2, conv_dims=[32, 32], conv_norm="GN")
    dense = {"input_shape": [shape], "num_classes": 2, "conv_dims": [32], "norm": "GN", "prior_prob": 0.2}
    retina, fcos = heads.RetinaNetHead(num_anchors=1, **dense), heads.FCOSHead(**dense)
    for made, count in ((box, 1), (mask, 1), (retina, 2), (fcos, 2)):
        assert sum(isinstance(m, torch.nn.GroupNorm) for m in made.modules()) == count
    for head in (retina, fcos):
        assert head.cls_score.bias.sigmoid().tolist() == pytest.approx([0.2, 0.2])


@pytest.mark.parametrize(
    "name", ["RPN", "StandardROIHeads", "Res5ROIHeads", "FastRCNNConvFCHead", "FastRCNNOutputLayers"]
)
def test_no_part_is_made_of_a_config(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} takes no config here"):
        getattr(heads, name)(get_cfg(), ShapeSpec(channels=4))


def test_an_argument_that_is_not_there_says_so() -> None:
    node = mask_rcnn_fpn().proposal_generator
    node.pre_nms_topq = 5
    with pytest.raises(ConfigError, match=r"compat\.heads\.RPN cannot be made with .*pre_nms_topq"):
        instantiate(node)
