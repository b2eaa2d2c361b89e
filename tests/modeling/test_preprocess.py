"""Normalising and padding images."""

from __future__ import annotations

import pytest
import torch

from drivetrain.errors import ModelError
from drivetrain.modeling import Preprocess


def test_each_channel_has_its_mean_in_the_images_order() -> None:
    # Channel order is the images' own: an image equal to the mean becomes zero, whatever the channels are called.
    for mean in ([123.0, 116.0, 103.0], [103.0, 116.0, 123.0]):
        image = torch.tensor(mean, dtype=torch.uint8)[:, None, None].expand(3, 4, 4)
        assert not Preprocess(mean, [58.0, 57.0, 56.0])([{"image": image}]).tensor.any()
    pixel = torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None]
    assert Preprocess([1, 2, 3], [1, 2, 3], 1)([{"image": pixel}]).tensor.flatten().tolist() == [9, 9, 9]


def test_padding_is_zero_after_normalising_and_sizes_are_multiples() -> None:
    images = [torch.full((3, h, w), 200, dtype=torch.uint8) for h, w in ((10, 33), (40, 7))]
    batch = Preprocess([100.0] * 3, [50.0] * 3, 32)([{"image": i} for i in images])
    assert batch.tensor.shape == (2, 3, 64, 64)
    assert batch.image_sizes == [(10, 33), (40, 7)]
    for i, image in enumerate(images):
        assert (batch[i] == 2).all()
        assert batch.tensor[i].sum() == 2 * image.numel()
    assert images[0][0, 0, 0] == 200


def test_float_images_are_not_changed_in_place() -> None:
    image = torch.full((3, 32, 32), 5.0)
    Preprocess([1.0] * 3, [1.0] * 3)([{"image": image}])
    assert (image == 5).all()


def test_nothing_in_the_state_dict_and_other_channel_counts() -> None:
    module = Preprocess([0.0] * 4, [1.0] * 4)
    assert not module.state_dict()
    assert module([{"image": torch.zeros(4, 8, 8, dtype=torch.uint8)}]).tensor.shape == (1, 4, 32, 32)
    assert module.device.type == "cpu"


@pytest.mark.parametrize(
    "entry", [{}, {"image": [1, 2]}, {"image": torch.zeros(1, 8, 8)}, {"image": torch.zeros(8, 8)}, 3]
)
def test_bad_entries(entry) -> None:
    with pytest.raises(ModelError, match=r"\(3, H, W\)"):
        Preprocess([0.0] * 3, [1.0] * 3)([entry])


def test_lengths_must_agree() -> None:
    with pytest.raises(ModelError, match="differ in length"):
        Preprocess([0.0] * 3, [1.0])


def test_groups_are_images_of_one_padded_size() -> None:
    batch = [{"image": torch.zeros(3, h, w, dtype=torch.uint8)} for h, w in ((33, 60), (64, 33), (32, 64), (40, 50))]
    assert Preprocess([0.0] * 3, [1.0] * 3).groups(batch) == [[0, 1, 3], [2]]
    assert Preprocess([0.0] * 3, [1.0] * 3, size_divisibility=1).groups(batch) == [[0], [1], [2], [3]]
    with pytest.raises(ModelError, match=r"\(3, H, W\)"):
        Preprocess([0.0] * 3, [1.0] * 3).groups([{}])
