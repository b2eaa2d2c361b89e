"""Transforms and augmentations in general."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drivetrain.data.transforms import (
    Augmentation,
    Compose,
    CropTransform,
    FlipTransform,
    NoOpTransform,
    RandomCrop,
    RandomFlip,
    ResizeShortestEdge,
    ResizeTransform,
    Transform,
    TransformList,
    fixed,
)
from drivetrain.errors import ConfigError


def chain() -> TransformList:
    """Flip 8 x 10 (height x width), cut rows 2.. and columns 1.., 4 x 6, then stretch to 8 x 12."""
    parts = [
        FlipTransform((8, 10)),
        CropTransform((8, 10), top=2, left=1, height=4, width=6),
        ResizeTransform((4, 6), (8, 12)),
    ]
    return TransformList(parts, (8, 10))


def test_a_list_does_one_after_the_other() -> None:
    transform = chain()
    assert transform.output_size == (8, 12) and transform.mirrored
    points = transform.apply_coords(np.array([[3.0, 4.0]]))
    assert points.tolist() == [[(10 - 3 - 1) * 2, (4 - 2) * 2]]
    assert transform.apply_boxes(np.array([[2.0, 3.0, 4.0, 5.0]])).tolist() == [[10.0, 2.0, 14.0, 6.0]]
    (polygon,) = transform.apply_polygons([[2, 3, 4, 3, 4, 5]])
    corners = {(10.0, 2.0), (12.0, 2.0), (12.0, 4.0), (10.0, 6.0)}  # the one at x = 14 is cut off at the crop's edge
    assert {tuple(p) for p in polygon.reshape(-1, 2).tolist()} == corners


def test_two_mirrorings_are_none() -> None:
    twice = TransformList([FlipTransform((4, 6)), FlipTransform((4, 6), horizontal=False)], (4, 6))
    assert not twice.mirrored
    keypoints = np.array([[[1.0, 1.0, 2.0], [5.0, 3.0, 1.0]]])
    assert twice.apply_keypoints(keypoints, [1, 0]).tolist() == [[[5.0, 3.0, 2.0], [1.0, 1.0, 1.0]]]


def test_mirrored_keypoints_change_sides() -> None:
    keypoints = np.array([[[1.0, 1.0, 2.0], [5.0, 3.0, 1.0]]])
    flip = FlipTransform((4, 6))
    assert flip.apply_keypoints(keypoints, [1, 0]).tolist() == [[[1.0, 3.0, 1.0], [5.0, 1.0, 2.0]]]
    assert flip.apply_keypoints(keypoints).tolist() == [[[5.0, 1.0, 2.0], [1.0, 3.0, 1.0]]]


def test_arrays_and_tensors_of_any_layout_give_the_same() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    transform = chain()
    from_array = transform.apply_image(image)
    assert isinstance(from_array, np.ndarray) and from_array.shape == (8, 12, 3)
    strided = torch.from_numpy(image).permute(2, 0, 1)
    for tensor in (strided, strided.contiguous()):
        assert (transform.apply_image(tensor).permute(1, 2, 0).numpy() == from_array).all()
    assert (transform.apply_image(image[:, :, 0].copy()) == from_array[:, :, 0]).all()


def test_inputs_are_not_changed() -> None:
    transform, rng = chain(), np.random.default_rng(0)
    image, boxes, points = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8), rng.random((3, 4)) * 8, rng.random((3, 2))
    keypoints, mask = rng.random((2, 3, 3)), rng.random((8, 10)) > 0.5
    for part in (transform, *transform.transforms[:1], NoOpTransform((8, 10))):
        for method, value in (
            ("apply_image", image),
            ("apply_boxes", boxes),
            ("apply_coords", points),
            ("apply_keypoints", keypoints),
            ("apply_bitmask", mask),
        ):
            before = value.copy()
            getattr(part, method)(value)
            assert (value == before).all(), method


def test_masks_keep_form_and_dtype() -> None:
    masks = np.zeros((2, 8, 10), dtype=bool)
    masks[1, 3, 4] = True
    out = chain().apply_bitmask(masks)
    assert out.dtype == bool and out.shape == (2, 8, 12)
    assert np.argwhere(out[1]).tolist() == [[r, c] for r in (2, 3) for c in (8, 9)]
    assert torch.equal(chain().apply_bitmask(torch.from_numpy(masks[1])), torch.from_numpy(out[1]))


def test_no_boxes() -> None:
    for transform in (chain(), NoOpTransform((8, 10)), FlipTransform((8, 10))):
        assert transform.apply_boxes(np.zeros((0, 4), dtype=np.float32)).shape == (0, 4)
    assert chain().apply_keypoints(np.zeros((0, 5, 3)), [1, 0, 2, 4, 3]).shape == (0, 5, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes_are_kept(dtype: type) -> None:
    assert chain().apply_boxes(np.ones((2, 4), dtype=dtype)).dtype == dtype
    assert chain().apply_coords(np.ones((2, 2), dtype=dtype)).dtype == dtype


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="height x width 8 x 10, not 10 x 8"):
        chain().apply_image(np.zeros((10, 8, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"FlipTransform was made for .* 8 x 9, not 8 x 10"):
        TransformList([FlipTransform((8, 9))], (8, 10))
    with pytest.raises(ValueError, match="not 3 x 3"):
        chain().apply_bitmask(np.zeros((3, 3), dtype=bool))


def test_equal_generators_draw_equal_transforms() -> None:
    recipe = Compose([RandomCrop("relative_range", (0.5, 0.5)), ResizeShortestEdge((20, 30, 40), 100), RandomFlip()])
    points = np.array([[3.0, 4.0], [50.0, 30.0]])

    def place(seed: int) -> tuple[object, ...]:
        drawn = recipe.draw(np.random.default_rng(seed), 60, 80)
        return (drawn.output_size, *drawn.apply_coords(points).ravel().tolist())

    assert place(1) == place(1)
    assert len({place(seed) for seed in range(20)}) == 20


def test_compose_takes_transforms_and_refuses_other_things() -> None:
    recipe = Compose([FlipTransform((8, 10)), fixed(NoOpTransform((8, 10)))])
    assert recipe.draw(np.random.default_rng(0), 8, 10).mirrored
    assert Compose([]).draw(np.random.default_rng(0), 8, 10).output_size == (8, 10)
    with pytest.raises(ConfigError, match="'flip'"):
        Compose(["flip"])


def test_get_transform_draws_from_numpys_generator() -> None:
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    recipe: Augmentation = RandomCrop("relative", (0.5, 0.5))

    def draw() -> list[float]:
        transform: Transform = recipe.get_transform(image)
        return transform.apply_coords(np.zeros((1, 2))).tolist()

    np.random.seed(3)
    first = [draw(), draw()]
    np.random.seed(3)
    assert [draw(), draw()] == first and first[0] != first[1]
    assert recipe.get_transform(torch.zeros(3, 60, 80)).output_size == (30, 40)


class AgainstTheLight(Augmentation):
    """Mirrors images whose left column is the darker one."""

    needs_image = True

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Transform:
        raise AssertionError("the pixels are needed")

    def draw_in(self, rng: np.random.Generator, image: np.ndarray, boxes: np.ndarray) -> Transform:
        self.seen = boxes.tolist()
        size = (image.shape[0], image.shape[1])
        return FlipTransform(size) if image[:, 0].mean() < image[:, -1].mean() else NoOpTransform(size)


def test_augmentations_see_the_image_that_their_predecessors_leave() -> None:
    image = np.zeros((4, 6, 3), dtype=np.uint8)
    image[:, 0] = 200
    boxes, rng, looks = np.array([[1.0, 1, 2, 2]]), np.random.default_rng(0), AgainstTheLight()
    after_flip = Compose([FlipTransform((4, 6)), looks, RandomCrop("absolute", (2, 2))])
    assert after_flip.needs_image and not Compose([RandomFlip()]).needs_image
    drawn = after_flip.draw_in(rng, image, boxes)
    assert not drawn.mirrored and drawn.output_size == (2, 2) and looks.seen == [[4, 1, 5, 2]]
    assert not Compose([looks]).draw_in(rng, image, boxes).mirrored
    assert Compose([looks]).draw_in(rng, image[:, ::-1], boxes).mirrored
    nested = Compose([Compose([looks]), RandomFlip(prob=1.0)])
    assert nested.needs_image and nested.draw_in(rng, image, boxes).mirrored


def test_draw_in_without_a_look_at_the_image_is_draw_around() -> None:
    recipe = Compose([RandomCrop("absolute", (3, 3), keep_object=True), RandomFlip()])
    image, boxes, points = np.zeros((40, 60, 3), dtype=np.uint8), np.array([[30.0, 20, 32, 22]]), np.ones((1, 2))
    for seed in range(5):
        seen = recipe.draw_in(np.random.default_rng(seed), image, boxes)
        around = recipe.draw_around(np.random.default_rng(seed), 40, 60, boxes)
        assert np.array_equal(seen.apply_coords(points), around.apply_coords(points))


def test_compose_takes_what_says_which_augmentation_it_is() -> None:
    class Flip:
        def as_augmentation(self) -> Augmentation:
            return RandomFlip(prob=1.0)

    assert Compose([Flip()]).draw(np.random.default_rng(0), 8, 10).mirrored
