"""detectron2's geometric transforms."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from drivetrain.compat.transforms_base import NoOpTransform, Sized, Transform, TransformList
from drivetrain.compat.transforms_geometry import (
    CropTransform,
    ExtentTransform,
    HFlipTransform,
    PadTransform,
    ResizeTransform,
    RotationTransform,
    VFlipTransform,
    from_native,
)
from drivetrain.data import transforms as native

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
POINTS = np.array([[3.0, 4.0], [11.5, 7.25]])
CASES: dict[str, Transform] = {
    "hflip": HFlipTransform(20),
    "vflip": VFlipTransform(12),
    "crop": CropTransform(2, 3, 12, 8, 20, 12),
    "pad": PadTransform(1, 2, 3, 4, 20, 12, pad_value=7, seg_pad_value=255),
    "resize": ResizeTransform(12, 20, 24, 60),
    "turn": RotationTransform(12, 20, 90),
    "tilt": RotationTransform(12, 20, 30, expand=False),
}
COORDS = {
    "hflip": [[17, 4], [8.5, 7.25]],
    "vflip": [[3, 8], [11.5, 4.75]],
    "crop": [[1, 1], [9.5, 4.25]],
    "pad": [[4, 6], [12.5, 9.25]],
    "resize": [[9, 8], [34.5, 14.5]],
    "turn": [[4, 17], [7.25, 8.5]],
}


@pytest.mark.parametrize("name", COORDS)
def test_points(name: str) -> None:
    before = POINTS.copy()
    assert np.allclose(CASES[name].apply_coords(POINTS), COORDS[name])
    assert np.array_equal(POINTS, before)


@pytest.mark.parametrize("name", CASES)
def test_inverses_bring_points_back(name: str) -> None:
    transform = CASES[name]
    assert np.allclose(transform.inverse().apply_coords(transform.apply_coords(POINTS)), POINTS)


@pytest.mark.parametrize("name", ["hflip", "vflip", "turn"])
def test_inverses_bring_images_back(name: str) -> None:
    transform = CASES[name]
    moved = transform.apply_image(IMAGE)
    assert not np.array_equal(moved, IMAGE)
    assert np.array_equal(transform.inverse().apply_image(moved), IMAGE)


def test_flips_are_contiguous() -> None:
    for transform, expected in ((HFlipTransform(20), IMAGE[:, ::-1]), (VFlipTransform(12), IMAGE[::-1])):
        moved = transform.apply_image(IMAGE)
        assert np.array_equal(moved, expected) and moved.flags.c_contiguous


def test_crop_and_pad() -> None:
    crop, pad = CASES["crop"], CASES["pad"]
    assert np.array_equal(crop.apply_image(IMAGE), IMAGE[3:11, 2:14])
    padded = pad.apply_image(IMAGE)
    assert padded.shape == (18, 24, 3) and padded[0, 0, 0] == 7 and np.array_equal(padded[2:14, 1:21], IMAGE)
    assert pad.apply_segmentation(IMAGE[:, :, 0])[0, 0] == 255
    assert np.array_equal(pad.inverse().apply_image(padded), IMAGE)
    (polygon,) = crop.apply_polygons([[[0, 3], [8, 3], [8, 9], [0, 9]], [[0, 0], [1, 0], [1, 1]]])
    assert {tuple(p) for p in polygon.tolist()} == {(0, 0), (6, 0), (6, 6), (0, 6)}
    for transform in (CropTransform(0, 0, 2, 2), PadTransform(1, 1, 1, 1)):
        with pytest.raises(ValueError, match="needs orig_w and orig_h"):
            transform.inverse()


def test_resize_is_pillows() -> None:
    resize = ResizeTransform(12, 20, 7, 9)
    expected = np.asarray(Image.fromarray(IMAGE).resize((9, 7), Image.Resampling.BILINEAR))
    assert np.array_equal(resize.apply_image(IMAGE), expected)
    assert np.array_equal(resize.apply_image(IMAGE[:, :, :1])[:, :, 0], expected[:, :, 0])
    labels = IMAGE[:, :, 0].astype(np.int64)
    assert set(np.unique(resize.apply_segmentation(labels))) <= set(np.unique(labels))
    flat = np.full((12, 20), 0.25, dtype=np.float32)
    moved = resize.apply_image(flat)
    assert moved.dtype == np.float32 and moved.shape == (7, 9) and np.allclose(moved, 0.25)
    with pytest.raises(ValueError, match="12 x 20, not 20 x 12"):
        resize.apply_image(IMAGE.swapaxes(0, 1))
    assert ResizeTransform(2, 2, 4, 4).apply_coords(np.array([[1, 1]])).tolist() == [[2, 2]]


def test_rotation() -> None:
    turn = RotationTransform(12, 20, 90)
    assert (turn.bound_h, turn.bound_w) == (20, 12)
    assert np.array_equal(turn.apply_image(IMAGE), np.rot90(IMAGE))
    labels = IMAGE[:, :, 0].astype(np.int64)
    for wide in (labels, labels * 70_000 - 1, labels.astype(np.float32) / 3, labels > 100, IMAGE[:, :, 0]):
        turned = turn.apply_segmentation(wide)
        assert turned.dtype == wide.dtype and np.array_equal(turned, np.rot90(wide))
    tilted = RotationTransform(12, 20, 30).apply_segmentation(labels * 70_000)
    assert np.array_equal(tilted, RotationTransform(12, 20, 30).apply_segmentation(labels) * 70_000)
    about = RotationTransform(12, 20, 180, expand=False, center=(5, 5))
    assert np.allclose(about.apply_coords(np.array([[4, 3]])), [[6, 7]])
    with pytest.raises(ValueError, match="not float32"):
        turn.apply_image(IMAGE.astype(np.float32))


def test_extent() -> None:
    extent = ExtentTransform((4, 2, 14, 8), (12, 20))
    assert np.allclose(extent.apply_coords(np.array([[9.0, 5.0]])), [[10, 6]])
    moved = extent.apply_image(IMAGE)
    assert moved.shape == (12, 20, 3)
    exact = ExtentTransform((4, 2, 14, 8), (6, 10)).apply_segmentation(IMAGE[:, :, 0])
    assert np.array_equal(exact, IMAGE[2:8, 4:14, 0])
    over = ExtentTransform((-10, -6, 30, 18), (24, 40), fill=9).apply_image(IMAGE)
    assert (over[0, 0] == 9).all() and np.array_equal(over[7:17, 11:29], IMAGE[1:11, 1:19])
    with pytest.raises(ValueError, match="needs a width and a height"):
        ExtentTransform((1, 1, 1, 5), (2, 2))


@pytest.mark.parametrize(
    ("transform", "kind"),
    [
        (native.NoOpTransform((12, 20)), NoOpTransform),
        (native.FlipTransform((12, 20)), HFlipTransform),
        (native.FlipTransform((12, 20), horizontal=False), VFlipTransform),
        (native.CropTransform((12, 20), 1, 2, 5, 6), CropTransform),
        (native.PadTransform((12, 20), (16, 30), 1, 2), PadTransform),
        (native.ResizeTransform((12, 20), (24, 40)), ResizeTransform),
        (native.RotationTransform((12, 20), 30), RotationTransform),
        (native.RotationTransform((12, 20), 30, expand=False, center=(3, 4)), RotationTransform),
        (native.TransformList([native.FlipTransform((12, 20))], (12, 20)), TransformList),
        (native.ColorTransform((12, 20), (("brightness", 0.5),)), Transform),
    ],
)
def test_counterparts_do_the_same(transform: native.Transform, kind: type) -> None:
    made = from_native(transform)
    assert isinstance(made, kind)
    assert np.allclose(made.apply_coords(POINTS), transform.apply_coords(POINTS))
    box = np.array([[2.0, 3.0, 9.0, 7.0]])
    assert np.allclose(made.apply_box(box), transform.apply_boxes(box))
    difference = made.apply_image(IMAGE).astype(int) - transform.apply_image(IMAGE)
    assert abs(difference).max() <= (1 if kind is ResizeTransform else 0)
    labels, fill = IMAGE[:, :, 0], 0 if kind is RotationTransform else 255
    assert np.array_equal(made.apply_segmentation(labels), transform.apply_segmentation(labels, fill))
    square = np.array([4.0, 3, 9, 3, 9, 8, 4, 8])
    moved = made.apply_polygons([square.reshape(-1, 2)])[0]
    assert np.allclose(moved.reshape(-1), transform.apply_polygons([square])[0])


def test_what_is_detectron2s_stays() -> None:
    flip = HFlipTransform(20)
    assert from_native(flip) is flip and from_native(Sized(flip, (12, 20))) is flip
