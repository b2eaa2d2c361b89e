"""The way of a network's maps back to the original image."""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate

from drivetrain.modeling.transformers.frames import Frame


def test_without_padding_it_is_one_interpolation() -> None:
    maps = torch.rand(3, 8, 12)
    frame = Frame((32, 48), (32, 48), (50, 70))
    expected = interpolate(maps[None], size=(50, 70), mode="bilinear", align_corners=False)[0]
    assert frame.restore(maps).equal(expected)


def test_padding_is_cut_off() -> None:
    """A map that says 1 within the image and 0 in the padding is 1 in the whole original."""
    maps = torch.zeros(1, 16, 16)
    maps[:, :8, :12] = 1
    frame = Frame((64, 64), (32, 48), (320, 480))
    assert frame.crop(maps).shape == (1, 32, 48)
    restored = frame.restore(maps)
    assert restored.shape == (1, 320, 480)
    inside = restored[:, :290, :450]
    assert inside.min() == 1
    assert 0.2 < restored.min() < 1  # at the edge, half a cell of the padding is mixed in


def test_a_place_keeps_its_place() -> None:
    """The centre of a blob lies where the image says, in the original's pixels."""
    ys, xs = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    blob = torch.exp(-((ys - 5) ** 2 + (xs - 7) ** 2) / 4)[None]
    frame = Frame((64, 64), (40, 56), (80, 168))
    restored = frame.restore(blob)[0]
    y, x = (restored.sum(1) * torch.arange(80)).sum(), (restored.sum(0) * torch.arange(168)).sum()
    total = restored.sum()
    # Cell 5's centre is pixel (5 + 0.5) * 4 - 0.5 = 21.5 of the padded tensor.
    assert abs(y / total - ((21.5 + 0.5) * 2 - 0.5)) < 0.5
    assert abs(x / total - ((29.5 + 0.5) * 3 - 0.5)) < 0.5
