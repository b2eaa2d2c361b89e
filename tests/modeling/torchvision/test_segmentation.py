"""Semantic segmentation: torchvision's models, number for number."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from drivetrain.errors import ModelError
from drivetrain.modeling import MODELS, build_model, check_losses, check_outputs
from drivetrain.modeling.torchvision.segmentation import build_segmenter

MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
TINY = {  # head -> a preset on a small backbone
    "lraspp": {"name": "lraspp_tiny"},
    "fcn": {"name": "lraspp_tiny", "MODEL__SEM_SEG_HEAD__NAME": "fcn", "MODEL__SEM_SEG_HEAD__AUX_WEIGHT": 0.5},
    "deeplabv3": {"name": "lraspp_tiny", "MODEL__SEM_SEG_HEAD__NAME": "deeplabv3"},
}


@pytest.fixture
def model(request, make_cfg):
    torch.manual_seed(0)
    return build_model(make_cfg(**TINY[request.param]))


def torchvisions(model: nn.Module) -> type[nn.Module]:
    return next(kind for kind in type(model).__mro__ if kind.__module__.startswith("torchvision."))


@pytest.mark.parametrize("model", TINY, indirect=True)
def test_losses_and_scores_equal_torchvisions(model, make_batch, add_targets) -> None:
    batch = add_targets(make_batch((64, 96), (64, 96)))
    images = torch.stack([(entry["image"] - MEAN) / STD for entry in batch])
    labels = torch.stack([entry["sem_seg"].long() for entry in batch])
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    losses = model(batch)
    check_losses(losses)
    theirs = torchvisions(model).forward(model, images)
    for name, output, weight in (("loss_sem_seg", "out", 1), ("loss_aux", "aux", 0.5)):
        assert (name in losses) == (output in theirs)
        if name in losses:
            expected = weight * F.cross_entropy(theirs[output], labels, ignore_index=255)
            assert losses[name].item() == pytest.approx(expected.item(), rel=1e-5)
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    with torch.no_grad():
        outputs = model(batch)
        scores = torchvisions(model).forward(model, images)["out"]
        scores = F.interpolate(scores, (128, 192), mode="bilinear", align_corners=False)
    check_outputs(outputs, batch)
    assert torch.allclose(torch.stack([output["sem_seg"] for output in outputs]), scores, atol=1e-5)


@pytest.mark.parametrize("model", TINY, indirect=True)
def test_scores_do_not_depend_on_the_batch(model, make_batch) -> None:
    batch = make_batch((64, 96), (50, 70), (64, 96))
    del batch[1]["height"], batch[1]["width"]  # then the image itself is the original
    with torch.no_grad():
        together, alone = model.eval()(batch), [model([entry])[0] for entry in batch]
    assert [tuple(output["sem_seg"].shape) for output in together] == [(3, 128, 192), (3, 50, 70), (3, 128, 192)]
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a["sem_seg"], b["sem_seg"], atol=1e-4)


@pytest.mark.parametrize("model", ["lraspp"], indirect=True)
def test_padding_and_unknown_pixels_do_not_count(model, make_batch, add_targets) -> None:
    batch = add_targets(make_batch((64, 96), (50, 70)))
    labels = model._labels(batch, [(64, 96), (50, 70)], (64, 96))
    assert (labels[1, 50:] == 255).all() and (labels[1, :, 70:] == 255).all()
    assert torch.equal(labels[1, :50, :70], batch[1]["sem_seg"].long())
    assert model(batch)["loss_sem_seg"].isfinite()
    for entry in batch:
        entry["sem_seg"].fill_(255)
    loss = model(batch)["loss_sem_seg"]
    loss.backward()
    assert loss.item() == 0  # and not the mean of nothing
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("head", "backbone", "aux"),
    [
        ("lraspp", "mobilenet_v3_large", 0.0),
        ("fcn", "resnet50", 0.5),
        ("deeplabv3", "resnet101", 0.0),
        ("deeplabv3", "mobilenet_v3_large", 0.5),
    ],
)
def test_standard_models_have_torchvisions_weights(make_cfg, head, backbone, aux) -> None:
    name = f"{head}_{backbone}"
    assert MODELS.entry(name).values == {"SEM_SEG_HEAD.NAME": head, "BACKBONE.NAME": backbone}
    section = {"MODEL__SEM_SEG_HEAD__NAME": head, "MODEL__SEM_SEG_HEAD__AUX_WEIGHT": aux}
    with torch.device("meta"):
        theirs = torchvision.models.get_model(
            name, weights=None, weights_backbone=None, num_classes=3, **({"aux_loss": True} if aux else {})
        ).state_dict()
        ours = build_segmenter(make_cfg(name, MODEL__BACKBONE__NAME=backbone, **section)).state_dict()
    assert {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in theirs.items()}


def test_a_single_image_has_no_statistics_for_deeplab(make_cfg, make_batch, add_targets) -> None:
    model = build_model(make_cfg(**TINY["deeplabv3"]))
    with pytest.raises(ModelError, match=r"raise SOLVER\.IMS_PER_BATCH"):
        model(add_targets(make_batch((64, 64))))


def test_what_is_wrong_is_said(make_cfg, make_batch, add_targets) -> None:
    model = build_model(make_cfg("lraspp_tiny"))
    with pytest.raises(ModelError, match="empty"):
        model([])
    with pytest.raises(ModelError, match="'sem_seg', the class of each pixel .* that of 0.jpg is None"):
        model(make_batch((64, 64)))
    batch = add_targets(make_batch((64, 64)))
    batch[0]["sem_seg"][5, 5] = 3
    with pytest.raises(ModelError, match=r"label map of 0.jpg has the labels \[3\], but the model has 3 classes"):
        model(batch)
    with pytest.raises(ModelError, match="SEM_SEG_HEAD.NAME 'unet' is not one of 'fcn', 'deeplabv3', 'lraspp'"):
        build_model(make_cfg("lraspp_tiny", MODEL__SEM_SEG_HEAD__NAME="unet"))
    with pytest.raises(ModelError, match="AUX_WEIGHT is 0.4, but LR-ASPP has no second head"):
        build_model(make_cfg("lraspp_tiny", MODEL__SEM_SEG_HEAD__AUX_WEIGHT=0.4))
    with pytest.raises(ModelError, match="FREEZE_AT is 2, but fcn on resnet50 is one fixed network"):
        build_model(make_cfg("fcn_resnet50", MODEL__BACKBONE__FREEZE_AT=2))
    with pytest.raises(ModelError, match=r"'timm/test_vit' .* has feature maps of strides \[16\], but \[4, 16\] are"):
        build_model(make_cfg("lraspp_tiny", MODEL__BACKBONE__NAME="timm/test_vit"))
