"""The picture of a Visualizer: its size, colours, and the pixels of lines, masks and texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from drivetrain.compat.visualizer_canvas import VisImage, as_rgb
from drivetrain.errors import OutputError


def _blank(height: int = 60, width: int = 80) -> np.ndarray[Any, Any]:
    return np.full((height, width, 3), 100, dtype=np.uint8)


@pytest.mark.parametrize(("scale", "size"), [(1.0, (61, 81)), (0.5, (30, 40)), (1.2, (73, 97)), (0.001, (1, 1))])
def test_the_picture_is_scale_times_as_large_rounded_down(scale: float, size: tuple[int, int]) -> None:
    picture = VisImage(_blank(61, 81), scale).get_image()
    assert picture.shape == (*size, 3)
    assert picture.dtype == np.uint8
    assert (picture == 100).all()


@pytest.mark.parametrize("scale", [0, -1.0, float("nan")])
def test_a_scale_must_be_above_0(scale: float) -> None:
    with pytest.raises(ValueError, match="scale must be above 0, but"):
        VisImage(_blank(), scale)


@pytest.mark.parametrize("shape", [(5, 5), (5, 5, 4), (3, 5, 5), (0, 5, 3)])
def test_an_image_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(height, width, 3\), RGB"):
        VisImage(np.zeros(shape, np.uint8))


def test_floats_are_cut_to_0_to_255_and_tensors_are_fine() -> None:
    image = torch.tensor([[[-5.0, 12.7, 300.0]]])
    assert VisImage(image).get_image().tolist() == [[[0, 12, 255]]]


def test_views_and_the_given_image_are_left_alone() -> None:
    image = _blank()
    canvas = VisImage(image[:, :, ::-1])
    canvas.get_image()[:] = 0
    canvas.fill(np.ones((60, 80), bool), (0, 0, 0), None, 1.0)
    assert (image == 100).all()
    assert (canvas.get_image() == 0).all()


def test_a_fill_mixes_by_alpha_and_outlines() -> None:
    canvas, mask = VisImage(_blank()), np.zeros((60, 80), bool)
    mask[10:20, 30:50] = True
    canvas.fill(mask, (200, 0, 100), (1, 2, 3), 0.25)
    picture = canvas.get_image()
    assert picture[15, 40].tolist() == [125, 75, 100]
    assert picture[10, 30].tolist() == [1, 2, 3]
    assert picture[19, 49].tolist() == [1, 2, 3]
    assert (picture[~mask] == 100).all()
    with pytest.raises(ValueError, match="a mask for this image is 60x80"):
        canvas.fill(mask.T, (0, 0, 0), None, 1.0)


def test_masks_follow_the_scale() -> None:
    canvas, mask = VisImage(_blank(), 0.5), np.zeros((60, 80), bool)
    mask[10:20, 30:50] = True
    canvas.fill(mask, (255, 0, 0), None, 1.0)
    filled = (canvas.get_image() == (255, 0, 0)).all(axis=2)
    expected = np.zeros((30, 40), bool)
    expected[5:10, 15:25] = True
    assert (filled == expected).all()


def test_a_blend_mixes_by_pixel() -> None:
    canvas = VisImage(_blank(1, 3))
    canvas.blend(np.array([[0.0, 0.5, 1.0]]), (200, 0, 100))
    assert canvas.get_image()[0].tolist() == [[100, 100, 100], [150, 50, 100], [200, 0, 100]]


def test_solid_lines_have_no_gaps_and_dashed_ones_have() -> None:
    for style, gaps in (("-", False), ("--", True), (":", True), ("-.", True)):
        canvas = VisImage(_blank())
        canvas.line([(5, 30), (75, 30)], (255, 0, 0), style=style, width=2)
        row = (canvas.get_image()[30, 6:75] == (255, 0, 0)).all(axis=1)
        assert row.any()
        assert row.all() == (not gaps), style


def test_a_thin_line_lets_the_image_through() -> None:
    canvas = VisImage(_blank())
    canvas.line([(5, 30), (75, 30)], (200, 0, 0), alpha=0.5, width=2)
    assert np.abs(canvas.get_image()[30, 40].astype(int) - (150, 50, 50)).max() <= 1


def test_dots_are_round_and_scaled() -> None:
    canvas = VisImage(_blank(), 2)
    canvas.dot((40, 30), 5, (0, 0, 255))
    blue = (canvas.get_image() == (0, 0, 255)).all(axis=2)
    ys, xs = np.nonzero(blue)
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (70, 90, 50, 70)
    assert abs(blue.sum() - np.pi * 100) < 40


@pytest.mark.parametrize(("align", "left"), [("left", 60), ("center", 60 - 1), ("right", 0)])
def test_text_is_aligned_at_its_position(align: str, left: int) -> None:
    canvas = VisImage(_blank(60, 120))
    canvas.text("hello", (60, 20), (255, 255, 0), size=12, align=align)
    changed = (canvas.get_image() != 100).any(axis=2)
    ys, xs = np.nonzero(changed)
    assert ys.min() in (19, 20, 21)
    if align == "left":
        assert abs(xs.min() - left) <= 1
    elif align == "right":
        assert abs(xs.max() - 60) <= 2
    else:
        assert abs((xs.min() + xs.max()) / 2 - 60) <= 1.5


def test_turned_text_stands_upright_and_texts_stay_inside() -> None:
    canvas = VisImage(_blank(120, 120))
    canvas.text("hello world", (60, 50), (255, 255, 0), rotation=90)
    ys, xs = np.nonzero((canvas.get_image() != 100).any(axis=2))
    assert np.ptp(ys) > 3 * np.ptp(xs)
    outside = VisImage(_blank(120, 120))
    outside.text("hi", (500, 500), (255, 255, 0))
    assert (outside.get_image()[90:, 90:] != 100).any()


def test_reset_starts_anew_with_an_image_of_the_same_size() -> None:
    canvas = VisImage(_blank(), 0.5)
    canvas.reset_image(np.full((60, 80, 3), 7, np.uint8))
    assert (canvas.get_image() == 7).all()
    with pytest.raises(ValueError, match=r"an image of shape \(60, 80, 3\) is replaced here"):
        canvas.reset_image(_blank(30, 40))


def test_the_picture_is_saved_and_other_suffixes_are_refused(tmp_path: Path) -> None:
    canvas = VisImage(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    canvas.save(str(tmp_path / "deep" / "x.png"))
    assert (np.array(Image.open(tmp_path / "deep" / "x.png")) == canvas.get_image()).all()
    with pytest.raises(OutputError, match=r"x\.bmp"):
        canvas.save(tmp_path / "x.bmp")


@pytest.mark.parametrize(
    ("color", "rgb"),
    [
        ("g", (0, 128, 0)),
        ("red", (255, 0, 0)),
        ("#102030", (16, 32, 48)),
        ("tab:orange", (255, 165, 0)),
        ((1, 0, 0.5), (255, 0, 128)),
        (np.array([0.2, 0.4, 0.6, 1.0]), (51, 102, 153)),
        ([220, 20, 60], (220, 20, 60)),
        ((0, 0, 0), (0, 0, 0)),
    ],
)
def test_colours_are_read_as_matplotlib_does(color: Any, rgb: tuple[int, int, int]) -> None:
    assert as_rgb(color) == rgb


@pytest.mark.parametrize("color", ["nosuchcolour", (1, 2), (-1, 0, 0), (0, 0, 300), (float("nan"), 0, 0)])
def test_what_is_no_colour_is_refused(color: Any) -> None:
    with pytest.raises(ValueError, match="colo"):
        as_rgb(color)
