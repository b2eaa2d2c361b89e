"""detectron2's changes of colour."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageOps

from drivetrain.compat.transforms_base import NoOpTransform, Transform
from drivetrain.compat.transforms_color import (
    BlendTransform,
    ColorTransform,
    PILColorTransform,
    RandomBrightness,
    RandomContrast,
    RandomLighting,
    RandomSaturation,
)
from drivetrain.data import transforms as native

IMAGE = np.array([[[10, 20, 30], [200, 100, 0]]], dtype=np.uint8)
BOX = np.array([[0.0, 0.0, 2.0, 1.0]])


def test_blend() -> None:
    assert BlendTransform(100, 0.5, 0.5).apply_image(IMAGE).tolist() == [[[55, 60, 65], [150, 100, 50]]]
    assert BlendTransform(0, 0, 2).apply_image(IMAGE).tolist() == [[[20, 40, 60], [255, 200, 0]]]
    assert BlendTransform(1, -300, 1).apply_image(IMAGE).max() == 0
    exact = BlendTransform(1.0, 0.5, 0.5).apply_image(np.array([[0.25]], dtype=np.float32))
    assert exact.dtype == np.float32 and exact.tolist() == [[0.625]]
    assert BlendTransform(IMAGE, 1, 0).apply_image(IMAGE * 0).tolist() == IMAGE.tolist()


def test_colours_move_nothing() -> None:
    for transform in (BlendTransform(0, 1, 1), ColorTransform(lambda image: 255 - image)):
        assert transform.apply_box(BOX).tolist() == BOX.tolist()
        assert transform.apply_segmentation(IMAGE[:, :, 0]).tolist() == IMAGE[:, :, 0].tolist()
        assert isinstance(transform.inverse(), NoOpTransform)
    assert ColorTransform(lambda image: 255 - image).apply_image(IMAGE)[0, 0].tolist() == [245, 235, 225]
    inverted = PILColorTransform(ImageOps.invert)
    assert np.array_equal(inverted.apply_image(IMAGE), 255 - IMAGE)
    assert inverted.apply_segmentation(IMAGE) is IMAGE
    with pytest.raises(ValueError, match="not 3"):
        ColorTransform(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (RandomBrightness, [[[5, 10, 15], [100, 50, 0]]]),
        (RandomContrast, [[[35, 40, 45], [130, 80, 30]]]),  # the mean is 60
        (RandomSaturation, [[[14, 19, 24], [159, 109, 59]]]),  # grey is 18.15 and 118.5
    ],
)
def test_the_weight_is_the_images(kind: type, expected: list[list[list[int]]]) -> None:
    augmentation = kind(0.5, 0.5)
    assert augmentation.get_transform(IMAGE).apply_image(IMAGE).tolist() == expected
    drawn = augmentation.draw(np.random.default_rng(0), 1, 2)
    assert drawn.apply_image(IMAGE).tolist() == expected
    assert np.array_equal(kind(1, 1).get_transform(IMAGE).apply_image(IMAGE), IMAGE)
    assert not augmentation.needs_image


def test_weights_are_drawn_from_the_range() -> None:
    np.random.seed(0)
    recipe = RandomBrightness(0.8, 1.2)
    weights = [recipe.get_transform(IMAGE).dst_weight for _ in range(100)]  # type: ignore[attr-defined]
    assert 0.8 <= min(weights) < 0.83 and 1.17 < max(weights) <= 1.2
    np.random.seed(0)
    assert recipe.get_transform(IMAGE).dst_weight == weights[0]  # type: ignore[attr-defined]


def test_lighting_adds_a_colour() -> None:
    np.random.seed(0)
    black = np.zeros((2, 2, 3))
    added = np.array([RandomLighting(0.5).get_transform(black).apply_image(black)[0, 0] for _ in range(4000)])
    expected = RandomLighting(1.0).eigen_vecs * RandomLighting(1.0).eigen_vals * 0.5
    assert np.allclose(np.cov(added.T), expected @ expected.T, atol=4e-4)
    assert np.array_equal(RandomLighting(0.0).get_transform(IMAGE).apply_image(IMAGE), IMAGE)


def test_statistics_are_those_of_the_image_at_that_place() -> None:
    """Contrast after a crop takes the mean of the crop, although it was drawn before."""
    recipe = native.Compose([native.CropTransform((1, 2), 0, 1, 1, 1), RandomContrast(0.5, 0.5)])
    drawn = recipe.draw(np.random.default_rng(0), 1, 2)
    assert drawn.apply_image(IMAGE).tolist() == [[[150, 100, 50]]]
    assert isinstance(RandomContrast(0.5, 0.5).get_transform(IMAGE), Transform)
