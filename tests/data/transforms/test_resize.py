"""Resizing."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from drivetrain.data.pixels import as_image
from drivetrain.data.transforms import (
    CropTransform,
    FlipTransform,
    Letterbox,
    NoOpTransform,
    ResizeShortestEdge,
    ResizeTransform,
    TransformList,
    shortest_edge_size,
)
from drivetrain.data.transforms.resize import for_decoded, scaled_size
from drivetrain.errors import ConfigError


@pytest.mark.parametrize(
    ("size", "expected"),
    [  # sizes known from detectron2's trainings at (800, 1333)
        ((480, 640), (800, 1067)),
        ((640, 480), (1067, 800)),
        ((427, 640), (800, 1199)),
        ((375, 500), (800, 1067)),
        ((333, 500), (800, 1201)),
        ((240, 640), (500, 1333)),  # limited by the longer edge
        ((500, 500), (800, 800)),
        ((1, 4000), (1, 1333)),  # an edge never vanishes
    ],
)
def test_known_sizes(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert shortest_edge_size(*size, 800, 1333) == expected


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 1200), st.integers(1, 2000))
def test_sizes_against_exact_fractions(height: int, width: int, short: int, longest: int) -> None:
    scale = Fraction(short, min(height, width))
    if max(height, width) * scale > longest:
        scale = Fraction(longest, max(height, width))
    new = shortest_edge_size(height, width, short, longest)
    for edge, exact in zip(new, (height * scale, width * scale), strict=True):
        assert edge >= 1 and abs(edge - max(exact, 1)) <= Fraction(1, 2) + Fraction(1, 10**9)


@pytest.mark.parametrize("size", [(800, 1067), (120, 160), (239, 321)])
def test_pixels_are_those_of_pillow(size: tuple[int, int]) -> None:
    """Pillow's bilinear filter is the antialiased one; both round, so one level of difference is allowed."""
    rng = np.random.default_rng(0)
    image = np.asarray(Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((640, 480)))
    out = ResizeTransform((480, 640), size).apply_image(image)
    wanted = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    difference = np.abs(out.astype(int) - wanted.astype(int))
    assert difference.max() <= 1
    assert difference.mean() < 0.05


def test_antialias_matters_when_shrinking() -> None:
    stripes = torch.zeros(1, 64, 64, dtype=torch.uint8)
    stripes[:, :, ::2] = 200
    smooth = ResizeTransform((64, 64), (16, 16)).apply_image(stripes)
    rough = ResizeTransform((64, 64), (16, 16), antialias=False).apply_image(stripes)
    assert smooth[:, :, 1:-1].float().std() < 2 and abs(smooth.float().mean() - 100) < 5
    assert not torch.equal(smooth, rough)


def test_coordinates_and_masks() -> None:
    transform = ResizeTransform((10, 20), (30, 40))
    assert transform.apply_coords(np.array([[20.0, 10.0], [5.0, 1.0]])).tolist() == [[40.0, 30.0], [10.0, 3.0]]
    assert transform.apply_boxes(np.array([[1.0, 2.0, 3.0, 4.0]])).tolist() == [[2.0, 6.0, 6.0, 12.0]]
    mask = np.zeros((10, 20), dtype=bool)
    mask[2:4, 1:3] = True
    out = transform.apply_bitmask(mask)
    assert out[6:12, 2:6].all() and out.sum() == 24


def test_draws() -> None:
    rng = np.random.default_rng(0)
    choice = ResizeShortestEdge((20, 30, 50), 1000)
    assert {min(choice.draw(rng, 100, 200).output_size) for _ in range(60)} == {20, 30, 50}
    spread = ResizeShortestEdge((20, 25), 1000, "range")
    assert {min(spread.draw(rng, 100, 200).output_size) for _ in range(200)} == set(range(20, 26))
    assert ResizeShortestEdge(20, 30).draw(rng, 100, 200).output_size == (15, 30)
    assert isinstance(ResizeShortestEdge(0).draw(rng, 7, 9), NoOpTransform)
    assert isinstance(ResizeShortestEdge(7).draw(rng, 7, 9), NoOpTransform)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("new", [(40, 70), (9, 13)])
def test_the_layout_of_an_image_changes_nothing(new: tuple[int, int], antialias: bool) -> None:
    whole = np.random.default_rng(2).integers(0, 256, (26, 33, 3), dtype=np.uint8)
    image = as_image(whole)[:, 2:22, 1:31]
    resize = ResizeTransform((20, 30), new, antialias=antialias)
    moved = resize.apply_image(image)
    assert torch.equal(moved, resize.apply_image(image.contiguous()))
    assert torch.equal(moved, resize.apply_image(image.permute(1, 2, 0).contiguous().permute(2, 0, 1)))


def test_what_an_image_is_resized_to_before_anything_else() -> None:
    size, half = (20, 30), (10, 15)
    resize, nothing, flip = ResizeTransform(size, half), NoOpTransform(size), FlipTransform(half)
    assert scaled_size(TransformList([nothing, resize, flip], size)) == half
    assert scaled_size(TransformList([], size)) is None
    assert scaled_size(TransformList([FlipTransform(size), resize], size)) is None
    crop = CropTransform(size, 0, 0, 5, 5)
    cropped = TransformList([crop, ResizeTransform((5, 5), (9, 9))], size)
    assert scaled_size(cropped) is None
    assert scaled_size(TransformList([nothing, FlipTransform(size)], size)) is None
    boxed = Letterbox(24).draw(np.random.default_rng(0), *size)
    assert scaled_size(TransformList([boxed], size)) == (16, 24)


def test_a_scaled_image_ends_at_the_same_size() -> None:
    whole = Letterbox(24).draw(np.random.default_rng(0), 40, 60)
    scaled = for_decoded(TransformList([whole, FlipTransform((24, 24))], (40, 60)), (20, 30))
    assert scaled.input_size == (20, 30) and scaled.output_size == (24, 24)
    image = torch.arange(600, dtype=torch.float32).reshape(1, 20, 30).div(3).to(torch.uint8)
    expected = FlipTransform((24, 24)).apply_image(
        Letterbox(24).draw(np.random.default_rng(0), 20, 30).apply_image(image)
    )
    assert torch.equal(scaled.apply_image(image), expected)
    flip = TransformList([FlipTransform((4, 4))], (4, 4))
    assert for_decoded(flip, (4, 4)) is flip
    with pytest.raises(ValueError, match=r"decoded at \(2, 2\) has to be resized first, but .*FlipTransform"):
        for_decoded(flip, (2, 2))


@given(*(st.integers(1, 90) for _ in range(4)), st.booleans(), st.booleans())
def test_a_flip_goes_before_an_enlargement_and_changes_nothing(
    height: int, width: int, new_height: int, new_width: int, horizontal: bool, more: bool
) -> None:
    size, new = (height, width), (new_height, new_width)
    if new in (size, (1, 1)):  # torch resizes no colour image to a single pixel
        return
    rest = [FlipTransform(new), CropTransform(new, 0, new_width // 2, new_height, new_width - new_width // 2)]
    steps = [ResizeTransform(size, new), FlipTransform(new, horizontal=horizontal), *rest[: 2 * more]]
    drawn, image = TransformList(steps, size), np.random.default_rng(width).integers(0, 256, (*size, 3), dtype=np.uint8)
    done = for_decoded(drawn, size)
    assert isinstance(done.transforms[0], FlipTransform) == (height * width < new_height * new_width)
    assert torch.equal(done.apply_image(as_image(image)), drawn.apply_image(as_image(image)))


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match=r"MIN_SIZE_TRAIN_SAMPLING.*'random'"):
        ResizeShortestEdge((1, 2), 10, "random")
    for sizes in ((), (-1,), (1.5,), (True,)):
        with pytest.raises(ConfigError, match="MIN_SIZE"):
            ResizeShortestEdge(sizes)  # type: ignore[arg-type]
    for sizes in ((1, 2, 3), (3, 1)):
        with pytest.raises(ConfigError, match="smallest, largest"):
            ResizeShortestEdge(sizes, 10, "range")
    with pytest.raises(ConfigError, match="MAX_SIZE"):
        ResizeShortestEdge((1,), 0)
