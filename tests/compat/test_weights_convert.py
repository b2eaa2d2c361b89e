"""From weights of detectron2 to a checkpoint, compared with what detectron2 itself gave for them."""

from __future__ import annotations

import importlib.util
import logging
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain import engine
from drivetrain.checkpoint import read_checkpoint
from drivetrain.checkpoint.foreign.matching import read_weights
from drivetrain.compat.config import get_cfg
from drivetrain.compat.predictor import DefaultPredictor
from drivetrain.compat.weights_convert import class_names_of, config_for, match_config, write_checkpoint
from drivetrain.config import CfgNode
from drivetrain.errors import CheckpointError, ConfigError, IncompatibleWeightsError

_CONFTEST = (Path(__file__).parents[1] / "modeling" / "detectron2" / "conftest.py").resolve()
RELATIVE = 1e-4


@pytest.fixture(scope="module")
def reference() -> Any:
    """The recorded models of detectron2."""
    spec = importlib.util.spec_from_file_location("recorded_models", _CONFTEST)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["recorded_models"] = module
    spec.loader.exec_module(module)
    return module


def write_pickle(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    arrays = {name: value.numpy() for name, value in weights.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "detectron2"}, 2))
    return path


def tiny_config(**changes: Any) -> CfgNode:
    cfg = get_cfg()
    values = {
        "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
        "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
        "MODEL.ROI_HEADS.NUM_CLASSES": 2,
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    cfg.merge_from_list([part for item in values.items() for part in item])
    return cfg


def tiny_weights(cfg: CfgNode) -> dict[str, torch.Tensor]:
    from drivetrain.modeling.detectron2 import build_detectron2_model

    return dict(build_detectron2_model(cfg).state_dict())


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return ours.shape == theirs.shape and bool((ours - theirs).abs().max() <= RELATIVE * theirs.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("kind", ["faster", "mask", "keypoint", "retinanet"])
def test_converted_weights_predict_as_detectron2_does(reference: Any, tmp_path: Path, kind: str) -> None:
    recorded = reference.recorded(kind)
    pkl = write_pickle(tmp_path / "model_final.pkl", recorded["weights"])
    cfg = config_for(pkl, zoo=recorded["zoo_config"])
    cfg.merge_from_list([part for item in recorded["overrides"].items() for part in item])
    matching = match_config(cfg, read_weights(pkl))
    others = {row.name for row in matching.rows if row.status != "matched"}
    assert matching.complete and others == ({"loss_normalizer"} if kind == "retinanet" else set())
    write_checkpoint(tmp_path / "out.pth", matching, cfg, str(pkl), names=["a", "b", "c"][: _classes(cfg)])
    predictor = DefaultPredictor.from_checkpoint(tmp_path / "out.pth", ["MODEL.DEVICE=cpu"])
    assert predictor.input_format == cfg.INPUT.FORMAT == "BGR"
    assert predictor.metadata.thing_classes == ["a", "b", "c"][: _classes(cfg)]
    batch = [{key: entry[key] for key in ("image", "height", "width")} for entry in recorded["inputs"]]
    for output, expected in zip(predictor.model(batch), recorded["outputs"], strict=True):
        found = output["instances"]
        assert close(found.pred_boxes.tensor, expected["boxes"]) and close(found.scores, expected["scores"])
        assert torch.equal(found.pred_classes, expected["classes"])
        if "keypoints" in expected:
            assert close(found.pred_keypoints, expected["keypoints"])
        if "masks" in expected:
            assert (found.pred_masks != expected["masks"]).sum() <= 1e-4 * expected["masks"].sum()


def _classes(cfg: CfgNode) -> int:
    node = cfg.MODEL.RETINANET if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" else cfg.MODEL.ROI_HEADS
    return int(node.NUM_CLASSES)


def test_a_checkpoint_predicts_with_either_predictor(tmp_path: Path) -> None:
    torch.manual_seed(0)
    cfg = tiny_config()
    pkl = write_pickle(tmp_path / "m.pkl", tiny_weights(cfg))
    write_checkpoint(tmp_path / "out.pth", match_config(cfg, read_weights(pkl)), cfg, "m.pkl", names=["a", "b"])
    metadata = read_checkpoint(tmp_path / "out.pth")["metadata"]
    assert (metadata["channel_order"], metadata["class_names"]) == ("BGR", ["a", "b"])
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    outputs = []
    for kind in (DefaultPredictor, engine.DefaultPredictor):
        changes = ["MODEL.DEVICE=cpu", "INPUT.MIN_SIZE_TEST=64", "MODEL.ROI_HEADS.SCORE_THRESH_TEST=0"]
        predictor = kind.from_checkpoint(tmp_path / "out.pth", changes)
        assert predictor.metadata.thing_classes == ["a", "b"]
        outputs.append(predictor(image)["instances"])
    assert torch.equal(outputs[0].pred_boxes.tensor, outputs[1].pred_boxes.tensor) and len(outputs[0])


def test_where_the_config_comes_from(tmp_path: Path) -> None:
    assert config_for(tmp_path / "model_final_971ab9.pkl").MODEL.RESNETS.DEPTH == 101
    assert config_for(tmp_path / "m.pkl", zoo="COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml").MODEL.KEYPOINT_ON
    with pytest.raises(ConfigError, match="give its config by --config-file"):
        config_for(tmp_path / "m.pkl")
    with pytest.raises(ConfigError, match="give one of them"):
        config_for(tmp_path / "m.pkl", "a.yaml", "b.yaml")
    (tmp_path / "config.yaml").write_text(get_cfg().dump().replace("NUM_CLASSES: 80", "NUM_CLASSES: 7"))
    assert config_for(tmp_path / "m.pkl").MODEL.ROI_HEADS.NUM_CLASSES == 7


def test_class_names() -> None:
    zoo = config_for(Path("model_final_280758.pkl"))
    assert class_names_of(zoo)[:2] == ["person", "bicycle"] and len(class_names_of(zoo)) == 80
    assert class_names_of(config_for(Path("model_final_a6e10b.pkl"))) == ["person"]
    cfg = tiny_config()
    assert class_names_of(cfg) == [] and class_names_of(cfg, ["a", "b"]) == ["a", "b"]
    with pytest.raises(ConfigError, match=r"3 names, but MODEL\.ROI_HEADS\.NUM_CLASSES is 2"):
        class_names_of(cfg, ["a", "b", "c"])
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.FCOS.NUM_CLASSES = "FCOS", 3
    assert class_names_of(cfg, ["a", "b", "c"]) == ["a", "b", "c"]


def test_a_part_is_written_on_request_alone_and_without_a_config(tmp_path: Path) -> None:
    cfg = tiny_config()
    weights = {n: v for n, v in tiny_weights(cfg).items() if n.startswith("backbone")}
    matching = match_config(cfg, read_weights(write_pickle(tmp_path / "m.pkl", weights)))
    with pytest.raises(IncompatibleWeightsError, match=r"lacks tensors .*proposal_generator.*--partial"):
        write_checkpoint(tmp_path / "out.pth", matching, cfg, "m.pkl")
    assert not (tmp_path / "out.pth").exists()
    with pytest.raises(CheckpointError, match=r"must be a \.pth"):
        write_checkpoint(tmp_path / "out.pkl", matching, cfg, "m.pkl", partial=True)
    write_checkpoint(tmp_path / "out.pth", matching, cfg, "m.pkl", partial=True)
    written = read_checkpoint(tmp_path / "out.pth")
    assert written["model"].keys() == weights.keys() and written["metadata"]["config"] == ""


def test_other_colours_in_the_file_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = tiny_config()
    weights = {**tiny_weights(cfg), "pixel_mean": torch.tensor(cfg.MODEL.PIXEL_MEAN).reshape(3, 1, 1)}
    pkl = write_pickle(tmp_path / "m.pkl", weights)
    with caplog.at_level(logging.WARNING):
        match_config(cfg, read_weights(pkl))
        assert not caplog.records
        cfg.MODEL.PIXEL_MEAN = [0.0, 0.0, 0.0]
        match_config(cfg, read_weights(pkl))
    assert "MODEL.PIXEL_MEAN is [0.0, 0.0, 0.0]" in caplog.text
