"""The predictor for detectron2's configs."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from drivetrain.checkpoint import DetectionCheckpointer
from drivetrain.compat.config import get_cfg
from drivetrain.compat.modeling import GeneralizedRCNN
from drivetrain.compat.predictor import DefaultPredictor
from drivetrain.config import CfgNode
from drivetrain.data.catalog import MetadataCatalog
from drivetrain.errors import IncompatibleWeightsError
from drivetrain.modeling import build_model

TINY = Path(__file__).parent / "scripts" / "tiny.yaml"
SIZES = ["WIDTH_PER_GROUP", 8, "RES2_OUT_CHANNELS", 32, "STEM_OUT_CHANNELS", 8]


@pytest.fixture
def cfg(tmp_path: Path) -> CfgNode:
    """A config whose weights were saved beside it, with class names in the checkpoint."""
    cfg = get_cfg()
    cfg.merge_from_file(TINY)
    cfg.merge_from_list([f"MODEL.RESNETS.{s}" if isinstance(s, str) else s for s in SIZES])
    cfg.merge_from_list(["MODEL.FPN.OUT_CHANNELS", 32, "MODEL.ROI_BOX_HEAD.FC_DIM", 16, "INPUT.MIN_SIZE_TEST", 64])
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    torch.manual_seed(0)
    saver = DetectionCheckpointer(
        build_model(cfg), str(tmp_path), class_names=["a", "b"], channel_order="BGR", config=cfg.dump()
    )
    saver.save("model_final")
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    return cfg


IMAGE = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)


def test_names_are_those_of_the_checkpoint_or_of_the_test_set(cfg: CfgNode) -> None:
    cfg.freeze()
    predictor = DefaultPredictor(cfg)
    assert predictor.metadata.thing_classes == ["a", "b"] and predictor.input_format == "BGR"
    instances = predictor(IMAGE)["instances"]
    assert instances.image_size == (70, 90) and len(instances) > 0
    cfg.defrost()
    MetadataCatalog.get("predictor_test").set(thing_classes=["x", "y"])
    cfg.DATASETS.TEST = ("predictor_test",)
    assert DefaultPredictor(cfg).metadata.thing_classes == ["x", "y"]
    MetadataCatalog.get("predictor_zoo").set(thing_classes=["of", "another", "model"])
    cfg.DATASETS.TEST = ("predictor_zoo",)
    assert DefaultPredictor(cfg).metadata.thing_classes == ["a", "b"]
    assert MetadataCatalog.get("predictor_zoo").thing_classes == ["of", "another", "model"]


def test_its_model_is_one_of_the_classes_that_are_imported(cfg: CfgNode) -> None:
    predictor = DefaultPredictor(cfg)
    assert isinstance(predictor.model, GeneralizedRCNN) and not predictor.model.training


def test_bare_weights_need_no_names(cfg: CfgNode, tmp_path: Path) -> None:
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "bare.pth")
    cfg.MODEL.WEIGHTS = str(tmp_path / "bare.pth")
    assert DefaultPredictor(cfg).metadata.get("thing_classes") is None


def test_a_checkpoint_is_enough(cfg: CfgNode) -> None:
    alone = DefaultPredictor.from_checkpoint(cfg.MODEL.WEIGHTS)
    expected = DefaultPredictor(cfg)(IMAGE)["instances"]
    found = alone(IMAGE)["instances"]
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert alone.metadata.thing_classes == ["a", "b"]


def test_weights_of_detectron2(cfg: CfgNode, tmp_path: Path) -> None:
    """Its files have tensors of anchors too, and arrays in pickles; what lacks weights is refused."""
    expected = DefaultPredictor(cfg)(IMAGE)["instances"]
    arrays = {name: value.numpy() for name, value in DefaultPredictor(cfg).model.state_dict().items()}
    arrays["proposal_generator.anchor_generator.cell_anchors.0"] = np.zeros((3, 4), dtype=np.float32)
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pkl")
    Path(cfg.MODEL.WEIGHTS).write_bytes(pickle.dumps({"model": arrays, "__author__": "x"}))
    found = DefaultPredictor(cfg)(IMAGE)["instances"]
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    del arrays["roi_heads.box_predictor.cls_score.weight"]
    Path(cfg.MODEL.WEIGHTS).write_bytes(pickle.dumps({"model": arrays, "__author__": "x"}))
    with pytest.raises(IncompatibleWeightsError, match=r"does not have all weights .*cls_score\.weight"):
        DefaultPredictor(cfg)
