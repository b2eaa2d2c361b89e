"""Rotation, against quarter turns by NumPy and against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from drivetrain.data.transforms import NoOpTransform, RandomRotation, RotationTransform
from drivetrain.errors import ConfigError
from drivetrain.structures import polygons_to_bitmask

IMAGE = np.random.default_rng(0).integers(0, 256, (5, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_lose_nothing(turns: int) -> None:
    transform = RotationTransform((5, 8), 90 * turns)
    assert (transform.apply_image(IMAGE) == np.rot90(IMAGE, turns)).all()
    mask = IMAGE[..., 0] > 100
    assert (transform.apply_bitmask(mask) == np.rot90(mask, turns)).all()


@pytest.mark.parametrize("angle", [30, -75, 200.5])
def test_a_smooth_image_turns_as_pillow_turns_it(angle: float) -> None:
    y, x = np.mgrid[:60, :80]
    image = (127 + 60 * np.sin(x / 9) + 60 * np.cos(y / 7)).astype(np.uint8)
    transform = RotationTransform((60, 80), angle, expand=False)
    pillow = np.asarray(Image.fromarray(image).rotate(angle, resample=Image.Resampling.BILINEAR))
    inside = transform.apply_bitmask(np.pad(np.ones((54, 74), dtype=bool), 3))
    difference = np.abs(transform.apply_image(image).astype(int) - pillow)[inside]
    assert inside.sum() > 1000 and difference.max() <= 2


def test_points_go_where_the_pixels_go() -> None:
    image = np.zeros((40, 60), dtype=np.uint8)
    image[10:14, 45:49] = 255
    for expand in (True, False):
        transform = RotationTransform((40, 60), 25, expand=expand)
        rows, columns = np.nonzero(transform.apply_image(image) > 127)
        centre = transform.apply_coords(np.array([[47.0, 12.0]]))[0]
        assert np.abs(np.array([columns.mean() + 0.5, rows.mean() + 0.5]) - centre).max() < 0.3


def test_polygons_turn_as_masks_do_and_end_at_the_canvas() -> None:
    polygon = [5.0, 5.0, 55.0, 5.0, 55.0, 35.0, 5.0, 35.0]
    transform = RotationTransform((40, 60), 40, expand=False)
    mask = transform.apply_bitmask(polygons_to_bitmask([np.array(polygon)], 40, 60))
    turned = transform.apply_polygons([polygon])
    assert all(p.min() >= 0 and p[0::2].max() <= 60 and p[1::2].max() <= 40 for p in turned)
    assert (polygons_to_bitmask(turned, 40, 60) != mask).sum() < 0.06 * mask.sum()


def test_a_canvas_that_grows_holds_every_corner() -> None:
    transform = RotationTransform((40, 60), 33)
    box = transform.apply_boxes(np.array([[0.0, 0.0, 60.0, 40.0]]))[0]
    height, width = transform.output_size
    assert (box[:2] >= 0).all() and box[2] <= width and box[3] <= height
    assert box[2] - box[0] > width - 1 and box[3] - box[1] > height - 1


def test_a_point_of_ones_own_stays_where_it_is() -> None:
    transform = RotationTransform((40, 60), 70, expand=False, center=(12.0, 30.0))
    assert np.allclose(transform.apply_coords(np.array([[12.0, 30.0]])), [[12.0, 30.0]])


def test_what_was_not_in_the_image() -> None:
    image, labels = torch.full((3, 20, 20), 50, dtype=torch.uint8), torch.full((20, 20), 4, dtype=torch.uint8)
    transform = RotationTransform((20, 20), 45, value=9)
    assert (transform.apply_image(image)[:, 0, 0] == 9).all()
    turned = transform.apply_segmentation(labels)
    assert turned[0, 0] == 255 and turned[14, 14] == 4 and set(turned.flatten().tolist()) == {4, 255}


def test_drawn_angles() -> None:
    rng = np.random.default_rng(0)
    angles = [t.angle for t in (RandomRotation((-10, 30)).draw(rng, 9, 9) for _ in range(500)) if hasattr(t, "angle")]
    assert -10 <= min(angles) < -8 and 28 < max(angles) <= 30
    assert isinstance(RandomRotation([0], sample_style="choice").draw(rng, 9, 9), NoOpTransform)
    chosen = {RandomRotation([90, 180], sample_style="choice").draw(rng, 9, 9).angle for _ in range(50)}  # type: ignore[attr-defined]
    assert chosen == {90, 180}
    about = RandomRotation(20, expand=False, center=((0.25, 0.5), (0.25, 0.5))).draw(rng, 40, 60)
    assert np.allclose(about.apply_coords(np.array([[15.0, 20.0]])), [[15.0, 20.0]])


@pytest.mark.parametrize(("angle", "style"), [((10, -10), "range"), ((1, 2, 3), "range"), ([], "choice"), (5, "even")])
def test_angles_that_are_none(angle: object, style: str) -> None:
    with pytest.raises(ConfigError):
        RandomRotation(angle, sample_style=style)  # type: ignore[arg-type]
