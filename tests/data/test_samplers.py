"""Samplers under detectron2's names."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from drivetrain.data import samplers
from drivetrain.data.samplers import (
    InferenceSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
    repeat_factors_from_category_frequency,
)
from drivetrain.data.store import RecordStore
from drivetrain.data.views import RecordView
from drivetrain.errors import ConfigError, DatasetError


def on_rank(monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int) -> None:
    monkeypatch.setattr(samplers.comm, "get_rank", lambda: rank)
    monkeypatch.setattr(samplers.comm, "get_world_size", lambda: world_size)


def test_training_sampler_deals_one_stream_to_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(islice(iter(TrainingSampler(10, seed=3)), 1000))
    for epoch in range(100):
        assert sorted(whole[epoch * 10 : epoch * 10 + 10]) == list(range(10))
    for rank in range(3):
        on_rank(monkeypatch, rank, 3)
        assert list(islice(iter(TrainingSampler(10, seed=3)), 300)) == whole[rank:900:3]
    assert list(islice(iter(TrainingSampler(10, seed=4)), 50)) != whole[:50]


def test_training_sampler_unshuffled_and_random_seed() -> None:
    assert list(islice(iter(TrainingSampler(3, shuffle=False, seed=0)), 7)) == [0, 1, 2, 0, 1, 2, 0]
    assert len({TrainingSampler(3).seed for _ in range(4)}) > 1


def test_training_samplers_order_is_over_the_same_stream() -> None:
    order = TrainingSampler(10, seed=3).order(4)
    assert order.batch_size == 4 and order.num_samples == 10 and order.seed == 3


def test_repeat_factor_sampler_repeats() -> None:
    sampler = RepeatFactorTrainingSampler(torch.tensor([1.0, 2.5, 0.5]), seed=1)
    counts = np.bincount(list(islice(iter(sampler), 8000)), minlength=3) / 2000
    assert np.abs(counts - [1, 2.5, 0.5]).max() < 0.05
    assert sampler.order(2).epoch_length == pytest.approx(4.0)


def test_repeat_factors_by_hand() -> None:
    """4 images; class 0 in all, class 1 in one (f = 1/4), class 2 in two (f = 1/2); threshold 1/2."""

    def record(*classes: int) -> dict[str, list[dict[str, int]]]:
        return {"annotations": [{"category_id": c} for c in classes]}

    records = [record(0), record(0, 1, 1), record(0, 2), record(0, 2)]
    expected = [1.0, 2**0.5, 1.0, 1.0]
    assert repeat_factors_from_category_frequency(records, 0.5) == pytest.approx(expected)
    tensor = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(records, 0.5)
    assert tensor.dtype == torch.float32 and tensor.tolist() == pytest.approx(expected)
    assert repeat_factors_from_category_frequency([record(), record(3)], 1.0) == pytest.approx([1.0, 2**0.5])


def test_repeat_factors_of_columns_are_those_of_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crowds, images without annotations and several of a category included; no record is made for it."""
    rng = np.random.default_rng(0)

    def store(images: int) -> RecordStore:
        rows = [
            [{"category_id": int(c) ** 2, "iscrowd": int(rng.integers(2))} for c in rng.integers(0, 9, rng.integers(5))]
            for _ in range(images)
        ]
        return RecordStore.from_records({"annotations": row} for row in rows)

    first, second = store(40), store(25)
    view = RecordView([first, second], rng.permutation(65)[:50])
    wanted = [repeat_factors_from_category_frequency(list(each), 0.4) for each in (first, view)]
    monkeypatch.setattr(RecordStore, "__getitem__", None)
    for each, factors in zip((first, view), wanted, strict=True):
        assert factors.max() > 1.1 and len(set(factors)) > 3
        assert repeat_factors_from_category_frequency(each, 0.4).tolist() == factors.tolist()
    assert repeat_factors_from_category_frequency(RecordStore.from_records([{}, {}]), 0.4).tolist() == [1, 1]


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9])
def test_inference_sampler_covers_everything_once_in_contiguous_blocks(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    blocks = []
    for rank in range(4):
        on_rank(monkeypatch, rank, 4)
        sampler = InferenceSampler(size)
        assert len(sampler) == len(list(sampler))
        blocks.append(list(sampler))
    assert [i for block in blocks for i in block] == list(range(size))
    lengths = [len(block) for block in blocks]
    assert max(lengths) - min(lengths) <= 1 and lengths == sorted(lengths, reverse=True)


def test_bad_input() -> None:
    with pytest.raises(DatasetError, match="0 images"):
        TrainingSampler(0)
    with pytest.raises(ConfigError, match=r"REPEAT_THRESHOLD.*1\.5"):
        repeat_factors_from_category_frequency([{"annotations": []}], 1.5)
    with pytest.raises(DatasetError, match="empty"):
        repeat_factors_from_category_frequency([], 0.5)
    with pytest.raises(DatasetError, match="empty"):
        repeat_factors_from_category_frequency(RecordStore.from_records([]), 0.5)
    with pytest.raises(ValueError, match="-1 images"):
        InferenceSampler(-1)
