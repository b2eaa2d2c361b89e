"""Padding, crops of a fixed size, letterboxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drivetrain.data.transforms import FixedSizeCrop, Letterbox, PadTransform
from drivetrain.data.transforms.pad import as_size, fitting_size
from drivetrain.errors import ConfigError

RNG = np.random.default_rng(0)


def test_what_lies_on_a_canvas() -> None:
    image = torch.arange(1, 13, dtype=torch.uint8).reshape(1, 3, 4)
    pad = PadTransform((3, 4), (6, 9), top=2, left=3, value=7)
    out = pad.apply_image(image)
    assert out.shape == (1, 6, 9) and (out[:, 2:5, 3:7] == image).all()
    out[:, 2:5, 3:7] = 7
    assert (out == 7).all()
    assert pad.apply_boxes(np.array([[0.0, 0.0, 4.0, 3.0]])).tolist() == [[3.0, 2.0, 7.0, 5.0]]
    mask = pad.apply_bitmask(np.ones((3, 4), dtype=bool))
    assert mask.dtype == bool and mask.sum() == 12 and mask[2:5, 3:7].all()


def test_labels_of_the_border_are_given_as_unknown() -> None:
    labels = np.full((3, 4), 5, dtype=np.uint8)
    out = PadTransform((3, 4), (4, 4)).apply_segmentation(labels)
    assert (out[:3] == 5).all() and (out[3] == 255).all()
    assert (PadTransform((3, 4), (4, 4)).apply_segmentation(torch.from_numpy(labels), fill=9)[3] == 9).all()


def test_an_image_beyond_the_canvas_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"3 x 4 at row 2, column 0 is not within a canvas of 4 x 9"):
        PadTransform((3, 4), (4, 9), top=2)


@pytest.mark.parametrize("size", [(20, 30), (50, 70), (20, 70), (50, 30), (32, 48)])
def test_a_crop_always_has_its_size(size: tuple[int, int]) -> None:
    crop = FixedSizeCrop((32, 48), pad_value=3)
    image = torch.randint(100, 200, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    transform = crop.draw(RNG, *size)
    out = transform.apply_image(image)
    assert out.shape == (3, 32, 48) and transform.output_size == (32, 48)
    kept = min(size[0], 32), min(size[1], 48)
    assert (out[:, kept[0] :] == 3).all() and (out[:, :, kept[1] :] == 3).all()
    # The corner of the crop, found by where the origin went, holds the same pixels.
    x, y = (-transform.apply_coords(np.zeros((1, 2)))[0]).astype(int)
    assert (out[:, : kept[0], : kept[1]] == image[:, y : y + kept[0], x : x + kept[1]]).all()


def test_crops_reach_every_place() -> None:
    crop = FixedSizeCrop((2, 2))
    places = {tuple(crop.draw(RNG, 4, 3).apply_coords(np.zeros((1, 2)))[0].tolist()) for _ in range(200)}
    assert places == {(-x, -y) for x in range(2) for y in range(3)}


def test_without_padding_small_images_stay_small() -> None:
    assert FixedSizeCrop(32, pad=False).draw(RNG, 20, 40).output_size == (20, 32)


def test_a_letterbox_keeps_the_shape_and_centres() -> None:
    transform = Letterbox((100, 100), pad_value=1).draw(RNG, 50, 200)
    image = torch.full((3, 50, 200), 80, dtype=torch.uint8)
    out = transform.apply_image(image)
    rows = (out[0] == 80).all(dim=1).nonzero().flatten()
    assert out.shape == (3, 100, 100) and rows.tolist() == list(range(37, 62))
    assert (out[:, :37] == 1).all() and (out[:, 62:] == 1).all()
    assert transform.apply_boxes(np.array([[0.0, 0.0, 200.0, 50.0]])).tolist() == [[0.0, 37.0, 100.0, 62.0]]


@pytest.mark.parametrize(
    ("size", "target", "scale", "expected"),
    [
        ((50, 200), (100, 100), 1.0, (25, 100)),
        ((200, 50), (100, 100), 0.5, (50, 13)),
        ((1, 1000), (10, 10), 1.0, (1, 10)),
        ((480, 640), (480, 640), 1.0, (480, 640)),
    ],
)
def test_the_size_that_fits(
    size: tuple[int, int], target: tuple[int, int], scale: float, expected: tuple[int, int]
) -> None:
    assert fitting_size(*size, target, scale) == expected


@pytest.mark.parametrize("wrong", [0, -3, (1, 2, 3), (1.5, 2), (True, 4)])
def test_sizes_that_are_none(wrong: object) -> None:
    with pytest.raises(ConfigError, match=r"INPUT\.SIZE must be a height and a width"):
        as_size(wrong, "INPUT.SIZE")  # type: ignore[arg-type]
    assert as_size(5, "") == (5, 5) and as_size([4, 6], "") == (4, 6)
