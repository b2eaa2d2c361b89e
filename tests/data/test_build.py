"""Datasets and loaders from configs and from parts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, SequentialSampler

from drivetrain.data import build as build_module
from drivetrain.data.build import build_detection_test_loader, build_detection_train_loader
from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.iterable import IterableTrainLoader
from drivetrain.data.loader import TrainLoader
from drivetrain.data.mix import MixMapper
from drivetrain.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from drivetrain.data.store import RecordStore
from drivetrain.engine.defaults.config import get_cfg
from drivetrain.errors import ConfigError, DatasetError
from drivetrain.structures import BoxMode


def record(k: int, *classes: int, crowd: int = 0, **more: Any) -> dict[str, Any]:
    annotation = {"bbox": [1.0, 1.0, 5.0, 5.0], "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": crowd}
    return {
        "file_name": f"{k}.jpg",
        "image_id": k,
        "height": 20,
        "width": 30 if k % 2 else 10,
        "annotations": [{**annotation, "category_id": c} for c in classes],
        **more,
    }


RECORDS = [record(k, *range(k % 3)) for k in range(30)]  # every third has no annotation


@pytest.fixture
def names() -> Iterator[tuple[str, str]]:
    for name, records in (("build_a", RECORDS), ("build_b", [record(k, 1) for k in range(100, 110)])):
        DatasetCatalog.register(name, lambda records=records: records)
        MetadataCatalog.get(name).set(thing_classes=["x", "y"])
    yield "build_a", "build_b"
    for name in ("build_a", "build_b"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def ids(batch: list[dict[str, Any]]) -> list[int]:
    return [sample["image_id"] for sample in batch]


def same(record: Any) -> Any:
    return record


# ------------------------------------------------------------------------------------------------ training


def config(**keys: Any) -> Any:
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ("build_a",)
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SEED = 5
    for key, value in keys.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


def test_from_a_config(names: tuple[str, str]) -> None:
    loader = build_detection_train_loader(config(), mapper=same)
    assert isinstance(loader, TrainLoader) and isinstance(loader.order.seed, int) and loader.order.seed == 5
    seen = []
    for _ in range(60):
        batch = next(loader)
        assert len({sample["width"] > sample["height"] for sample in batch}) == 1
        seen += ids(batch)
    assert set(seen) == {k for k in range(30) if k % 3}
    again = build_detection_train_loader(config(), same)  # the mapper by position
    assert [i for _ in range(60) for i in ids(next(again))] == seen
    plain = build_detection_train_loader(config(DATALOADER__ASPECT_RATIO_GROUPING=False), mapper=same)
    assert any(len({s["width"] for s in next(plain)}) == 2 for _ in range(10))
    every = build_detection_train_loader(config(DATALOADER__FILTER_EMPTY_ANNOTATIONS=False), mapper=same)
    assert len(every.dataset) == 30 and len(loader.dataset) == 20


def test_arguments_beside_a_config_count_instead(names: tuple[str, str]) -> None:
    loader = build_detection_train_loader(config(), mapper=same, dataset=RECORDS, total_batch_size=6, seed=9)
    assert (len(loader.dataset), loader.batch_size, loader.order.seed) == (30, 6, 9)


def test_default_mapper_and_sampler_of_a_config(names: tuple[str, str], tmp_path: Path) -> None:
    from PIL import Image

    rows = [{**r, "file_name": str(tmp_path / f"{r['image_id']}.png")} for r in RECORDS]
    for r in rows:
        Image.new("RGB", (r["width"], r["height"])).save(r["file_name"])
    loader = build_detection_train_loader(config(INPUT__MIN_SIZE_TRAIN="(40,)"), dataset=rows, num_workers=0)
    sample = next(loader)[0]
    assert min(sample["image"].shape[1:]) == 40 and "instances" in sample


def test_repeat_factors(names: tuple[str, str]) -> None:
    """Class 1 is in 10 of 20 images, class 0 in all: with threshold 1 the ten come sqrt(2) times as often."""
    cfg = config(DATALOADER__SAMPLER_TRAIN="RepeatFactorTrainingSampler", DATALOADER__REPEAT_THRESHOLD=1.0)
    loader = build_detection_train_loader(cfg, mapper=same)
    rare = np.mean([i % 3 == 2 for _ in range(600) for i in ids(next(loader))])
    assert abs(rare - 2**0.5 / (1 + 2**0.5)) < 0.02


class Squares(Dataset[int]):
    """A user's dataset whose items are no dicts."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> int:
        return index * index


class Stream(IterableDataset[Any]):
    """A user's endless stream."""

    def __iter__(self) -> Iterator[Any]:
        yield from ({"image_id": k, "width": 2, "height": 1} for k in range(1000))


def test_from_parts_without_a_config() -> None:
    for loader in (
        build_detection_train_loader(RECORDS, mapper=same, total_batch_size=5, seed=1),
        build_detection_train_loader(dataset=RECORDS, mapper=same, total_batch_size=5, seed=1, num_workers=0),
    ):
        assert isinstance(loader.dataset, RecordStore)
        first = next(loader)
        assert len(first) == 5 and first[0] == RECORDS[first[0]["image_id"]]
    squares = build_detection_train_loader(Squares(), mapper=None, total_batch_size=4, seed=0)
    assert sorted(value for _ in range(3) for value in next(squares)) == [k * k for k in range(12)]
    doubled = build_detection_train_loader(Squares(), mapper=lambda x: 2 * x, total_batch_size=12, collate_fn=sum)
    assert next(doubled) == 2 * sum(k * k for k in range(12))
    stream = build_detection_train_loader(Stream(), mapper=same, total_batch_size=2)
    assert isinstance(stream, IterableTrainLoader) and ids(next(stream)) == [0, 1]


def test_samplers_given() -> None:
    options: dict[str, Any] = {"mapper": same, "total_batch_size": 3, "aspect_ratio_grouping": False}
    in_order = build_detection_train_loader(RECORDS, sampler=SequentialSampler(range(30)), **options)
    assert [ids(next(in_order)) for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]
    own = build_detection_train_loader(RECORDS, sampler=TrainingSampler(30, shuffle=False, seed=3), **options)
    assert ids(next(own)) == [0, 1, 2] and own.order.seed == 3
    factors = RepeatFactorTrainingSampler([1.0] + [0.0] * 29)
    assert ids(next(build_detection_train_loader(RECORDS, sampler=factors, **options))) == [0, 0, 0]


def test_seeds_without_a_seed_differ() -> None:
    loaders = [build_detection_train_loader(RECORDS, mapper=same, total_batch_size=2, seed=s) for s in (None, None, -1)]
    assert len({loader.order.seed for loader in loaders}) == 3


def test_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build_detection_train_loader(RECORDS, mapper=same, total_batch_size=4, seed=1)
    monkeypatch.setattr(build_module.comm, "get_world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(build_module.comm, "get_rank", lambda rank=rank: rank)
        parts.append(build_detection_train_loader(RECORDS, mapper=same, total_batch_size=4, seed=1))
    for _ in range(10):
        assert ids(next(whole)) == ids(next(parts[0])) + ids(next(parts[1]))
    with pytest.raises(ConfigError, match=r"5 images.*2 ranks; use 4 or 6"):
        build_detection_train_loader(RECORDS, mapper=same, total_batch_size=5)


def test_bad_arguments(names: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="needs a config or a dataset"):
        build_detection_train_loader(total_batch_size=2)
    with pytest.raises(ConfigError, match="needs total_batch_size"):
        build_detection_train_loader(RECORDS, mapper=same)
    with pytest.raises(ConfigError, match="given twice"):
        build_detection_train_loader(RECORDS, dataset=RECORDS, total_batch_size=2)
    with pytest.raises(ConfigError, match=r"IMS_PER_BATCH.*not 0"):
        build_detection_train_loader(config(), mapper=same, total_batch_size=0)
    with pytest.raises(ConfigError, match=r"SAMPLER_TRAIN.*did you mean 'TrainingSampler'"):
        cfg = config()
        cfg.DATALOADER.SAMPLER_TRAIN = "TrainSampler"
        build_detection_train_loader(cfg, mapper=same)
    with pytest.raises(ConfigError, match=r"torch\.utils\.data\.Sampler, not list"):
        build_detection_train_loader(RECORDS, sampler=[1, 2], mapper=same, total_batch_size=2)
    with pytest.raises(ConfigError, match="leave out the sampler"):
        build_detection_train_loader(Stream(), sampler=SequentialSampler([1]), mapper=same, total_batch_size=2)
    with pytest.raises(DatasetError, match="0 images"):
        build_detection_train_loader([], mapper=same, total_batch_size=2)


# ------------------------------------------------------------------------------------------------ evaluation


def test_evaluation_loader(names: tuple[str, str]) -> None:
    cfg = config(TEST__IMS_PER_BATCH=7)
    loader = build_detection_test_loader(cfg, "build_a", same)
    assert len(loader) == 5 and [i for batch in loader for i in ids(batch)] == list(range(30))  # nothing is filtered
    assert len(build_detection_test_loader(cfg, ["build_a", "build_b"], mapper=same)) == 6
    parts = build_detection_test_loader(RECORDS, mapper=same, batch_size=10, num_workers=0)
    assert [len(batch) for batch in parts] == [10, 10, 10]
    reverse = build_detection_test_loader(dataset=RECORDS, mapper=same, sampler=range(29, -1, -1))  # type: ignore[arg-type]
    assert ids(next(iter(reverse))) == [29]


def test_bad_evaluation_loader(names: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="a dataset's name, or a dataset"):
        build_detection_test_loader(config())
    with pytest.raises(ConfigError, match="IterableDataset"):
        build_detection_test_loader(Stream(), mapper=same)
    with pytest.raises(DatasetError, match="not_there"):
        build_detection_test_loader(config(), "not_there")


def test_the_blood_cells(bccd: Path) -> None:
    from drivetrain.data.formats.coco import load_coco_json

    records = load_coco_json(bccd / "instances_val.json", bccd / "images")
    cfg = config(INPUT__MIN_SIZE_TRAIN="(120,)", INPUT__FORMAT="BGR")
    loader = build_detection_train_loader(cfg, dataset=records)
    batch = next(loader)
    assert [tuple(s["image"].shape) for s in batch] == [(3, 120, 160)] * 4
    for sample in batch:
        assert sample["image"].dtype == torch.uint8 and os.path.exists(sample["file_name"])
        boxes = sample["instances"].gt_boxes.tensor
        assert len(boxes) and (boxes[:, 2:] > boxes[:, :2]).all() and boxes.max() <= 160


def test_samples_of_several_images_where_the_config_asks_for_them() -> None:
    cfg = get_cfg()
    records = [{"file_name": f"{k}.jpg", "width": 5, "height": 4, "annotations": []} for k in range(8)]
    cfg.INPUT.MOSAIC, cfg.DATALOADER.NUM_WORKERS = 0.5, 0
    loader = build_detection_train_loader(cfg, dataset=records, total_batch_size=2)
    assert isinstance(loader._source.make._mapper, MixMapper)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="MOSAIC, COPYPASTE and MIXUP work with a DatasetMapper"):
        build_detection_train_loader(cfg, dataset=records, total_batch_size=2, mapper=lambda record: record)
