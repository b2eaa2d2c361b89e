"""What is not there."""

from __future__ import annotations

import re

import pytest

from drivetrain.compat.importer import resolve, sentence
from drivetrain.compat.table_absent import ABSENT


def test_what_is_recommended_exists() -> None:
    """Dotted names of this package and of libraries in the reasons can be imported."""
    for path, reason in ABSENT.items():
        for name in re.findall(r"\b(?:drivetrain|torch|torchvision)(?:\.\w+)+", reason):
            module, _, last = name.rpartition(".")
            try:
                resolve(name)
            except ImportError:
                assert hasattr(resolve(module), last), f"{path}: {name} does not exist"


@pytest.mark.parametrize(
    "path",
    [
        "detectron2.modeling.roi_heads.fast_rcnn.FastRCNNOutputs",
        "detectron2.modeling.meta_arch.SemanticSegmentor",
        "detectron2.modeling.meta_arch.panoptic_fpn.PanopticFPN",
        "detectron2.modeling.backbone.swin.SwinTransformer",
        "detectron2.modeling.backbone.resnet.DeformBottleneckBlock",
        "detectron2.modeling.roi_heads.mask_head.mask_rcnn_inference",
        "detectron2.layers.NaiveSyncBatchNorm",
        "detectron2.layers.nms_rotated",
        "detectron2.data.build.build_batch_data_loader",
        "detectron2.data.common.AspectRatioGroupedDataset",
        "detectron2.data.datasets.coco.convert_to_coco_json",
        "detectron2.data.transforms.RandomResize",
        "detectron2.utils.env.setup_environment",
        "detectron2.solver.WarmupMultiStepLR",
        "detectron2.config.set_global_cfg",
        "detectron2.structures.heatmaps_to_keypoints",
    ],
)
def test_what_code_in_the_wild_imports_is_explained_and_not_guessed_at(path: str) -> None:
    said = sentence(path)
    assert "did you mean" not in said and "lists what is there" not in said, said


def test_heads_of_ones_own_are_told_where_to_go() -> None:
    said = sentence("detectron2.modeling.roi_heads.ROI_HEADS_REGISTRY")
    assert all(word in said for word in ("GeneralizedRCNN", "self.roi_heads", "forward", "META_ARCH_REGISTRY"))
