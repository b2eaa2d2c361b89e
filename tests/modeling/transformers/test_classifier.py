"""Image classifiers of the library under the contract."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from drivetrain.errors import ModelError

SMALL_SWIN = {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4, "image_size": 64}
CASES: dict[str, dict[str, Any]] = {
    "vit": {},
    "swin": {"BASE": "swin", "CONFIG": SMALL_SWIN},
    "resnet": {"BASE": "resnet", "CONFIG": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}},
}


@pytest.mark.parametrize("name", CASES)
def test_loss_and_probabilities(name: str, build: Any, scene: Any) -> None:
    model = build("vit_tiny", **CASES[name]).eval()
    batch = scene(((128, 128), (128, 128)))
    pixels = model.prepare(batch).tensor
    assert pixels.shape == (2, 3, 128, 128)
    arguments = {"interpolate_pos_encoding": True} if name != "resnet" else {}
    logits = model.net(pixels, **arguments).logits
    with torch.no_grad():
        outputs = model(batch)
    assert torch.allclose(torch.stack([o["classes"] for o in outputs]), logits.softmax(1), atol=1e-6)
    for module in model.modules():  # the same statistics and no dropout, but losses
        module.training = module is model
    losses = model(batch)
    assert set(losses) == {"loss_cls"}
    assert losses["loss_cls"].item() == pytest.approx(cross_entropy(logits, torch.tensor([0, 1])).item(), rel=1e-5)


def test_every_parameter_learns(build: Any, scene: Any) -> None:
    model = build("vit_tiny")
    sum(model(scene(((128, 128),) * 2)).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
def test_other_sizes_go(build: Any, scene: Any) -> None:
    model = build("vit_tiny").eval()
    outputs = model(scene(((96, 160), (64, 64), (100, 90))))
    assert all(output["classes"].shape == (3,) for output in outputs)
    assert all(output["classes"].sum().item() == pytest.approx(1, abs=1e-5) for output in outputs)


def test_one_class_is_a_class_too(build: Any, scene: Any) -> None:
    """The library takes a single output for a regression unless it is told."""
    loss = build("vit_tiny", classes=1)(scene(((128, 128),), classes=1))["loss_cls"]
    assert loss.item() == 0


def test_errors(build: Any, scene: Any) -> None:
    model = build("vit_tiny")
    batch = scene(((128, 128),) * 2)
    batch[1]["class_id"] = 3
    with pytest.raises(ModelError, match=r"here 0 to 2, but that of 1\.jpg is 3: set MODEL.NUM_CLASSES"):
        model(batch)
    del batch[0]["class_id"]
    with pytest.raises(ModelError, match=r"that of 0\.jpg is None"):
        model(batch)
