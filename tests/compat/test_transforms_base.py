"""detectron2's kind of transform."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drivetrain.compat.transforms_base import NoOpTransform, Sized, Transform, TransformList, is_mirrored
from drivetrain.compat.transforms_geometry import CropTransform, HFlipTransform, ResizeTransform
from drivetrain.errors import ConfigError


class Shift(Transform):
    """Rolls columns to the right."""

    def __init__(self, by: int) -> None:
        super().__init__()
        self._set_attributes(locals())

    by: int

    def apply_image(self, img: Any) -> Any:
        return np.roll(img, self.by, axis=1)

    def apply_coords(self, coords: Any) -> Any:
        return coords + np.array([self.by, 0.0])


def test_a_subclass_defines_two_methods() -> None:
    shift = Shift(2)
    assert vars(shift) == {"by": 2} and repr(shift) == "Shift(by=2)"
    assert shift.apply_box([[1, 2, 3, 5]]).tolist() == [[3, 2, 5, 5]]
    assert [p.tolist() for p in shift.apply_polygons([[[0, 0], [1, 0], [1, 1]]])] == [[[2, 0], [3, 0], [3, 1]]]
    assert shift.apply_segmentation(np.arange(4)[None]).tolist() == [[2, 3, 0, 1]]
    with pytest.raises(NotImplementedError, match="Shift has no inverse"):
        shift.inverse()
    with pytest.raises(TypeError):
        Transform()  # type: ignore[abstract]


def test_new_types_of_data() -> None:
    Shift.register_type("depth", lambda transform, data: transform.by + data)

    @Shift.register_type("name")
    def _name(transform: Any, data: str) -> str:
        return data * transform.by

    both: Any = TransformList([Shift(1), NoOpTransform(), Shift(2)])
    assert both.apply_depth(10) == 13 and both.apply_name("a") == "aa"
    with pytest.raises(AttributeError, match="'weight'"):
        _ = NoOpTransform().weight
    with pytest.raises(AttributeError, match="'weight'"):
        _ = both.weight


def test_lists_are_flat_and_chained() -> None:
    chain = Shift(1) + (HFlipTransform(10) + Shift(2)) + NoOpTransform()
    assert [type(t) for t in chain] == [Shift, HFlipTransform, Shift, NoOpTransform]
    assert len(chain) == 4 and chain[0].by == 1  # type: ignore[attr-defined]
    assert chain.apply_coords(np.array([[3.0, 1.0]])).tolist() == [[10 - 4 + 2, 1]]
    assert chain.apply_box(np.array([1, 2, 3, 4])).tolist() == [[10 - 4 + 2, 2, 10 - 2 + 2, 4]]
    assert is_mirrored(chain) and not is_mirrored(chain + HFlipTransform(10)) and not is_mirrored(Shift(1))
    with pytest.raises(TypeError, match="not 3"):
        TransformList([3])  # type: ignore[list-item]


def test_the_inverse_of_a_list_goes_backwards() -> None:
    chain = TransformList([HFlipTransform(10), CropTransform(2, 1, 6, 4, 10, 8), ResizeTransform(4, 6, 8, 18)])
    points = np.array([[3.0, 4.0], [5.5, 2.0]])
    moved = chain.apply_coords(points)
    assert moved.tolist() == [[15, 6], [7.5, 2]]
    assert np.allclose(chain.inverse().apply_coords(moved), points)


def test_sized_is_a_transform_of_this_package() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
    chain = TransformList([HFlipTransform(10), CropTransform(2, 1, 6, 4)])
    sized = Sized(chain, (8, 10), (4, 6))
    assert sized.mirrored
    assert np.array_equal(sized.apply_image(image), image[:, ::-1][1:5, 2:8])
    assert sized.apply_boxes(np.array([[1.0, 2, 3, 4]])).tolist() == [[5, 1, 7, 3]]
    assert sized.apply_boxes(np.zeros((0, 4))).shape == (0, 4)
    assert sized.apply_polygons([[5, 2, 7, 2, 7, 4]])[0].reshape(-1, 2).min() == 1
    masks = rng.random((2, 8, 10)) > 0.5
    assert np.array_equal(sized.apply_bitmask(masks), masks[:, :, ::-1][:, 1:5, 2:8])
    assert sized.apply_bitmask(masks[:0]).shape == (0, 4, 6)
    grey = image[:, :, :1].copy()
    assert np.array_equal(sized.apply_image(grey), grey[:, ::-1][1:5, 2:8])
    with pytest.raises(ConfigError, match="4 x 6, but 5 x 6 when it was drawn"):
        Sized(chain, (8, 10), (5, 6)).apply_image(image)
