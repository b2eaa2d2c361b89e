"""detectron2's geometric augmentations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drivetrain.compat import transforms as T
from drivetrain.data import transforms as native
from drivetrain.errors import ConfigError

IMAGE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
RECIPES: list[tuple[Any, Any, tuple[int, int] | None]] = [
    (T.RandomFlip(1.0), T.HFlipTransform, (30, 40)),
    (T.RandomFlip(1.0, horizontal=False, vertical=True), T.VFlipTransform, (30, 40)),
    (T.RandomFlip(0.0), T.NoOpTransform, (30, 40)),
    (T.Resize((10, 50)), T.ResizeTransform, (10, 50)),
    (T.Resize(16), T.ResizeTransform, (16, 16)),
    (T.ResizeShortestEdge([60, 60], 100), T.ResizeTransform, (60, 80)),
    (T.ResizeShortestEdge(60, 70, "choice"), T.ResizeTransform, (53, 70)),
    (T.ResizeScale(0.5, 0.5, 60, 60), T.ResizeTransform, (23, 30)),
    (T.FixedSizeCrop((20, 20)), T.TransformList, (20, 20)),
    (T.FixedSizeCrop((50, 20), pad_value=9.0), T.TransformList, (50, 20)),
    (T.RandomCrop("absolute", (10, 20)), T.CropTransform, (10, 20)),
    (T.RandomCrop("relative", (0.5, 0.5)), T.CropTransform, (15, 20)),
    (T.RandomRotation([90], sample_style="choice"), T.RotationTransform, (40, 30)),
    (T.RandomRotation(90), T.RotationTransform, (40, 30)),
    (T.RandomRotation([10, 20], expand=False), T.RotationTransform, (30, 40)),
    (T.RandomExtent((0.5, 0.5), (0, 0)), T.ExtentTransform, (15, 20)),
    (T.MinIoURandomCrop(), None, None),
]


@pytest.mark.parametrize(("recipe", "kind", "size"), RECIPES, ids=lambda value: type(value).__name__)
def test_both_ways_to_draw_make_the_same(recipe: Any, kind: Any, size: tuple[int, int] | None) -> None:
    np.random.seed(1)
    transform = recipe.get_transform(IMAGE)
    assert kind is None or isinstance(transform, kind)
    image = transform.apply_image(IMAGE)
    assert size is None or image.shape[:2] == size
    np.random.seed(1)
    drawn = recipe.draw(np.random.default_rng(np.random.randint(0, 2**31 - 1)), 30, 40)
    assert drawn.output_size == image.shape[:2] and not recipe.needs_image
    assert abs(drawn.apply_image(IMAGE).astype(int) - image).max() <= 1  # interpolation rounds
    points = np.array([[3.0, 5.0], [20.0, 11.0]])
    assert np.allclose(drawn.apply_coords(points), transform.apply_coords(points))


def test_constructors_keep_their_arguments() -> None:
    assert T.ResizeShortestEdge.get_output_shape(480, 640, 800, 1333) == (800, 1067)
    assert T.ResizeShortestEdge.get_output_shape(1000, 300, 800, 1333) == (1333, 400)
    resize = T.ResizeShortestEdge(short_edge_length=(640, 800), max_size=1333, sample_style="choice")
    assert vars(resize)["short_edge_length"] == (640, 800) and vars(resize)["max_size"] == 1333
    assert repr(T.RandomFlip(0.25)) == "RandomFlip(prob=0.25, horizontal=True, vertical=False)"
    with pytest.raises(ConfigError, match="either horizontal or vertical"):
        T.RandomFlip(horizontal=True, vertical=True)


def test_the_crop_of_ssd_keeps_an_object() -> None:
    boxes, crops = np.array([[5.0, 5, 12, 14]]), 0
    np.random.seed(0)
    for _ in range(40):
        given = T.AugInput(IMAGE, boxes=boxes)
        done = T.MinIoURandomCrop()(given)
        if isinstance(done, T.CropTransform):
            crops += 1
            assert given.boxes is not None
            centre = (given.boxes[0, :2] + given.boxes[0, 2:]) / 2
            assert (centre > 0).all() and (centre < np.array(given.image.shape[1::-1])).all()
    assert crops > 10
    assert isinstance(T.MinIoURandomCrop()(T.AugInput(IMAGE)), T.NoOpTransform)
    assert native.Compose([T.MinIoURandomCrop()]).needs_boxes


def test_extent_reaches_over_the_edges() -> None:
    np.random.seed(0)
    recipe = T.RandomExtent((1.0, 2.0), (0.2, 0.4))
    rects = np.array([recipe.get_transform(IMAGE).src_rect for _ in range(200)])  # type: ignore[attr-defined]
    widths, centres = rects[:, 2] - rects[:, 0], (rects[:, :2] + rects[:, 2:]) / 2 / np.array([40, 30])
    assert 40 <= widths.min() < 42 and 78 < widths.max() <= 80
    assert np.allclose(np.abs(centres - 0.5).max(axis=0), [0.1, 0.2], atol=0.01)


def test_a_crop_in_which_no_class_fills_too_much() -> None:
    labels = np.zeros((30, 40), dtype=np.uint8)
    labels[:, 20:] = 1
    labels[:, :4] = 255
    np.random.seed(0)
    recipe = T.RandomCrop_CategoryAreaConstraint("absolute", (10, 10), 0.8, ignored_category=255)
    mixed = 0
    for _ in range(100):
        given = T.AugInput(IMAGE, sem_seg=labels)
        recipe(given)
        assert given.sem_seg is not None and given.sem_seg.shape == (10, 10)
        mixed += 0.2 < (given.sem_seg == 1).mean() < 0.8
    plain = T.RandomCrop_CategoryAreaConstraint("absolute", (10, 10))
    crops = [plain.get_transform(IMAGE, labels).apply_segmentation(labels) for _ in range(100)]
    assert mixed > 70 > 40 > sum(0.2 < (crop == 1).mean() < 0.8 for crop in crops)
    with pytest.raises(AttributeError, match="sem_seg"):
        recipe(T.AugInput(IMAGE))


def test_crop_sizes() -> None:
    assert T.RandomCrop("absolute", (10, 50)).get_crop_size((30, 40)) == (10, 40)
