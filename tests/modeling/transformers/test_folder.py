"""Models from local folders: the weights as they were saved, or what fits of them, and nothing from elsewhere."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.errors import CorruptCheckpointError, IncompatibleWeightsError, ModelError
from drivetrain.modeling.transformers.folder import load_folder, read_config, warn_of_normalisation


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Any connection is an error."""
    import socket

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield


@pytest.fixture
def saved(build: Any, tmp_path: Path) -> tuple[Any, Path]:
    """A model with weights of its own, and the folder that it was saved to."""
    model = build("dfine_tiny")
    with torch.no_grad():
        for i, tensor in enumerate(model.net.state_dict().values()):
            if tensor.is_floating_point():
                tensor.add_(0.01 * (i % 7))
    folder = tmp_path / "saved"
    model.net.save_pretrained(folder)
    return model, folder


def load(build: Any, folder: Path, **options: Any) -> Any:
    """The detector of a folder; the weights with which it starts are others than the saved model's."""
    torch.manual_seed(99)
    return build("transformers_detection", BASE=str(folder), **options)


def test_weights_are_the_saved_ones(build: Any, saved: tuple[Any, Path], scene: Any, caplog: Any) -> None:
    model, folder = saved
    with caplog.at_level(logging.WARNING):
        loaded = load(build, folder)
    assert "weights from" not in caplog.text
    ours, theirs = loaded.net.state_dict(), model.net.state_dict()
    assert set(ours) == set(theirs) and all(ours[name].equal(theirs[name]) for name in theirs)
    batch = scene()
    with torch.no_grad():
        assert loaded.eval()(batch)[0]["instances"].scores.equal(model.eval()(batch)[0]["instances"].scores)


def test_another_number_of_classes_keeps_what_fits_and_says_what_does_not(
    build: Any, saved: tuple[Any, Path], scene: Any, caplog: Any
) -> None:
    model, folder = saved
    with caplog.at_level(logging.WARNING):
        loaded = load(build, folder, classes=5)
    assert loaded.num_classes == 5 and loaded.net.config.num_labels == 5
    theirs = model.net.state_dict()
    other = {n for n, v in loaded.net.state_dict().items() if n not in theirs or v.shape != theirs[n].shape}
    assert other and all("class_embed" in n or "score_head" in n for n in other)
    for name, value in loaded.net.state_dict().items():
        assert name in other or value.equal(theirs[name]), name
        assert value.float().isfinite().all()
    assert "weights from" in caplog.text and f"other shape {len(other):>6}" in caplog.text
    assert "model.enc_score_head.weight: [3, 64] in the weights, [5, 64] in the model" in caplog.text
    sum(loaded(scene(classes=5)).values()).backward()


def test_masks_models_start_their_class_weights_anew(build: Any, tmp_path: Path) -> None:
    """A buffer that depends on the number of classes has the library's values, not what lay in memory."""
    model = build("mask2former_tiny")
    model.net.save_pretrained(tmp_path / "m")
    loaded = build("transformers_instance", BASE=str(tmp_path / "m"), classes=6)
    weights = loaded.net.criterion.empty_weight
    assert weights[:-1].eq(1).all() and len(weights) == 7 and weights[-1].item() == pytest.approx(0.1)


def test_config_fields_can_be_changed(build: Any, saved: tuple[Any, Path]) -> None:
    _, folder = saved
    loaded = load(build, folder, CONFIG={"num_queries": 25, "num_denoising": 7})
    assert loaded.net.config.num_queries == 25 and loaded.net.config.decoder_layers == 2
    assert loaded.eval()._run(loaded.prepare([{"image": torch.zeros(3, 96, 96)}])).pred_boxes.shape == (1, 25, 4)


def test_tensors_that_are_missing_or_left_over_are_told(build: Any, saved: tuple[Any, Path], caplog: Any) -> None:
    from safetensors.torch import load_file, save_file

    model, folder = saved
    file = folder / "model.safetensors"
    state = load_file(file)
    lost = next(name for name in state if "lateral_convs" in name and name.endswith("weight"))
    del state[lost]
    state["left.over"] = torch.zeros(2)
    save_file(state, file, metadata={"format": "pt"})
    with caplog.at_level(logging.WARNING):
        loaded = load(build, folder)
    assert f"      {lost}" in caplog.text and "      left.over" in caplog.text
    assert not loaded.net.state_dict()[lost].equal(model.net.state_dict()[lost])


def test_bad_folders(build: Any, saved: tuple[Any, Path], tmp_path: Path) -> None:
    _, folder = saved
    with pytest.raises(ModelError, match="there is no such folder; nothing is downloaded"):
        load(build, tmp_path / "none")
    with pytest.raises(ModelError, match="no config.json in it"):
        load(build, tmp_path)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:1000])
    with pytest.raises(CorruptCheckpointError, match="cannot be read"):
        load(build, folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(weights)
    with pytest.raises(ModelError, match=r"no \.safetensors file, and pickle files are not read"):
        load(build, folder)


def test_weights_of_another_model(build: Any, saved: tuple[Any, Path]) -> None:
    _, folder = saved
    content = read_config(folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**content, "encoder_ffn_dim": 32}))
    with pytest.raises(IncompatibleWeightsError, match=r"do not fit its config\.json"):
        load(build, folder)
    from safetensors.torch import save_file

    file.write_text(json.dumps(content))
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IncompatibleWeightsError, match="weights are of another model"):
        load_folder(folder, content, "detection", {}, 3)


def test_bad_configs(build: Any, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    for text, message in (
        ("{", "cannot be read"),
        ("[]", "it has no model_type"),
        ('{"model_type": "rt_detr_v2", "backbone": "microsoft/resnet-50"}', "looks up on the hub"),
        ('{"model_type": "nothing"}', "has no model type 'nothing'"),
        ('{"model_type": "segformer"}', "'detection', but transformers' models of type 'segformer' are not for it"),
        ('{"model_type": "d_fine", "d_model": "big"}', r"take these values \(.*config\.json\)"),
        ('{"model_type": "d_fine", "auto_map": {"AutoModel": "evil.Model"}}', r"no \.safetensors file"),
    ):
        file.write_text(text)
        with pytest.raises(ModelError, match=message):
            load(build, tmp_path)


def test_a_backbone_by_timms_name_is_no_download(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "detr", "backbone": "resnet50"}')
    assert read_config(tmp_path)["backbone"] == "resnet50"


@pytest.mark.parametrize(
    ("content", "warned"),
    [
        ({"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "rescale_factor": 1 / 255}, False),
        ({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}, True),
        ({"do_normalize": False, "image_mean": [0.485, 0.456, 0.406]}, True),
        ({"image_mean": "?"}, False),
        ([], False),
    ],
)
def test_other_normalisation_is_told(content: Any, warned: bool, tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    with caplog.at_level(logging.WARNING):
        warn_of_normalisation(tmp_path, mean, std, bgr=False)
        warn_of_normalisation(tmp_path, mean[::-1], std[::-1], bgr=True)
    assert ("MODEL.PIXEL_MEAN" in caplog.text) == warned
    if "do_normalize" in content:
        assert "MODEL.PIXEL_MEAN [0.0, 0.0, 0.0] and MODEL.PIXEL_STD [255" in caplog.text
