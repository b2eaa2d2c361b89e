"""What all adapted transformers models share."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from drivetrain.modeling.transformers.adapter import TransformersModel
from drivetrain.modeling.transformers.frames import Frame


class Net(torch.nn.Module):
    """Stands for a model of the library."""

    class config:
        num_labels = 4

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.mask_token = torch.nn.Parameter(torch.ones(1))


class Model(TransformersModel):
    """Answers with how many images it saw at once."""

    def batch_losses(self, batch: Any) -> Any:
        return {"loss": self.net.weight.sum() * len(batch)}

    def batch_outputs(self, batch: Any) -> Any:
        return [{"together": len(batch), "file": entry["file_name"]} for entry in batch]


def test_images_are_normalised_padded_and_rgb(scene: Any) -> None:
    batch = scene(((40, 70), (32, 20)))
    images = Model(Net(), pixel_mean=(1, 2, 3), pixel_std=(2, 4, 8)).prepare(batch)
    assert images.tensor.shape == (2, 3, 64, 96) and images.image_sizes == [(40, 70), (32, 20)]
    mean, std = torch.tensor([1.0, 2, 3])[:, None, None], torch.tensor([2.0, 4, 8])[:, None, None]
    assert torch.allclose(images[0], (batch[0]["image"] - mean) / std)
    assert not images.tensor[0, :, 40:].any() and not images.tensor[1, :, :, 20:].any()
    bgr = Model(Net(), pixel_mean=(1, 2, 3), pixel_std=(2, 4, 8), bgr=True).prepare(batch)
    assert bgr.tensor.equal(images.tensor.flip(1))


def test_squares(scene: Any) -> None:
    images = Model(Net(), size_divisibility=8, square=True).prepare(scene(((40, 70), (32, 20))))
    assert images.tensor.shape == (2, 3, 72, 72) and images.image_sizes == [(40, 70), (32, 20)]
    assert not images.tensor[:, :, 40:].any() and not images.tensor[0, :, :, 70:].any()


def test_frames_have_the_three_sizes(scene: Any) -> None:
    model = Model(Net())
    batch = scene(((40, 70),), height=80, width=210)
    assert model.frames(batch, model.prepare(batch)) == [Frame((64, 96), (40, 70), (80, 210))]
    del batch[0]["height"], batch[0]["width"]
    assert model.frames(batch, model.prepare(batch))[0].original == (40, 70)


def test_what_the_model_knows_of_itself() -> None:
    model = Model(Net())
    assert model.num_classes == 4
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["net.weight"]
    assert list(model.state_dict()) == ["net.weight", "net.mask_token"]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("dfine_tiny", "model.backbone"),
        ("mask2former_tiny", "model.pixel_level_module.encoder"),
        ("segformer_tiny", ""),
    ],
)
def test_the_backbone_is_compiled_where_it_is_set_apart(name: str, part: str, build: Any, scene: Any) -> None:
    model = build(name)
    model.compile(backend="eager")
    compiled = [n for n, module in model.net.named_modules() if module._compiled_call_impl is not None]
    assert compiled == [part]
    if part:
        assert sum(model(scene(((64, 64),))).values()).isfinite()
