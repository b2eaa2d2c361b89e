"""Padding images of different sizes to one batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.structures import ImageList


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4),
    st.sampled_from([0, 1, 8, 32]),
    st.sampled_from([0.0, 7.0]),
)
def test_images_come_back_and_the_rest_is_padding(sizes, divisor, pad) -> None:
    images = [torch.rand(3, h, w) + 10 for h, w in sizes]
    batch = ImageList.from_tensors(images, divisor, pad)
    assert batch.image_sizes == sizes
    assert len(batch) == len(sizes)
    height, width = batch.tensor.shape[-2:]
    smallest = [max(s) for s in zip(*sizes, strict=True)]
    for got, least in zip((height, width), smallest, strict=True):
        assert got >= least
        assert got % max(divisor, 1) == 0
        assert got - least < max(divisor, 1)
    for i, image in enumerate(images):
        assert torch.equal(batch[i], image)
    padding = batch.tensor.numel() - sum(i.numel() for i in images)
    assert (batch.tensor == pad).sum() == padding


def test_dtype_and_grey_images() -> None:
    batch = ImageList.from_tensors([torch.ones(2, 3, dtype=torch.uint8), torch.ones(4, 1, dtype=torch.uint8)])
    assert batch.tensor.dtype == torch.uint8
    assert batch.tensor.shape == (2, 4, 3)
    assert batch.to("cpu").device.type == "cpu"


@pytest.mark.parametrize("sizes", [[(4, 6)], [(4, 6), (4, 6)], [(4, 6), (3, 5)]])
def test_a_batch_is_of_planes_whatever_the_images_layout(sizes: list[tuple[int, int]]) -> None:
    """Models compute the same bits for images that were decoded and for those that somebody made planes of."""
    images = [torch.randint(0, 256, (h, w, 3), dtype=torch.uint8).permute(2, 0, 1) for h, w in sizes]
    for dtype in (None, torch.float32):
        batch = ImageList.from_tensors(images, 2, 7.0, dtype=dtype)
        planes = ImageList.from_tensors([image.contiguous() for image in images], 2, 7.0)
        assert batch.tensor.is_contiguous() and batch.tensor.dtype == (dtype or torch.uint8)
        assert torch.equal(batch.tensor, planes.tensor.to(batch.tensor.dtype))


@pytest.mark.parametrize("width", [2, 3])
def test_gradients_reach_the_images(width: int) -> None:
    images = [torch.ones(1, 2, 2, requires_grad=True), torch.ones(1, 2, width, requires_grad=True)]
    ImageList.from_tensors(images).tensor.sum().backward()
    for image in images:
        assert image.grad is not None and torch.equal(image.grad, torch.ones_like(image))


def test_what_cannot_be_batched() -> None:
    with pytest.raises(ValueError, match="empty"):
        ImageList.from_tensors([])
    with pytest.raises(ValueError, match=r"same channels.*\(1, 2, 2\)"):
        ImageList.from_tensors([torch.zeros(3, 2, 2), torch.zeros(1, 2, 2)])


def test_conditions_of_a_backbone() -> None:
    """The last argument of detectron2's later versions."""
    images = [torch.ones(3, 30, 20), torch.ones(3, 10, 40)]
    shapes = {
        (0, 0): (30, 40),
        (64, 0): (64, 64),
        (35, 0): (35, 40),
        (0, 32): (32, 64),
        (50, 32): (64, 64),
    }
    for (square, divisor), expected in shapes.items():
        constraints = {"square_size": square, **({"size_divisibility": divisor} if divisor else {})}
        assert ImageList.from_tensors(images, padding_constraints=constraints).tensor.shape[-2:] == expected
    assert ImageList.from_tensors(images, 8, 0.0, {"size_divisibility": 32}).tensor.shape[-2:] == (32, 64)
