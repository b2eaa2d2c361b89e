"""Classifiers from torchvision."""

from __future__ import annotations

import pytest
import torch
import torchvision

from drivetrain.errors import ModelError
from drivetrain.modeling.torchvision.classifiers import torchvision_classifier


def test_networks_are_torchvisions() -> None:
    net, size = torchvision_classifier("mobilenet_v3_small", 5, {"dropout": 0.7})
    with torch.device("meta"):
        theirs = torchvision.models.mobilenet_v3_small(weights=None, num_classes=5).state_dict()
    assert size is None
    assert {n: v.shape for n, v in net.state_dict().items()} == {n: v.shape for n, v in theirs.items()}
    assert net.classifier[2].p == 0.7


def test_networks_of_one_image_size() -> None:
    with torch.device("meta"):
        assert torchvision_classifier("vit_b_32", 3)[1] == (224, 224)
        assert torchvision_classifier("vit_b_32", 3, {"image_size": 96})[1] == (96, 96)
        assert torchvision_classifier("maxvit_t", 3)[1] == (224, 224)


def test_googlenet_gives_its_auxiliary_logits_without_a_warning() -> None:
    with torch.device("meta"):
        net, _ = torchvision_classifier("googlenet", 3, {"init_weights": False})
    assert net.aux_logits


def test_unknown_names_and_options() -> None:
    with pytest.raises(ModelError, match=r"'resnet_50' \(MODEL.NAME or .*did you mean 'resnet50'.*'timm/NAME'"):
        torchvision_classifier("resnet_50", 3)
    with pytest.raises(ModelError, match=r"'resnet18' cannot be made with MODEL.CLASSIFIER.OPTIONS {'dropout': 0.5}"):
        torchvision_classifier("resnet18", 3, {"dropout": 0.5})
