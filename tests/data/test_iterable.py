"""Training on datasets that can only be read from the beginning."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from torch.utils.data import IterableDataset, get_worker_info

from drivetrain.data.iterable import IterableTrainLoader
from drivetrain.errors import CheckpointError, DatasetError


class Numbers(IterableDataset[Any]):
    """range(count) as records, dealt to the workers; every third is upright."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for k in range(first, self.count, step):
            yield {"id": k, "width": 10 if k % 3 else 5, "height": 7}


def draw(record: dict[str, Any]) -> dict[str, Any] | None:
    return None if record["id"] == 4 else {**record, "draw": random.random()}


def loader(count: int = 10, **options: Any) -> IterableTrainLoader:
    settings: dict[str, Any] = {"batch_size": 2, "seed": 0, "aspect_ratio_grouping": False}
    return IterableTrainLoader(Numbers(count), draw, **(settings | options))


def ids(batches: list[Any]) -> list[list[int]]:
    return [[sample["id"] for sample in batch] for batch in batches]


def test_pass_after_pass() -> None:
    stream = loader(7)
    batches = [next(stream) for _ in range(6)]
    assert ids(batches) == [[0, 1], [2, 3], [5, 6], [0, 1], [2, 3], [5, 6]]  # 4 is left out: its mapping is None
    assert batches[0][0]["draw"] != batches[3][0]["draw"]


def test_grouping() -> None:
    stream = loader(9, aspect_ratio_grouping=True)
    for _ in range(20):
        assert len({sample["width"] > sample["height"] for sample in next(stream)}) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_resume(workers: int) -> None:
    whole = loader(11, num_workers=workers)
    batches = [next(whole) for _ in range(12)]
    whole.close()
    again = loader(11, num_workers=workers)
    again.load_state_dict({"batches": 7})
    assert [next(again) for _ in range(5)] == batches[7:]
    assert again.state_dict() == {"batches": 12}
    again.close()
    assert [next(loader(11, num_workers=workers, seed=1))] != batches[:1]
    with pytest.raises(CheckpointError):
        again.load_state_dict({})


def test_iterating_again_goes_on() -> None:
    stream = loader()
    assert ids([batch for _, batch in zip(range(2), stream, strict=False)]) == [[0, 1], [2, 3]]
    assert ids([next(iter(stream))]) == [[5, 6]]


def test_errors() -> None:
    with pytest.raises(DatasetError, match="Numbers yields no sample"):
        next(loader(0))

    def bad(record: Any) -> Any:
        raise DatasetError("image 'x' is damaged")

    for workers in (0, 1):
        broken = IterableTrainLoader(Numbers(3), bad, batch_size=1, seed=0, num_workers=workers)
        with pytest.raises(DatasetError, match=r"^image 'x' is damaged$"):
            next(broken)
