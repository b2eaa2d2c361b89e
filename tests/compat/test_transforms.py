"""detectron2's ``data.transforms`` as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from drivetrain.compat import transforms as T
from drivetrain.compat.table import TABLE
from drivetrain.data import transforms as native

IMAGE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def test_names_of_the_table() -> None:
    names = {*TABLE["detectron2.data.transforms"], *TABLE["fvcore.transforms.transform"]}
    assert set(T.__all__) == names and all(hasattr(T, name) for name in names)


def test_the_usual_list() -> None:
    np.random.seed(0)
    recipe = [
        T.ResizeShortestEdge([60, 90], 120, "choice"),
        T.RandomBrightness(0.8, 1.2),
        T.RandomContrast(0.8, 1.2),
        T.RandomSaturation(0.8, 1.2),
        T.RandomLighting(0.7),
        T.RandomCrop("relative_range", (0.5, 0.5)),
        T.RandomApply(T.RandomRotation([-10, 10]), 0.5),
        T.RandomFlip(prob=0.5, horizontal=True, vertical=False),
    ]
    sizes = set()
    for _ in range(10):
        given = T.StandardAugInput(IMAGE, boxes=np.array([[5.0, 5, 20, 20]]), sem_seg=IMAGE[:, :, 0])
        _, done = T.apply_transform_gens(recipe, given)
        assert given.image.dtype == np.uint8 and given.sem_seg is not None and given.boxes is not None
        assert given.image.shape[:2] == given.sem_seg.shape
        assert np.array_equal(done.apply_image(IMAGE), given.image)
        assert np.allclose(done.apply_box([[5, 5, 20, 20]]), given.boxes)
        sizes.add(given.image.shape)
    assert len(sizes) > 5


def test_lists_for_the_mapper_need_the_image_only_for_augmentations_of_ones_own() -> None:
    class Darken(T.TransformGen):
        def get_transform(self, image: Any) -> T.Transform:  # type: ignore[override]
            return T.BlendTransform(src_image=0, src_weight=0.5, dst_weight=0.5)

    usual = [T.ResizeShortestEdge([60], 120), T.RandomBrightness(0.5, 0.5), T.RandomFlip(1.0)]
    drawn = native.Compose(usual).draw(np.random.default_rng(0), 30, 40)
    assert drawn.output_size == (60, 80) and drawn.mirrored
    assert isinstance(drawn.transforms[0], native.ResizeTransform)
    assert not native.Compose(usual).needs_image and native.Compose([*usual, Darken()]).needs_image
    dark = native.Compose([*usual, Darken()]).draw_in(np.random.default_rng(0), IMAGE, np.zeros((0, 4)))
    halves = drawn.apply_image(IMAGE).astype(np.float32) / 2
    assert np.array_equal(dark.apply_image(IMAGE), halves.astype(np.uint8))
