"""Loaders."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import random
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from drivetrain.data.loader import InferenceLoader, TrainLoader
from drivetrain.data.mapper import DatasetMapper
from drivetrain.data.order import GlobalOrder
from drivetrain.data.store import RecordStore
from drivetrain.data.transforms import ColorJitter, RandomCrop, RandomFlip, ResizeShortestEdge
from drivetrain.errors import CheckpointError, ConfigError, DatasetError
from drivetrain.structures import BoxMode

AUGMENTATIONS = [
    RandomCrop("relative_range", (0.5, 0.5)),
    ResizeShortestEdge((24, 32, 40), 64),
    RandomFlip(),
    ColorJitter(0.4, 0.4, 0.4, 0.1),
]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """24 small images, half of them upright, with one to three boxes each."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    out = []
    for k in range(24):
        height, width = (40, 50) if k % 2 else (50, 40)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{k}.png")
        boxes = [[*(corner := rng.uniform(0, 25, 2)).tolist(), *(corner + 12).tolist()] for _ in range(k % 3 + 1)]
        out.append(
            {
                "file_name": str(folder / f"{k}.png"),
                "image_id": k,
                "height": height,
                "width": width,
                "annotations": [
                    {"bbox": b, "bbox_mode": BoxMode.XYXY_ABS, "category_id": j} for j, b in enumerate(boxes)
                ],
            }
        )
    return out


def mapper() -> DatasetMapper:
    return DatasetMapper(True, augmentations=AUGMENTATIONS, image_format="RGB")


def order(records: list[Any], batch_size: int = 4, seed: int = 1) -> GlobalOrder:
    return GlobalOrder(len(records), batch_size, seed, groups=[r["width"] > r["height"] for r in records])


def train_loader(records: list[Any], **options: Any) -> TrainLoader:
    return TrainLoader(records, order(records), options.pop("mapper", mapper()), **options)


def content(batch: list[dict[str, Any]]) -> list[bytes]:
    """Everything in a batch, pixels included, as bytes."""
    return [
        pickle.dumps(
            (
                sample["image_id"],
                tuple(sample["image"].shape),
                sample["image"].numpy().tobytes(),
                sample["instances"].gt_boxes.tensor.tolist(),
                sample["instances"].gt_classes.tolist(),
            )
        )
        for sample in batch
    ]


def take(loader: TrainLoader, count: int) -> list[list[bytes]]:
    batches = [content(next(loader)) for _ in range(count)]
    loader.close()
    return batches


def global_rng_mapper(record: dict[str, Any]) -> dict[str, Any]:
    """A user's mapper, as in the wild: it changes the record and draws from all three global generators."""
    sample = record
    sample["draws"] = (random.random(), float(np.random.rand()), float(torch.rand(())))
    sample["annotations"] = sample.pop("annotations")[:1]
    return sample


def fail_at_3(record: dict[str, Any]) -> dict[str, Any]:
    if record["image_id"] == 3:
        raise DatasetError("image '3.png' is truncated")
    return record


def crash(record: dict[str, Any]) -> dict[str, Any]:
    raise ZeroDivisionError("a bug")


def threads(record: dict[str, Any]) -> dict[str, Any]:
    return {"threads": torch.get_num_threads(), "pid": os.getpid()}


def test_samples_and_pixels_do_not_depend_on_workers(records: list[Any]) -> None:
    alone = take(train_loader(records), 8)
    for workers in (1, 2):
        assert take(train_loader(records, num_workers=workers), 8) == alone
    # Negative controls: another seed, and the same images at other positions, are other pixels.
    assert take(TrainLoader(records, order(records, seed=2), mapper()), 8) != alone
    assert len({sample for batch in take(train_loader(records), 40) for sample in batch}) > 150


def test_two_ranks_together_see_what_one_sees(records: list[Any]) -> None:
    alone = take(train_loader(records), 6)
    halves = [take(train_loader(records, rank=rank, world_size=2), 6) for rank in range(2)]
    assert [a + b for a, b in zip(*halves, strict=True)] == alone
    assert train_loader(records, world_size=2).batch_size == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_continues_exactly(records: list[Any], workers: int) -> None:
    whole = take(train_loader(records), 9)
    first = train_loader(records, num_workers=workers)
    for _ in range(5):
        next(first)
    state = first.state_dict()
    assert state == {"batches": 5, "seed": 1, "batch_size": 4, "num_samples": 24}  # and not what was prefetched
    first.close()
    second = train_loader(records, num_workers=2 - workers)
    second.load_state_dict(state)
    assert take(second, 4) == whole[5:]


def test_resume_on_another_world_size_skips_and_repeats_nothing() -> None:
    records = list(range(48))
    make = GlobalOrder(48, 4, 3)
    first = TrainLoader(records, make)
    seen = [value for _ in range(5) for value in next(first)]
    for rank in range(4):
        part = TrainLoader(records, make, rank=rank, world_size=4)
        part.load_state_dict(first.state_dict())
        seen += [value for _ in range(7) for value in next(part)]
    assert sorted(seen) == records


def test_the_seed_of_the_run_is_taken_from_its_state() -> None:
    """With SEED < 0 the resumed process has drawn another one."""
    first, second = (TrainLoader(list(range(50)), GlobalOrder(50, 5, seed)) for seed in (1, 2))
    next(first)
    second.load_state_dict(first.state_dict())
    assert [next(first) for _ in range(5)] == [next(second) for _ in range(5)]
    assert second.order.seed == 1


def test_another_batch_size_or_dataset(caplog: pytest.LogCaptureFixture) -> None:
    loader = TrainLoader(list(range(50)), GlobalOrder(50, 5, 0))
    loader.load_state_dict({"batches": 7, "seed": 0, "batch_size": 10, "num_samples": 60})
    assert loader.position == 14
    assert "had 60 images" in caplog.text and "50 now" in caplog.text
    for bad in ({}, {"batches": "x", "seed": 0, "batch_size": 1, "num_samples": 1}):
        with pytest.raises(CheckpointError, match="not the state of a data loader"):
            loader.load_state_dict(bad)


@pytest.mark.parametrize("workers", [0, 2])
def test_iterating_again_goes_on_and_seek_jumps(workers: int) -> None:
    records = list(range(40))
    whole = [GlobalOrder(40, 4, 0).batch(i)[0].tolist() for i in range(12)]
    loader = TrainLoader(records, GlobalOrder(40, 4, 0), num_workers=workers)
    assert [batch for _, batch in zip(range(3), loader)] == whole[:3]  # noqa: B905
    iterator = iter(loader)
    assert [next(iterator), next(iter(loader)), next(iterator)] == whole[3:6]
    loader.seek(10)
    assert next(iterator) == whole[10] and loader.position == 11
    loader.seek(0)
    assert [next(loader) for _ in range(2)] == whole[:2]
    loader.close()
    assert next(loader) == whole[2]
    loader.close()


def test_what_workers_need_can_be_sent_to_spawned_processes(records: list[Any]) -> None:
    """Where processes are not forked (macOS, Windows, newer Pythons), dataset, order and mapper travel as pickles."""
    loader = train_loader(records)
    source = pickle.loads(pickle.dumps(loader._source))
    pickle.dumps(loader.order)
    task = next(iter(loader._tasks))
    assert content(source.__getitems__(task)) == content(next(loader))


def test_seeking_far_takes_no_time() -> None:
    loader = TrainLoader(range(10_000_000), GlobalOrder(10_000_000, 16, 0))
    loader.seek(90_000_000)
    assert len(next(loader)) == 16


@pytest.mark.parametrize("workers", [0, 1])
def test_users_mappers_are_reproducible_and_the_process_is_left_alone(records: list[Any], workers: int) -> None:
    before = copy.deepcopy(records)
    results = []
    for training_seed in (0, 1):
        random.seed(training_seed), np.random.seed(training_seed), torch.manual_seed(training_seed)
        loader = train_loader(records, mapper=global_rng_mapper, num_workers=workers)
        results.append([[s["draws"] for s in next(loader)] for _ in range(3)])
        loader.close()
        after = (random.random(), np.random.rand(), torch.rand(()))
        random.seed(training_seed), np.random.seed(training_seed), torch.manual_seed(training_seed)
        assert (random.random(), np.random.rand(), torch.rand(())) == after
    assert results[0] == results[1]
    values = [value for batch in results[0] for sample in batch for value in sample]
    assert len(set(values)) == len(values)
    assert records == before


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_sample_is_one_sentence_and_does_not_move_the_loader(records: list[Any], workers: int) -> None:
    loader = TrainLoader(records, GlobalOrder(24, 2, 0, shuffle=False), fail_at_3, num_workers=workers)
    assert [r["image_id"] for r in next(loader)] == [0, 1]
    for _ in range(2):
        with pytest.raises(DatasetError) as caught:
            next(loader)
        assert str(caught.value) == "image '3.png' is truncated"
    assert loader.position == 1
    loader.seek(2)
    assert [r["image_id"] for r in next(loader)] == [4, 5]
    loader.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_in_a_mapper_keeps_its_type(records: list[Any], workers: int) -> None:
    loader = train_loader(records, mapper=crash, num_workers=workers)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        next(loader)


def alive(pids: set[int]) -> set[int]:
    states = {p: Path(f"/proc/{p}/stat") for p in pids}
    return {p for p, f in states.items() if f.exists() and f.read_text().rsplit(")", 1)[1].split()[0] != "Z"}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", ["close", "forget", "cycle", "seek"])
def test_workers_end_with_the_loader(records: list[Any], how: str) -> None:
    loader = train_loader(records, mapper=threads, num_workers=2)
    samples = [sample for _ in range(4) for sample in next(loader)]
    pids = {sample["pid"] for sample in samples}
    assert len(pids) == 2 and os.getpid() not in pids
    assert {sample["threads"] for sample in samples} == {1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if how == "close":
            loader.close()
        elif how == "forget":
            gc.disable()  # by the reference count alone, not at some later collection
            try:
                del loader
            finally:
                gc.enable()
        elif how == "cycle":
            holder = [loader]
            holder.append(holder)  # type: ignore[arg-type]
            del loader, holder
            start = time.perf_counter()
            gc.collect()
            assert time.perf_counter() - start < 4  # torch alone waits 5 seconds for each worker and kills it
        else:
            loader.seek(0)
            assert {s["pid"] for _ in range(4) for s in next(loader)} == pids  # the same processes go on
            loader.close()
        assert alive(pids) == set()


SCRIPT = """
import os, signal, sys
from drivetrain.data.loader import InferenceLoader, TrainLoader
from drivetrain.data.order import GlobalOrder
from drivetrain.data.store import RecordStore

train = TrainLoader(list(range(9)), GlobalOrder(9, 3, 0), lambda record: os.getpid(), num_workers=1)
test = iter(InferenceLoader(list(range(9)), lambda record: os.getpid(), num_workers=1))
pids = {next(train)[0], next(test)[0]}
for pid in pids:
    os.kill(pid, signal.SIGTERM)  # as when a whole job is told to end
next(train), next(test)  # the workers go on
print(*pids, flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_process_that_forgets_its_loaders_exits_at_once() -> None:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0 and done.stderr == ""
    assert len(done.stdout.split()) == 2 and alive({int(p) for p in done.stdout.split()}) == set()
    assert time.perf_counter() - start < 45  # waiting for a worker that outlives SIGTERM takes 60 seconds


def test_bad_arguments(records: list[Any]) -> None:
    with pytest.raises(DatasetError, match=r"over 10 samples.*has 24"):
        TrainLoader(records, GlobalOrder(10, 2, 0))
    with pytest.raises(ConfigError, match=r"4 images.*3 ranks"):
        train_loader(records, world_size=3)
    for workers in (-1, 1.5, True):
        with pytest.raises(ConfigError, match="NUM_WORKERS"):
            train_loader(records, num_workers=workers)
    with pytest.raises(ConfigError, match="prefetch_factor"):
        train_loader(records, prefetch_factor=0)
    with pytest.raises(ValueError, match="batch -1"):
        train_loader(records).seek(-1)
    with pytest.raises(ConfigError, match=r"TEST.IMS_PER_BATCH.*0"):
        InferenceLoader(records, None, batch_size=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_inference_loader_gives_everything_once_in_order(records: list[Any], workers: int) -> None:
    plain = DatasetMapper(False, augmentations=[ResizeShortestEdge(20)], image_format="RGB")
    loader = InferenceLoader(records, plain, batch_size=5, num_workers=workers)
    assert len(loader) == 5
    torch.manual_seed(3)
    batches = list(loader)
    assert float(torch.rand(())) == float(torch.manual_seed(3) and torch.rand(()))  # evaluation drew nothing
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 4]
    assert [s["image_id"] for batch in batches for s in batch] == list(range(24))
    assert all(tuple(s["image"].shape[1:]) in ((20, 25), (25, 20)) for batch in batches for s in batch)
    with pytest.raises(DatasetError, match=r"^image '3.png' is truncated$"):
        list(InferenceLoader(records, fail_at_3, num_workers=workers))
    assert list(InferenceLoader([], None)) == []


def test_one_batch_by_its_number_leaves_the_place(records: list[dict[str, Any]]) -> None:
    loader = train_loader(records)
    batches = [content(next(loader)) for _ in range(3)]
    generators = torch.get_rng_state(), random.getstate()
    assert [content(loader.batch(number)) for number in (2, 0, 1)] == [batches[2], batches[0], batches[1]]
    assert loader.position == 3
    assert torch.equal(torch.get_rng_state(), generators[0]) and random.getstate() == generators[1]
    parts = [train_loader(records, rank=rank, world_size=2).batch(1) for rank in range(2)]
    assert content(parts[0]) + content(parts[1]) == batches[1]


def test_one_batch_of_an_evaluation(records: list[dict[str, Any]]) -> None:
    loader = InferenceLoader(records, DatasetMapper(False, augmentations=[], image_format="RGB"), batch_size=5)

    def pixels(batch: list[dict[str, Any]]) -> list[bytes]:
        return [item["image"].numpy().tobytes() for item in batch]

    assert [pixels(loader.batch(number)) for number in range(5)] == [pixels(batch) for batch in loader]
    with pytest.raises(IndexError, match="no batch 5: this rank has 5"):
        loader.batch(5)


def test_a_dataset_that_changed_is_said(records: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    def loader(changed: list[dict[str, Any]]) -> TrainLoader:
        return TrainLoader(RecordStore.from_records(changed), order(records), mapper())

    state = loader(records).state_dict()
    moved = [{**record, "file_name": f"elsewhere/{record['image_id']}.png"} for record in records]
    loader(moved).load_state_dict(state)
    assert not caplog.text
    fewer = [{**record, "annotations": record["annotations"][:1]} for record in records]
    for other in (fewer, records[::-1]):
        caplog.clear()
        loader(other).load_state_dict(state)
        assert "as many images as when the checkpoint was written, but other ones, or in" in caplog.text
