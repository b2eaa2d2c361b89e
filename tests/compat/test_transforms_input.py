"""detectron2's augmentations in general."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drivetrain.compat.transforms_base import NoOpTransform, Transform, TransformList
from drivetrain.compat.transforms_color import BlendTransform
from drivetrain.compat.transforms_geometry import CropTransform, HFlipTransform, ResizeTransform
from drivetrain.compat.transforms_input import (
    AugInput,
    Augmentation,
    AugmentationList,
    DrawnAugmentation,
    RandomApply,
    apply_augmentations,
)
from drivetrain.compat.transforms_random import RandomFlip
from drivetrain.data import transforms as native
from drivetrain.errors import ConfigError

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


class CropToFirst(Augmentation):
    """Cuts out the first box."""

    def __init__(self, margin: int = 0) -> None:
        super().__init__()
        self._init(locals())

    margin: int

    def get_transform(self, image: Any, boxes: Any) -> Transform:  # type: ignore[override]
        x0, y0, x1, y1 = boxes[0].astype(int)
        return CropTransform(x0, y0, x1 - x0, y1 - y0, image.shape[1], image.shape[0])


class Half(Augmentation):
    """Half the size, drawn from the image given."""

    def get_transform(self, image: Any) -> Transform:  # type: ignore[override]
        height, width = image.shape[:2]
        return ResizeTransform(height, width, height // 2, width // 2)


def test_an_augmentation_changes_its_input_and_returns_the_transform() -> None:
    given = AugInput(IMAGE, boxes=np.array([[4.0, 2, 14, 8]]), sem_seg=IMAGE[:, :, 0])
    done = given.apply_augmentations([HFlipTransform(20), CropToFirst(), Half()])
    assert [type(t) for t in done] == [HFlipTransform, CropTransform, ResizeTransform]
    assert given.image.shape == (3, 5, 3) and given.sem_seg is not None and given.sem_seg.shape == (3, 5)
    assert given.boxes is not None and given.boxes.tolist() == [[0, 0, 5, 3]]
    assert np.array_equal(done.apply_image(IMAGE), given.image)
    assert CropToFirst(3).margin == 3 and repr(CropToFirst(3)) == "CropToFirst(margin=3)"


def test_apply_augmentations_takes_images_and_inputs() -> None:
    image, done = apply_augmentations([Half(), HFlipTransform(10)], IMAGE)
    assert image.shape == (6, 10, 3) and isinstance(done, TransformList) and len(done) == 2
    given = AugInput(IMAGE)
    returned, _ = apply_augmentations([Half()], given)
    assert returned is given and given.image.shape == (6, 10, 3)


def test_augmentations_of_this_package_may_be_among_them() -> None:
    image, done = apply_augmentations([native.RandomFlip(1.0), native.NoOpTransform((12, 20)), Half()], IMAGE)
    assert np.array_equal(image, done.apply_image(IMAGE)) and isinstance(done[0], HFlipTransform)
    with pytest.raises(ConfigError, match="'flip'"):
        AugmentationList(["flip"])


def test_what_is_asked_for_has_to_be_there() -> None:
    with pytest.raises(AttributeError, match=r"CropToFirst.get_transform asks for boxes"):
        CropToFirst()(AugInput(IMAGE))
    with pytest.raises(NotImplementedError, match="has to define get_transform"):
        Augmentation()(AugInput(IMAGE))

    class Nothing(Augmentation):
        def get_transform(self, image: Any) -> Any:  # type: ignore[override]
            return None

    with pytest.raises(TypeError, match="returned None"):
        Nothing()(AugInput(IMAGE))


def test_added_attributes_can_be_asked_for() -> None:
    class Dated(Augmentation):
        def get_transform(self, image: Any, year: Any, month: Any = 3) -> Transform:  # type: ignore[override]
            return BlendTransform(year, 1, month)

    given: Any = AugInput(IMAGE)
    given.year = 5
    assert vars(Dated()(given)) == {"src_image": 5, "src_weight": 1, "dst_weight": 3}


def test_random_apply() -> None:
    np.random.seed(0)
    some = RandomApply(HFlipTransform(20), 0.25)
    flips = sum(isinstance(some(AugInput(IMAGE)), HFlipTransform) for _ in range(400))
    assert 75 < flips < 125
    assert isinstance(RandomApply(Half(), 0.0)(AugInput(IMAGE)), NoOpTransform)
    assert isinstance(RandomApply(Half(), 1.0)(AugInput(IMAGE)), ResizeTransform)
    with pytest.raises(ConfigError, match=r"\[0, 1\], not 2"):
        RandomApply(Half(), 2)


def test_they_are_augmentations_of_this_package() -> None:
    recipe = native.Compose([HFlipTransform(20), CropToFirst(), AugmentationList([Half()]), RandomFlip(1.0)])
    assert recipe.needs_image
    boxes = np.array([[4.0, 2, 14, 8]])
    drawn = recipe.draw_in(np.random.default_rng(0), IMAGE, boxes)
    assert drawn.input_size == (12, 20) and drawn.output_size == (3, 5) and not drawn.mirrored
    expected, _ = apply_augmentations([CropTransform(4, 2, 10, 6)], IMAGE)
    assert np.array_equal(drawn.apply_image(IMAGE), Half()(given := AugInput(expected)) and given.image)
    assert drawn.apply_boxes(boxes).tolist() == [[0, 0, 5, 3]]
    with pytest.raises(ConfigError, match="Half decides by the pixels"):
        Half().draw(np.random.default_rng(0), 12, 20)


def test_own_get_transform_of_a_subclass_counts() -> None:
    class NeverFlip(RandomFlip):
        def get_transform(self, image: Any, boxes: Any = None) -> Transform:
            assert isinstance(super().get_transform(image), HFlipTransform)
            return NoOpTransform()

    assert isinstance(RandomFlip(1.0), DrawnAugmentation) and not RandomFlip(1.0).needs_image
    assert NeverFlip(1.0).needs_image and isinstance(NeverFlip(1.0)(AugInput(IMAGE)), NoOpTransform)
    draw = {cls: native.Compose([cls(1.0)]).draw_in(np.random.default_rng(0), IMAGE, np.zeros((0, 4))).mirrored
            for cls in (RandomFlip, NeverFlip)}  # fmt: skip
    assert draw == {RandomFlip: True, NeverFlip: False}


def test_ranges() -> None:
    np.random.seed(0)
    draws = [Augmentation()._rand_range(2, 3) for _ in range(50)]
    assert 2 <= min(draws) < 2.2 < 2.8 < max(draws) < 3
    assert Augmentation()._rand_range(5, size=3).max() < 5
