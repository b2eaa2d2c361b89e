"""SegFormer and its kin under the contract."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from drivetrain.errors import ModelError

SWIN = {
    "model_type": "swin",
    "embed_dim": 16,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 2, 2, 2],
    "window_size": 4,
    "image_size": 64,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
CASES: dict[str, dict[str, Any]] = {
    "segformer": {"BASE": "segformer_tiny"},
    "upernet": {
        "BASE": "upernet",
        "CONFIG": {"backbone_config": SWIN, "hidden_size": 16, "auxiliary_channels": 16},
    },
    "upernet on timm": {
        "BASE": "upernet",
        "backbone": "timm/test_resnet",
        "CONFIG": {"hidden_size": 16, "auxiliary_channels": 16},
    },
}


@pytest.mark.parametrize("name", CASES)
def test_loss_equals_the_librarys(name: str, build: Any, scene: Any) -> None:
    model = build("segformer", **CASES[name])
    batch = scene()
    labels = torch.full((2, 96, 128), 255)
    for row, entry in zip(labels, batch, strict=True):
        height, width = entry["sem_seg"].shape
        row[:height, :width] = entry["sem_seg"]
    pixels = model.prepare(batch).tensor
    torch.manual_seed(1)
    expected = model.net(pixel_values=pixels, labels=labels).loss
    torch.manual_seed(1)
    losses = model(batch)
    assert set(losses) == {"loss_sem_seg"}
    assert losses["loss_sem_seg"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_padding_and_ignored_pixels_do_not_count(build: Any, scene: Any) -> None:
    """The loss is the cross entropy over labelled pixels alone."""
    model = build("segformer_tiny")
    batch = scene(((64, 90),))
    loss = model(batch)["loss_sem_seg"]
    logits = interpolate(model.net(pixel_values=model.prepare(batch).tensor).logits, size=(64, 96), mode="bilinear")
    labelled = batch[0]["sem_seg"] != 255
    assert 0 < labelled.sum() < labelled.numel()
    picked = logits[0, :, :, :90][:, labelled]
    assert loss.item() == pytest.approx(cross_entropy(picked.T, batch[0]["sem_seg"][labelled]).item(), rel=1e-5)


def test_without_a_labelled_pixel_the_loss_is_zero(build: Any, scene: Any, emptied: Any) -> None:
    model = build("segformer_tiny")
    loss = model(emptied(scene()))["loss_sem_seg"]
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@torch.no_grad()
def test_scores_are_in_the_original_image(build: Any, scene: Any) -> None:
    """Without padding they are the logits that the library's post-processing takes the largest of."""
    from transformers.models.segformer.image_processing_segformer import SegformerImageProcessor

    model = build("segformer_tiny").eval()
    batch = scene(((96, 128), (64, 90)), height=150, width=170)
    outputs = model(batch)
    assert [output["sem_seg"].shape for output in outputs] == [(3, 150, 170)] * 2
    raw = model.net(pixel_values=model.prepare(batch[:1]).tensor)
    (expected,) = SegformerImageProcessor.post_process_semantic_segmentation(None, raw, [(150, 170)])
    assert outputs[0]["sem_seg"].argmax(0).equal(expected)


@torch.no_grad()
def test_padding_is_cut_off(build: Any, scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that finds class 1 in the padding and class 0 elsewhere has found class 0 everywhere."""
    from types import SimpleNamespace

    model = build("segformer_tiny").eval()
    logits = torch.zeros(1, 3, 24, 24)
    logits[:, 0, :16, :16], logits[:, 1, 16:], logits[:, 1, :, 16:] = 1, 1, 1
    monkeypatch.setattr(model.net, "forward", lambda **kwargs: SimpleNamespace(logits=logits))
    (output,) = model(scene(((65, 65),), height=130, width=130))  # padded to 96 x 96, 4 pixels a cell
    assert (output["sem_seg"].argmax(0) == 0).float().mean() > 0.95


def test_errors(build: Any, scene: Any) -> None:
    model = build("segformer_tiny")
    batch = scene()
    batch[1]["sem_seg"][0, 0] = 3
    with pytest.raises(ModelError, match=r"1\.jpg has the labels \[3\], but the model has 3 classes"):
        model(batch)
    batch[0]["sem_seg"] = batch[0]["sem_seg"][:50]
    with pytest.raises(ModelError, match=r"\(96, 128\), its image.s, but that of 0\.jpg is .*\(50, 128\)"):
        model(batch)
    del batch[0]["sem_seg"]
    with pytest.raises(ModelError, match=r"that of 0\.jpg is None"):
        model(batch)


def test_another_label_can_be_the_ignored_one(make_transformers_cfg: Any, scene: Any) -> None:
    from drivetrain.modeling.transformers import build_transformers

    cfg = make_transformers_cfg("segformer_tiny")
    cfg.MODEL["SEM_SEG_HEAD"] = {"IGNORE_VALUE": 2}
    torch.manual_seed(0)
    model = build_transformers(cfg).train()
    batch, other = scene(((64, 96),)), scene(((64, 96),))
    batch[0]["sem_seg"][batch[0]["sem_seg"] == 255] = 2
    other[0]["sem_seg"][other[0]["sem_seg"] == 2] = 255
    torch.manual_seed(0)
    expected = build_transformers(make_transformers_cfg("segformer_tiny")).train()(other)["loss_sem_seg"]
    assert model(batch)["loss_sem_seg"].item() == pytest.approx(expected.item(), rel=1e-6)
    with pytest.raises(ModelError, match=r"\[255\]"):
        model(other)
