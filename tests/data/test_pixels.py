"""The memory layout of images between decoder and batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from drivetrain.data.pixels import as_image, blank, resized, reversed_channels


def picture(height: int = 5, width: int = 7, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_an_array_of_any_layout_is_an_image() -> None:
    image = picture()
    for given in (image, np.asfortranarray(image), image[:, ::-1].copy()[:, ::-1]):
        assert (as_image(given).numpy() == image.transpose(2, 0, 1)).all()
    assert as_image(image).data_ptr() == image.ctypes.data and as_image(image).stride() == (1, 21, 3)
    assert as_image(image[:, :, 0].copy()).shape == (1, 5, 7)
    assert (as_image(image[:, :, ::-1]).numpy() == image.transpose(2, 0, 1)[::-1]).all()


def layouts(image: np.ndarray) -> dict[str, Tensor]:
    """One image in several layouts."""
    larger = np.pad(image, ((2, 3), (1, 4), (0, 0)))
    height, width = image.shape[:2]
    return {
        "decoded": as_image(image),
        "planes": as_image(image).contiguous(),
        "crop": as_image(larger)[:, 2 : 2 + height, 1 : 1 + width],
        "crop of planes": as_image(larger).contiguous()[:, 2 : 2 + height, 1 : 1 + width],
        "turned": as_image(image.transpose(1, 0, 2).copy()).transpose(1, 2),
        "mirrored": as_image(image[:, ::-1].copy()).flip(-1),
    }


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [(40, 70), (9, 13), (20, 30), (1, 50), (60, 2)])
def test_resized_pixels_do_not_depend_on_the_layout(channels: int, antialias: bool, size: tuple[int, int]) -> None:
    """They are those that torchvision makes of planes."""
    images = layouts(picture(20, 30, channels))
    expected = functional.resize_image(images["planes"], list(size), antialias=antialias)
    for name, image in images.items():
        assert torch.equal(resized(image, size, antialias=antialias), expected), name


@pytest.mark.parametrize("layout", ["decoded", "crop", "mirrored"])
def test_colours_stay_side_by_side(layout: str) -> None:
    """Where they do not, all pixels were taken apart and put together again, which takes longer than the resize."""
    assert resized(layouts(picture(20, 30))[layout], (9, 13)).stride() == (1, 39, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_made_of_an_image_has_its_layout(channels: int) -> None:
    for image in layouts(picture(20, 30, channels)).values():
        canvas, swapped = blank(image, (9, 13), 114), reversed_channels(image)
        assert torch.equal(canvas, torch.full((channels, 9, 13), 114, dtype=torch.uint8))
        assert torch.equal(swapped, image.flip(0))
        assert image.stride(0) != 1 or (canvas.stride(0) == 1 or channels == 1)
        assert not image.is_contiguous() or (canvas.is_contiguous() and swapped.is_contiguous())


def test_floats_are_resized_too() -> None:
    image = as_image(picture(20, 30)).float()
    assert torch.equal(resized(image, (9, 13)), functional.resize_image(image.contiguous(), [9, 13]))
