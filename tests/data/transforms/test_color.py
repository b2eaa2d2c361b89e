"""Changes of colour."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch

from drivetrain.data.transforms import ColorJitter, ColorTransform, NoOpTransform
from drivetrain.errors import ConfigError

IMAGE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 6, 7), dtype=np.uint8))
GREY = torch.tensor([0.299, 0.587, 0.114])[:, None, None]


def change(kind: str, amount: float, image: torch.Tensor = IMAGE, image_format: str = "RGB") -> torch.Tensor:
    return ColorTransform((6, 7), ((kind, amount),), image_format).apply_image(image)


def close(out: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1.01) -> None:
    assert out.dtype == torch.uint8
    assert (out.float() - wanted.clamp(0, 255)).abs().max() <= tolerance


def test_formulas() -> None:
    image = IMAGE.float()
    close(change("brightness", 1.7), image * 1.7)
    grey = (image * GREY).sum(dim=0, keepdim=True)
    close(change("contrast", 0.4), image * 0.4 + grey.floor().mean() * 0.6, 1.5)
    close(change("saturation", 0.3), image * 0.3 + grey * 0.7, 1.5)


def test_hue_turns_the_colour_circle() -> None:
    out = change("hue", 0.25)
    for row, column in ((0, 0), (3, 4), (5, 6)):
        h, s, v = colorsys.rgb_to_hsv(*(IMAGE[:, row, column].float() / 255).tolist())
        wanted = torch.tensor(colorsys.hsv_to_rgb((h + 0.25) % 1, s, v)) * 255
        assert (out[:, row, column].float() - wanted).abs().max() <= 2


@pytest.mark.parametrize(("kind", "amount"), [("saturation", 0.2), ("hue", 0.3), ("contrast", 0.5), ("brightness", 2)])
def test_bgr_images_get_the_same_colours(kind: str, amount: float) -> None:
    assert torch.equal(change(kind, amount, IMAGE.flip(0), "BGR").flip(0), change(kind, amount))


def test_reading_bgr_as_rgb_would_differ() -> None:
    assert not torch.equal(change("saturation", 0.2, IMAGE.flip(0)).flip(0), change("saturation", 0.2))


def test_geometry_stays() -> None:
    transform = ColorTransform((6, 7), (("brightness", 0.0),))
    boxes = np.array([[1.0, 2.0, 3.0, 4.0]])
    assert transform.apply_boxes(boxes).tolist() == boxes.tolist()
    mask = np.ones((6, 7), dtype=bool)
    assert transform.apply_bitmask(mask).all() and transform.output_size == (6, 7) and not transform.mirrored


def test_draws() -> None:
    rng = np.random.default_rng(0)
    jitter = ColorJitter(brightness=0.4, contrast=2.0, hue=0.1)
    drawn = [jitter.draw(rng, 6, 7) for _ in range(300)]
    assert all(isinstance(d, ColorTransform) for d in drawn)
    steps = [dict(d.steps) for d in drawn if isinstance(d, ColorTransform)]
    assert {frozenset(s) for s in steps} == {frozenset({"brightness", "contrast", "hue"})}
    for kind, low, high in (("brightness", 0.6, 1.4), ("contrast", 0.0, 3.0), ("hue", -0.1, 0.1)):
        amounts = [s[kind] for s in steps]
        assert low <= min(amounts) < low + 0.1 * (high - low) and high >= max(amounts) > high - 0.1 * (high - low)
    assert len({tuple(s) for s in steps}) == 6  # all orders
    assert isinstance(ColorJitter().draw(rng, 6, 7), NoOpTransform)


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match=r"INPUT.COLOR.HUE.*0\.6"):
        ColorJitter(hue=0.6)
    for value in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=r"INPUT.COLOR.CONTRAST"):
            ColorJitter(contrast=value)
