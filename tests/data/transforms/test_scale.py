"""Sizes that do not depend on the image's, and jitter of the scale."""

from __future__ import annotations

import numpy as np
import pytest

from drivetrain.data.transforms import NoOpTransform, Resize, ResizeScale, ResizeToFit
from drivetrain.errors import ConfigError


def test_stretching_and_fitting() -> None:
    rng = np.random.default_rng(0)
    assert Resize((40, 60)).draw(rng, 100, 100).output_size == (40, 60)
    assert ResizeToFit((40, 60)).draw(rng, 100, 100).output_size == (40, 40)
    assert ResizeToFit(50).draw(rng, 100, 200).output_size == (25, 50)
    stretched = Resize((40, 60)).draw(rng, 100, 100)
    assert np.allclose(stretched.apply_coords(np.array([[50.0, 50.0]])), [[30.0, 20.0]])


def test_an_image_that_fits_stays_as_it_is() -> None:
    rng = np.random.default_rng(0)
    assert isinstance(Resize((40, 60)).draw(rng, 40, 60), NoOpTransform)
    assert isinstance(ResizeToFit((40, 60)).draw(rng, 40, 60), NoOpTransform)


def test_scales_are_drawn_evenly_from_the_range() -> None:
    rng = np.random.default_rng(0)
    jitter = ResizeScale(0.5, 2.0, 100, 100)
    sizes = np.array([jitter.draw(rng, 50, 100).output_size for _ in range(2000)])
    assert (np.abs(sizes[:, 1] - 2 * sizes[:, 0]) <= 1).all()
    scales = sizes[:, 1] / 100
    assert scales.min() < 0.51 and scales.max() > 1.98
    assert np.abs(np.quantile(scales, [0.25, 0.5, 0.75]) - [0.875, 1.25, 1.625]).max() < 0.06


@pytest.mark.parametrize("wrong", [(0, 1), (2, 1), (1, float("inf"))])
def test_ranges_that_are_none(wrong: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match=r"INPUT\.SCALE_RANGE"):
        ResizeScale(*wrong, 10, 10)
