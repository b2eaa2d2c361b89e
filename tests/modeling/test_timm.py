"""Backbones and classifiers from timm."""

from __future__ import annotations

import sys

import pytest
import torch

from drivetrain.errors import MissingDependencyError, ModelError
from drivetrain.modeling.timm import timm_body, timm_classifier


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_byobnet", "test_efficientnet"])
def test_feature_maps_are_what_is_promised(name) -> None:
    body = timm_body(name, (8, 16, 32, 64))
    assert body.strides == (8, 16, 32)
    maps = body.module.eval()(torch.rand(1, 3, 64, 96))
    assert [m.shape for m in maps] == [
        (1, c, 64 // s, 96 // s) for c, s in zip(body.channels, body.strides, strict=True)
    ]


def test_channels_last_features_are_turned() -> None:
    body = timm_body("swin_tiny_patch4_window7_224", (8,))
    # The network takes one image size, 224 pixels.
    assert body.module.eval()(torch.rand(1, 3, 224, 224))[0].shape == (1, body.channels[0], 28, 28)


def test_nothing_behind_the_last_map_in_use() -> None:
    body = timm_body("test_resnet", (4, 8))
    loss = sum(m.sum() for m in body.module(torch.rand(2, 3, 64, 64)))
    loss.backward()
    assert all(p.grad is not None for p in body.module.parameters())


def test_unknown_names_and_models_without_features(monkeypatch) -> None:
    with pytest.raises(ModelError, match=r"'timm/resnet_50'.*did you mean '.*resnet.*'"):
        timm_body("resnet_50", (8,))
    with pytest.raises(ModelError, match=r"strides \[16\], but \[4, 8\]"):
        timm_body("test_vit", (4, 8))

    def refuse(*args, **options):
        raise RuntimeError("features_only not implemented for this model.")

    monkeypatch.setattr("timm.create_model", refuse)
    with pytest.raises(ModelError, match=r"'timm/test_vit'.*cannot give its feature maps.*not implemented"):
        timm_body("test_vit", (8,))


@pytest.mark.parametrize("make", [lambda: timm_body("test_resnet", (8,)), lambda: timm_classifier("test_resnet", 3)])
def test_a_missing_library_is_one_sentence(make, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        MissingDependencyError, match=r"^\w+ 'timm/test_resnet' \(.*\) needs timm, .*: pip install timm$"
    ):
        make()


def test_classifiers_are_timms() -> None:
    net, size = timm_classifier("test_resnet", 5, {"drop_rate": 0.3})
    assert size is None
    assert net.drop_rate == 0.3
    assert net(torch.zeros(2, 3, 32, 64)).shape == (2, 5)


def test_classifiers_of_one_image_size() -> None:
    assert timm_classifier("test_coatnet", 3)[1] == (160, 160)  # its attention has a bias per place
    assert timm_classifier("test_vit", 3)[1] is None  # it stretches its position embeddings
    assert timm_classifier("test_maxvit", 3, {"img_size": 128})[1] == (128, 128)


def test_classifiers_that_cannot_be_made() -> None:
    with pytest.raises(ModelError, match=r"network 'timm/tset_resnet'.*did you mean '.*test_resnet.*'"):
        timm_classifier("tset_resnet", 3)
    with pytest.raises(ModelError, match=r"'test_resnet' cannot be made with MODEL.CLASSIFIER.OPTIONS {'sizes': 3}"):
        timm_classifier("test_resnet", 3, {"sizes": 3})
