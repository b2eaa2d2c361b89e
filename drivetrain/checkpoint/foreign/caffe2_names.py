"""Names of weights in files of Caffe2 (Detectron, MSRA's ResNets) and of torchvision, as detectron2 writes them.

What a name is within the whole model, ``backbone.bottom_up.`` and the like, is left to the comparison of endings in
:mod:`drivetrain.checkpoint.foreign.matching`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container

__all__ = ["from_caffe2", "from_torchvision", "is_caffe2", "is_torchvision"]

# In Caffe2 a name's last part says what the tensor is: that of the norm after a layer, or the layer's own.
_ENDINGS = (
    (r"_(?:bn|gn)_(?:s|gamma)$", ".norm.weight"),
    (r"_(?:bn|gn)_(?:b|bias|beta)$", ".norm.bias"),
    (r"_bn_(?:rm|running_mean)$", ".norm.running_mean"),
    (r"_bn_(?:riv|running_var)$", ".norm.running_var"),
    (r"_w$", ".weight"),
    (r"_b$", ".bias"),
)
_LAYERS = (
    (r"^(?:res_)?conv1(?=\.)", "stem.conv1"),
    (r"^res(\d)_(\d+)_branch1(?=\.)", r"res\1.\2.shortcut"),
    (r"^res(\d)_(\d+)_branch2([abc])(?=\.)", lambda m: f"res{m[1]}.{m[2]}.conv{'abc'.index(m[3]) + 1}"),
    (r"^fpn_inner_res(\d)_\d+_sum(?:_lateral)?(?=\.)", r"fpn_lateral\1"),
    (r"^fpn_res(\d)_\d+_sum(?=\.)", r"fpn_output\1"),
    (r"^conv_rpn(?:_fpn\d)?(?=\.)", "rpn_head.conv"),
    (r"^rpn_cls_logits(?:_fpn\d)?(?=\.)", "rpn_head.objectness_logits"),
    (r"^rpn_bbox_pred(?:_fpn\d)?(?=\.)", "rpn_head.anchor_deltas"),
    (r"^fc([67])(?=\.)", lambda m: f"box_head.fc{int(m[1]) - 5}"),
    (r"^head_conv(\d)(?=\.)", r"box_head.conv\1"),
    (r"^cls_score(?=\.)", "box_predictor.cls_score"),
    (r"^bbox_pred(?=\.)", "box_predictor.bbox_pred"),
    (r"^_\[mask\]_fcn(\d)(?=\.)", r"mask_head.mask_fcn\1"),
    (r"^conv5_mask(?=\.)", "mask_head.deconv"),
    (r"^mask_fcn_logits(?=\.)", "mask_head.predictor"),
    (r"^conv_fcn(\d)(?=\.)", r"keypoint_head.conv_fcn\1"),
    (r"^kps_score_lowres(?=\.)", "keypoint_head.score_lowres"),
)
_TORCHVISION = (
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"^layer(\d)\.", lambda m: f"res{int(m[1]) + 1}."),
    (r"^(res\d\.\d+)\.bn(\d)\.", r"\1.conv\2.norm."),
    (r"^(res\d\.\d+)\.downsample\.0\.", r"\1.shortcut."),
    (r"^(res\d\.\d+)\.downsample\.1\.", r"\1.shortcut.norm."),
)


def is_caffe2(names: Container[str]) -> bool:
    """Whether a collection of names is Caffe2's."""
    return "conv1_w" in names


def is_torchvision(names: Container[str]) -> bool:
    """Whether a collection of names is that of torchvision's ResNets."""
    return "layer1.0.conv1.weight" in names and "bn1.weight" in names


def from_caffe2(name: str) -> str:
    """``res2_0_branch2a_bn_s`` as ``res2.0.conv1.norm.weight``; a name of another kind stays as it is."""
    return _replaced(_replaced(name, _ENDINGS), _LAYERS)


def from_torchvision(name: str) -> str:
    """``layer1.0.bn2.weight`` as ``res2.0.conv2.norm.weight``; a name of another kind stays as it is."""
    return _replaced(name, _TORCHVISION)


def _replaced(name: str, rules: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
