"""Classifier: the libraries' networks on a batch, number for number."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from drivetrain.errors import ModelError
from drivetrain.modeling import build_model, check_losses, check_outputs
from drivetrain.modeling.classifier import Classifier
from drivetrain.runtime.compute import compiled_parts

MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)


def prepared(batch) -> torch.Tensor:
    return torch.stack([(entry["image"] - MEAN) / STD for entry in batch])


@pytest.mark.parametrize("name", ["timm/test_resnet", "torchvision/resnet18"])
def test_loss_and_probabilities_are_the_librarys(make_cfg, make_batch, add_targets, name) -> None:
    torch.manual_seed(0)
    model = build_model(make_cfg(name, MODEL__CLASSIFIER__LABEL_SMOOTHING=0.1))
    library, _, plain = name.partition("/")
    make = timm.create_model if library == "timm" else torchvision.models.get_model
    theirs = make(plain, num_classes=3)
    theirs.load_state_dict(model.net.state_dict())
    batch = add_targets(make_batch((64, 96), (64, 96), (64, 96)))
    classes = torch.tensor([entry["class_id"] for entry in batch])
    losses = model(batch)
    check_losses(losses)
    expected = F.cross_entropy(theirs(prepared(batch)), classes, label_smoothing=0.1)
    assert losses["loss_cls"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert set(losses) == {"loss_cls"}
    model.eval(), theirs.eval()
    with torch.no_grad():
        outputs = model(batch)
        wanted = theirs(prepared(batch)).softmax(dim=1)
    check_outputs(outputs, batch)
    assert torch.allclose(torch.stack([output["classes"] for output in outputs]), wanted, atol=1e-5)


def test_probabilities_do_not_depend_on_the_batch(make_cfg, make_batch) -> None:
    torch.manual_seed(0)
    model = build_model(make_cfg("classifier_tiny")).eval()
    batch = make_batch((64, 96), (50, 70), (64, 96))
    with torch.no_grad():
        together, alone = model(batch), [model([entry])[0] for entry in batch]
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a["classes"], b["classes"], atol=1e-6)


def test_images_of_several_sizes_train(make_cfg, make_batch, add_targets) -> None:
    model = build_model(make_cfg("classifier_tiny"))
    loss = model(add_targets(make_batch((64, 96), (50, 70))))["loss_cls"]
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_auxiliary_classifiers(make_batch, add_targets) -> None:
    class Two(nn.Module):
        def forward(self, images):
            logits = torch.arange(3.0).repeat(len(images), 1)
            return (logits, -logits, 2 * logits) if self.training else logits

    model = Classifier(Two(), 3, [0.0] * 3, [1.0] * 3)
    batch = add_targets(make_batch((8, 8)))
    batch[0]["class_id"] = 2
    losses, values = model(batch), torch.arange(3.0)
    of_first, *of_others = (-v.log_softmax(0)[2] for v in (values, -values, 2 * values))
    assert losses["loss_cls"].item() == pytest.approx(of_first.item())
    assert losses["loss_aux"].item() == pytest.approx(0.3 * sum(of_others).item())


def test_a_network_of_one_size_says_so(make_cfg, make_batch, add_targets) -> None:
    swin = "timm/swin_tiny_patch4_window7_224"
    options = {"img_size": 96, "embed_dim": 12, "depths": (1, 1), "num_heads": (1, 1), "window_size": 3}
    model = build_model(make_cfg(swin, MODEL__CLASSIFIER__OPTIONS=options))
    assert model.image_size == (96, 96)
    assert model(add_targets(make_batch((96, 96))))["loss_cls"].isfinite()
    with pytest.raises(ModelError, match=r"height x width 96 x 96 alone, but 64 x 96 were .*INPUT.SIZE to \[96, 96\]"):
        model(add_targets(make_batch((64, 96))))


def test_what_is_compiled_is_the_network() -> None:
    model = Classifier(nn.Flatten(), 3, [0.0] * 3, [1.0] * 3)
    assert compiled_parts(model) == [model]
    model.compile(backend="eager")
    assert model._compiled_call_impl is None
    assert model.net._compiled_call_impl is not None


def test_frozen_batch_norm(make_cfg) -> None:
    model = build_model(make_cfg("classifier_tiny", MODEL__BACKBONE__NORM="FrozenBN"))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_bad_input_is_named(make_cfg, make_batch) -> None:
    model = build_model(make_cfg("classifier_tiny"))
    with pytest.raises(ModelError, match="empty"):
        model([])
    with pytest.raises(ModelError, match="'class_id', here 0 to 2, but that of 0.jpg is None"):
        model(make_batch((32, 32)))
    with pytest.raises(ModelError, match="'timm/test_resnet' is a network already: leave .* 'resnet18'"):
        build_model(make_cfg("timm/test_resnet", MODEL__BACKBONE__NAME="resnet18"))
    with pytest.raises(ModelError, match="FREEZE_AT is 2, but a classifier's stages"):
        build_model(make_cfg("classifier_tiny", MODEL__BACKBONE__FREEZE_AT=2))
    with pytest.raises(ModelError, match="has 'pretrained', but weights are never downloaded"):
        build_model(make_cfg("classifier_tiny", MODEL__CLASSIFIER__OPTIONS={"pretrained": True}))
    with pytest.raises(ModelError, match=r"'timm/test_resnett' \(MODEL.NAME or .*did you mean 'test_resnet'"):
        build_model(make_cfg("timm/test_resnett"))
