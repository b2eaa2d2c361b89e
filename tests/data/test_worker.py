"""What makes samples, here and in worker processes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.data.images import UnreadableImageError
from drivetrain.data.order import GlobalOrder
from drivetrain.data.quarantine import BadImage
from drivetrain.data.worker import Failure, Repaired, SampleMaker, SampleSource, Task, unwrapped
from drivetrain.errors import DatasetError


def draws(record: Any) -> tuple[Any, ...]:
    return record, random.random(), float(np.random.rand()), float(torch.rand(()))


def with_rng(record: Any, rng: np.random.Generator) -> tuple[Any, float]:
    return record, float(rng.random())


def task(*indices: int, seed: int = 0, start: int = 0) -> Task:
    return Task(seed, np.array(indices), np.arange(start, start + len(indices)))


def test_global_generators_are_fixed_by_seed_and_position() -> None:
    make = SampleMaker(draws)
    first = make(lambda: "a", 1, 5)
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    state = draws(None)
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    with make.guard():
        assert make(lambda: "a", 1, 5) == first
    assert draws(None) == state  # the process's own generators did not move
    for other in (make(lambda: "a", 2, 5), make(lambda: "a", 1, 6)):
        assert not set(other[1:]) & set(first[1:])


def test_a_mapper_with_rng_is_given_one() -> None:
    make = SampleMaker(with_rng)
    assert make(lambda: 3, 1, 5) == make(lambda: 3, 1, 5) != make(lambda: 3, 1, 6)


def test_randomness_of_the_dataset_itself_is_fixed_too() -> None:
    class Random:
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> float:
            return float(torch.rand(()))

    source = SampleSource(Random(), None)  # type: ignore[arg-type]
    assert source.__getitems__(task(0, 1)) == source.__getitems__(task(0, 1))


def test_records_of_a_list_are_safe_from_mappers() -> None:
    def vandal(record: dict[str, Any]) -> dict[str, Any]:
        record["annotations"].clear()
        return record

    records = [{"annotations": [1]}]
    SampleSource(records, vandal).__getitems__(task(0))
    assert records == [{"annotations": [1]}]


def test_none_is_replaced_by_another_record_the_same_each_time() -> None:
    def only_multiples_of_five(record: int) -> int | None:
        return record if record % 5 == 0 else None

    source = SampleSource(list(range(50)), only_multiples_of_five)
    out = source.__getitems__(task(*range(20)))
    assert out == source.__getitems__(task(*range(20)))
    assert all(value % 5 == 0 for value in out) and out[5] == 5 and len(set(out)) > 4
    assert source.__getitems__(task(*range(20), seed=1)) != out
    failure = SampleSource([1, 2], lambda record: None).__getitems__(task(0))
    with pytest.raises(DatasetError, match="returned None for record 0"):
        unwrapped(failure)


def test_errors_of_this_package_come_back_as_they_are() -> None:
    error = DatasetError("image 'x.jpg' does not open")

    def fails(record: Any) -> Any:
        raise error

    failure = SampleSource([1], fails).__getitems__(task(0))
    assert isinstance(failure, Failure) and failure.error is error
    with pytest.raises(ZeroDivisionError):  # a bug in a mapper is not hidden
        SampleSource([1], lambda record: 1 / 0).__getitems__(task(0))


def test_collate_and_plain_indices() -> None:
    source = SampleSource([10, 20, 30], None, sum)
    assert source.__getitems__(task(0, 2)) == 40 and source.__getitems__([1, 2]) == 50
    assert len(source) == 3 and source[1] == 20


def test_a_collate_function_that_draws_is_reproducible_too() -> None:
    def mix(samples: list[int]) -> tuple[list[int], float]:
        return samples, random.random()

    class Pure:
        pure = True

        def __call__(self, record: int) -> int:
            return record

    source = SampleSource([1, 2, 3], Pure(), mix)
    random.seed(0)
    expected = random.random()
    random.seed(0)
    batch = source.__getitems__(task(0, 1, start=4))
    assert random.random() == expected
    assert source.__getitems__(task(0, 1, start=4)) == batch != source.__getitems__(task(0, 1, start=6))


def test_order_and_source_fit_together() -> None:
    order = GlobalOrder(5, 2, 3)
    indices, positions = order.batch(4)
    assert SampleSource(list(range(5)), None).__getitems__(Task(3, indices, positions)) == indices.tolist()


def unreadable_if_odd(record: dict[str, Any]) -> dict[str, Any]:
    if record["image_id"] % 2:
        raise UnreadableImageError(f"image {record['file_name']!r} is empty")
    return record


RECORDS = [{"file_name": f"{k}.jpg", "image_id": k} for k in range(20)]


def test_unreadable_images_are_replaced_as_those_without_a_sample_are() -> None:
    def none_if_odd(record: dict[str, Any]) -> dict[str, Any] | None:
        return None if record["image_id"] % 2 else record

    repaired = SampleSource(RECORDS, unreadable_if_odd, replace_unreadable=True).__getitems__(task(*range(10)))
    assert isinstance(repaired, Repaired)
    noted: list[Any] = []
    assert unwrapped(repaired, noted.extend) == SampleSource(RECORDS, none_if_odd).__getitems__(task(*range(10)))
    assert {bad.image_id for bad in noted} >= {1, 3, 5, 7, 9}
    assert noted[0] == BadImage("1.jpg", 1, "image '1.jpg' is empty")
    assert unwrapped(repaired) == repaired.batch
    sound = SampleSource(RECORDS, unreadable_if_odd, replace_unreadable=True).__getitems__(task(0, 2))
    assert sound == [RECORDS[0], RECORDS[2]]


def test_without_being_asked_they_are_an_error() -> None:
    failure = SampleSource(RECORDS, unreadable_if_odd).__getitems__(task(0, 1))
    with pytest.raises(UnreadableImageError, match=r"^image '1.jpg' is empty$"):
        unwrapped(failure)


def test_when_none_is_left_the_bad_ones_are_told_before_the_error() -> None:
    result = SampleSource(RECORDS[1:2], unreadable_if_odd, replace_unreadable=True).__getitems__(task(0))
    noted: list[Any] = []
    with pytest.raises(DatasetError, match="no usable image in place of record 0: 99 others"):
        unwrapped(result, noted.extend)
    assert {bad.file for bad in noted} == {"1.jpg"}


def test_tasks_are_described_by_their_files() -> None:
    source = SampleSource(RECORDS, None)
    assert source.describe(task(3, 1)) == "'3.jpg', '1.jpg'"
    assert source.describe(list(range(12))).endswith("'9.jpg' and 2 more")
    assert SampleSource([5, 6], None).describe([1]) == "'record 1'"
