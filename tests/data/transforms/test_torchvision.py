"""torchvision's transforms as augmentations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from drivetrain.data.transforms import Compose, FromTorchvision
from drivetrain.errors import ConfigError

RNG = np.random.default_rng


def marked(height: int = 20, width: int = 30) -> torch.Tensor:
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, 4:8, 5:12] = 255
    return image


@pytest.mark.parametrize("seed", range(6))
def test_image_box_mask_and_polygon_go_together(seed: int) -> None:
    """With noise first: it draws random numbers for images only, which must not shift what the others draw."""
    recipe = FromTorchvision(
        v2.Compose(
            [v2.GaussianNoise(sigma=0.001), v2.RandomHorizontalFlip(0.5), v2.RandomCrop((16, 24)), v2.Resize((32, 48))]
        )
    )
    transform = recipe.draw(RNG(seed), 20, 30)
    assert transform.output_size == (32, 48)
    image = transform.apply_image(marked())
    mask = transform.apply_bitmask(marked()[0] > 0)
    box = transform.apply_boxes(np.array([[5.0, 4.0, 12.0, 8.0]]))[0]
    polygon = transform.apply_polygons([[5, 4, 12, 4, 12, 8, 5, 8]])[0].reshape(-1, 2)
    assert image.dtype == torch.uint8 and tuple(image.shape) == (3, 32, 48)
    assert ((image[0] > 128) == mask).float().mean() > 0.97
    rows, columns = torch.nonzero(mask, as_tuple=True)
    around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(np.array([float(v) for v in around]) - box).max() <= 1
    clipped = np.clip(polygon, 0, [48, 32])
    assert np.allclose([*clipped.min(axis=0), *clipped.max(axis=0)], box, atol=1e-4)


def test_the_generator_decides_and_torchs_own_is_left_alone() -> None:
    recipe = Compose([v2.ColorJitter(brightness=0.9), v2.RandomHorizontalFlip(0.5)])
    assert isinstance(recipe.augmentations[0], FromTorchvision)

    def run(seed: int) -> list[int]:
        return recipe.draw(RNG(seed), 20, 30).apply_image(marked()).flatten().tolist()

    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = run(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert run(0) == first
    assert len({tuple(run(seed)) for seed in range(8)}) > 4


def test_the_size_is_known_before_any_image_is_seen() -> None:
    rotate = FromTorchvision(v2.RandomRotation((90, 90), expand=True)).draw(RNG(0), 20, 30)
    assert rotate.output_size == (30, 20) == tuple(rotate.apply_image(marked()).shape[-2:])


def test_nothing_annotated() -> None:
    transform = FromTorchvision(v2.RandomAffine(20)).draw(RNG(0), 20, 30)
    assert transform.apply_boxes(np.zeros((0, 4), dtype=np.float32)).shape == (0, 4)
    assert transform.apply_coords(np.zeros((0, 2))).shape == (0, 2)


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="Linear"):
        FromTorchvision(torch.nn.Linear(1, 1))
    for bad in (v2.RandomIoUCrop(), v2.Compose([v2.Identity(), v2.RandomApply([v2.SanitizeBoundingBoxes()])])):
        with pytest.raises(ConfigError, match="cannot be used as an augmentation"):
            FromTorchvision(bad)
