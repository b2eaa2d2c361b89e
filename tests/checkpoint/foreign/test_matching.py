"""Weights of other programs, compared with a model's."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from drivetrain.checkpoint.foreign.matching import ForeignWeights, Matching, match_weights, read_weights
from drivetrain.errors import CheckpointError, IncompatibleWeightsError
from drivetrain.modeling.detectron2.resnet import ResNetOptions, make_resnet


def foreign(state: dict[str, Tensor], **options: Any) -> ForeignWeights:
    return ForeignWeights(state, {name: name for name in state}, "w.pkl", **options)


def dump(path: Path, data: Any) -> Path:
    path.write_bytes(pickle.dumps(data, 2))
    return path


def statuses(matching: Matching) -> dict[str, str]:
    return {row.name or row.in_file: row.status for row in matching.rows}


def test_a_model_zoo_file_gives_its_tensors(tmp_path: Path) -> None:
    array = np.arange(4, dtype=">f4").reshape(2, 2)
    weights = read_weights(dump(tmp_path / "m.pkl", {"model": {"a.weight": array}, "__author__": "Caffe2 or so"}))
    assert torch.equal(weights.tensors["a.weight"], torch.arange(4.0).reshape(2, 2))
    assert weights.author == "Caffe2 or so" and not weights.by_ending
    weights.tensors["a.weight"].add_(1)  # memory of its own


def test_own_checkpoints_in_the_midst_of_a_training_give_their_model(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    data = {"model": OrderedDict(layer.state_dict()), "optimizer": optimizer.state_dict(), "iteration": 41}
    torch.save(data, tmp_path / "model_0000041.pth")
    weights = read_weights(tmp_path / "model_0000041.pth")
    matching = match_weights(layer.state_dict(), weights)
    assert matching.complete and statuses(matching) == {"weight": "matched", "bias": "matched"}
    assert torch.equal(matching.tensors["weight"], layer.weight)


def test_each_kind_of_difference_has_its_row() -> None:
    expected = {"x.weight": torch.zeros(2, 2), "x.bias": torch.zeros(2), "n.num_batches_tracked": torch.tensor(0)}
    expected["y"] = torch.zeros(1)
    given = {"x.weight": torch.ones(2, 2), "x.bias": torch.ones(3), "z": torch.ones(1), "pixel_mean": torch.ones(3)}
    given["proposal_generator.anchor_generator.cell_anchors.0"] = torch.ones(3, 4)
    matching = match_weights(expected, foreign(given))
    assert statuses(matching) == {
        "x.weight": "matched",
        "x.bias": "other shape",
        "y": "missing",
        "z": "unexpected",
        "pixel_mean": "not needed",
        "proposal_generator.anchor_generator.cell_anchors.0": "not needed",
    }
    assert list(matching.tensors) == ["x.weight"] and not matching.complete
    assert matching.summary() == "1 matched, 1 other shape, 1 missing, 1 unexpected, 2 not needed"


def test_the_normalizer_that_detectron2_does_not_save_starts_where_each_architecture_starts() -> None:
    for layer, start in (("head.cls_score.weight", 100.0), ("head.ctrness.weight", 300.0)):
        expected = {"loss_normalizer": torch.tensor(7.0, device="meta"), layer: torch.zeros(1)}
        matching = match_weights(expected, foreign({layer: torch.ones(1)}))
        assert matching.complete and statuses(matching)["loss_normalizer"] == "filled"
        assert matching.tensors["loss_normalizer"].item() == start


def test_endings_are_compared_only_where_the_file_says_so_and_the_longest_counts() -> None:
    expected = {"a.conv.weight": torch.zeros(1), "b.conv2.conv.weight": torch.zeros(1)}
    given = {"conv2.conv.weight": torch.tensor([2.0]), "a.conv.weight": torch.tensor([1.0])}
    assert statuses(match_weights(expected, foreign(given)))["b.conv2.conv.weight"] == "missing"
    matching = match_weights(expected, foreign(given, by_ending=True))
    assert [float(v) for v in matching.tensors.values()] == [1.0, 2.0]
    assert statuses(matching) == {"a.conv.weight": "matched", "b.conv2.conv.weight": "renamed"}
    with pytest.raises(IncompatibleWeightsError, match="too short to tell"):
        match_weights(expected, foreign({"weight": torch.zeros(1)}, by_ending=True))
    with pytest.raises(IncompatibleWeightsError, match="no tensor of this model"):
        match_weights(expected, foreign({"2.conv.weight": torch.zeros(1)}, by_ending=True))


def test_msra_resnet_has_the_features_that_its_numbers_give(tmp_path: Path) -> None:
    """Names of Caffe2, and norms whose statistics are in scale and shift: x * scale + shift."""
    torch.manual_seed(0)
    options = ResNetOptions(depth=50, width_per_group=4, res2_out_channels=8, stem_out_channels=8)
    model = make_resnet(options, ["res2"])
    blobs: dict[str, Any] = {"fc1000_w": np.ones((10, 4), np.float32), "conv1_w_momentum": np.ones(1, np.float32)}
    for name, value in model.state_dict().items():
        if "running" not in name:
            caffe2 = name.replace("stem.conv1.norm", "res_conv1_bn").replace("stem.conv1", "conv1")
            caffe2 = caffe2.replace(".shortcut", "_branch1").replace("res2.", "res2_").replace(".norm", "_bn")
            for number, letter in enumerate("abc", 1):
                caffe2 = caffe2.replace(f".conv{number}", f"_branch2{letter}")
            caffe2 = caffe2.replace("bn.weight", "bn_s").replace("bn.bias", "bn_b").replace(".weight", "_w")
            blobs[caffe2] = torch.rand(value.shape).numpy()
    assert {"res2_0_branch2a_w", "res2_1_branch2c_bn_s", "res_conv1_bn_b", "conv1_w"} <= set(blobs)
    matching = match_weights(model.state_dict(), read_weights(dump(tmp_path / "R-50.pkl", blobs)))
    assert matching.complete and statuses(matching)["fc1000_w"] == "unexpected"
    assert statuses(matching)["stem.conv1.norm.running_var"] == "filled"
    model.load_state_dict(dict(matching.tensors))
    images = torch.rand(1, 3, 32, 32)
    convolved = torch.nn.functional.conv2d(images, torch.from_numpy(blobs["conv1_w"]), stride=2, padding=3)
    scale, shift = (torch.from_numpy(blobs[f"res_conv1_bn_{part}"])[:, None, None] for part in "sb")
    expected = torch.nn.functional.max_pool2d((convolved * scale + shift).relu(), 3, 2, 1)
    torch.testing.assert_close(model.stem(images), expected, rtol=1e-6, atol=1e-6)


def test_detectron_has_the_background_first(tmp_path: Path) -> None:
    classes, width = 4, 3  # with the background
    rows = np.arange(classes, dtype=np.float32)
    blobs = {
        "conv1_w": np.zeros((1, 1), np.float32),
        "cls_score_w": np.repeat(rows[:, None], width, axis=1),
        "cls_score_b": rows,
        "bbox_pred_b": np.repeat(rows, 4),
        "mask_fcn_logits_b": rows,
    }
    tensors = read_weights(dump(tmp_path / "d.pkl", {"blobs": blobs})).tensors
    assert tensors["box_predictor.cls_score.bias"].tolist() == [1, 2, 3, 0]
    assert tensors["box_predictor.cls_score.weight"][:, 0].tolist() == [1, 2, 3, 0]
    assert tensors["box_predictor.bbox_pred.bias"].tolist() == [1] * 4 + [2] * 4 + [3] * 4
    assert tensors["mask_head.predictor.bias"].tolist() == [1, 2, 3]


def test_what_is_no_weights_is_refused(tmp_path: Path) -> None:
    for data, message in (([1], "not weights"), ({"model": {"a": 1}}, "not an array"), ({}, "no weights")):
        with pytest.raises(CheckpointError, match=message):
            read_weights(dump(tmp_path / "x.pkl", data))
    with pytest.raises(CheckpointError, match="does not exist"):
        read_weights(tmp_path / "nothing.pkl")
