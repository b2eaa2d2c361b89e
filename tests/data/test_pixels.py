"""The memory layout of images between decoder and tensor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drivetrain.data.pixels import as_image, to_planes, with_padding


def picture(height: int = 5, width: int = 7, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_planes_of_any_layout() -> None:
    image = picture()
    wanted = image.transpose(2, 0, 1)
    words = np.concatenate([image, picture(channels=1)], axis=2)
    for given in (
        as_image(image),
        as_image(np.asfortranarray(image)),
        as_image(image[:, ::-1][:, ::-1]),
        as_image(words),
        torch.from_numpy(image).permute(2, 0, 1),
        torch.from_numpy(wanted.copy()),
    ):
        out = to_planes(given)
        assert out.is_contiguous() and (out.numpy() == wanted).all()
    assert as_image(image[:, :, 0].copy()).shape == (1, 5, 7)
    assert (as_image(image[:, :, ::-1]).numpy() == wanted[::-1]).all()
    whole = torch.from_numpy(wanted.copy())
    assert to_planes(whole) is whole


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 9), (3, 5), (130, 1100), (2, 70_000)])
def test_words_are_taken_apart_in_bands(size: tuple[int, int]) -> None:
    words = picture(*size, channels=4)
    assert (to_planes(as_image(words)).numpy() == words[:, :, :3].transpose(2, 0, 1)).all()


@pytest.mark.parametrize("part", [np.s_[1:4, 2:6], np.s_[2:, 3:], np.s_[4:, :], np.s_[:1, :1]])
def test_a_part_of_words_is_taken_apart(part: tuple[slice, slice]) -> None:
    """Down to the last byte of the memory, behind which nothing may be read."""
    words = picture(channels=4)
    image = as_image(words)[:, part[0], part[1]]
    assert with_padding(image) is not None
    assert (to_planes(image).numpy() == words[part][:, :, :3].transpose(2, 0, 1)).all()


def test_padding_is_seen_where_it_is() -> None:
    words = picture(channels=4)
    image = as_image(words)
    padded = with_padding(image)
    assert padded is not None and (padded.numpy() == words.transpose(2, 0, 1)).all()
    part = image[:, 1:4, 2:6]
    padded = with_padding(part)
    assert padded is not None and (padded.numpy() == words[1:4, 2:6].transpose(2, 0, 1)).all()


def test_padding_is_not_seen_where_there_is_none() -> None:
    words = picture(channels=4)
    flat = torch.from_numpy(words.reshape(-1).copy())
    for image in (
        as_image(picture()),
        to_planes(as_image(words)),
        as_image(words).flip(-1),
        as_image(words)[:2],
        as_image(words)[:, :, ::2],
        as_image(words)[:, :0],
        as_image(words).float(),
        flat[1:].as_strided((3, 4, 7), (1, 28, 4), 1),
        torch.from_numpy(words.reshape(-1)[:-1].copy()).as_strided((3, 5, 7), (1, 28, 4)),  # its last byte is missing
    ):
        assert with_padding(image) is None
        assert (to_planes(image) == image).all() and to_planes(image).is_contiguous()
