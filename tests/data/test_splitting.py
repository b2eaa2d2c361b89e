from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.data.formats.image_folder import load_image_folder
from drivetrain.data.formats.sem_seg import load_sem_seg
from drivetrain.data.formats.sources import find_source
from drivetrain.data.formats.synthetic import (
    make_synthetic_classification,
    make_synthetic_panoptic,
    make_synthetic_segmentation,
)
from drivetrain.data.splitting import assign, group_names, split_dataset
from drivetrain.errors import DatasetError, OutputError


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=60),
    st.sampled_from([(0.5, 0.5), (0.8, 0.2), (0.7, 0.2, 0.1)]),
    st.integers(0, 5),
)
def test_shares_of_images_are_kept(counts: list[list[int]], fractions: tuple[float, ...], seed: int) -> None:
    table = np.array(counts)
    chosen = assign(table, [str(i) for i in range(len(counts))], fractions, seed)
    assert chosen.shape == (len(counts),)
    for split, share in enumerate(fractions):
        assert abs(int((chosen == split).sum()) - share * len(counts)) <= 1.5
    assert np.array_equal(chosen, assign(table, [str(i) for i in range(len(counts))], fractions, seed))


@settings(max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 5))
def test_groups_stay_together(groups: list[int], seed: int) -> None:
    chosen = assign(np.ones((len(groups), 2), dtype=int), [str(g) for g in groups], (0.6, 0.4), seed)
    for group in set(groups):
        assert len({int(c) for c, g in zip(chosen, groups, strict=True) if g == group}) == 1


def test_rare_classes_are_in_every_split_and_better_than_by_chance() -> None:
    rng = np.random.default_rng(0)
    counts = np.zeros((500, 6), dtype=int)
    counts[:, 0] = rng.integers(1, 10, 500)
    for label, images in enumerate((100, 40, 20, 10, 5), 1):
        counts[rng.choice(500, images, replace=False), label] = rng.integers(1, 4, images)
    fractions = (0.6, 0.2, 0.2)
    groups = [str(i) for i in range(500)]

    def worst(chosen: np.ndarray[object, np.dtype[np.int64]]) -> float:
        shares = [counts[chosen == s].sum(axis=0) / counts.sum(axis=0) for s in range(3)]
        return float(np.abs(np.array(shares) - np.array(fractions)[:, None]).max())

    stratified = [worst(assign(counts, groups, fractions, seed)) for seed in range(5)]
    by_chance = [worst(rng.choice(3, 500, p=fractions)) for _ in range(50)]
    assert max(stratified) < 0.12 < np.median(by_chance)
    different = [tuple(assign(counts, groups, fractions, seed).tolist()) for seed in range(3)]
    assert len(set(different)) == 3


def test_of_splits_that_lack_a_class_alike_the_one_with_fewer_images_gets_it() -> None:
    counts = np.zeros((20, 2), dtype=int)
    counts[0, 0] = counts[2, 1] = 1
    groups = ["a", "a", *(str(i) for i in range(18))]
    for seed in range(10):
        chosen = assign(counts, groups, (0.5, 0.5), seed)
        assert chosen[0] == chosen[1] != chosen[2]


def test_names_of_groups() -> None:
    names = ["cam1_0.jpg", "cam1_1.jpg", "cam2_0.jpg"]
    assert group_names(names, None) == names
    assert group_names(names, "^[^_]+") == ["cam1", "cam1", "cam2"]
    assert group_names(names, r"_(\d)") == ["0", "1", "0"]
    with pytest.raises(DatasetError, match=r"--group-by '\(' is not a regular expression"):
        group_names(names, "(")
    with pytest.raises(DatasetError, match=r"--group-by 'cam1' finds nothing in the name 'cam2_0\.jpg'"):
        group_names(names, "cam1")


def test_a_coco_file_is_cut_with_everything_in_it(bccd: Path, tmp_path: Path) -> None:
    content = json.loads((bccd / "instances_val.json").read_text())
    content["licenses"] = [{"id": 1}]
    content["annotations"][0]["my_key"] = "kept"
    (tmp_path / "all.json").write_text(json.dumps(content))
    source = find_source(tmp_path / "all.json", images=str(bccd / "images"))
    result = split_dataset(source, {"train": 0.7, "val": 0.15, "test": 0.15}, tmp_path / "out")
    assert result.images == {"train": 61, "val": 13, "test": 13}
    parts = {s: json.loads((tmp_path / "out" / f"instances_{s}.json").read_text()) for s in result.images}
    for key in ("images", "annotations"):
        joined = [json.dumps(entry) for part in parts.values() for entry in part[key]]
        assert sorted(joined) == sorted(json.dumps(entry) for entry in content[key])
    for split, part in parts.items():
        assert part["categories"] == content["categories"] and part["licenses"] == [{"id": 1}]
        assert {a["image_id"] for a in part["annotations"]} <= {i["id"] for i in part["images"]}
        total, own = (Counter(a["category_id"] for a in c["annotations"]) for c in (content, part))
        for label, count in total.items():
            assert own[label] / count == pytest.approx({"train": 0.7, "val": 0.15, "test": 0.15}[split], abs=0.05)


def test_folders_by_class_are_cut_with_their_images(tmp_path: Path) -> None:
    made = make_synthetic_classification(tmp_path / "made", train=30, val=1, size=(32, 32))
    split_dataset(find_source(made.train), {"train": 0.8, "val": 0.2}, tmp_path / "out", image_files="link")
    parts = {split: load_image_folder(tmp_path / "out" / split) for split in ("train", "val")}
    assert {split: len(records) for split, records in parts.items()} == {"train": 24, "val": 6}
    assert {r["class_id"] for r in parts["val"]} == {0, 1, 2}
    names = [r["image_id"] for records in parts.values() for r in records]
    assert sorted(names) == sorted(r["image_id"] for r in load_image_folder(made.train))


def test_label_maps_are_cut_with_their_images(tmp_path: Path) -> None:
    make_synthetic_segmentation(tmp_path / "made", train=10, val=1, size=(32, 32))
    split_dataset(find_source(tmp_path / "made"), {"train": 0.5, "val": 0.5}, tmp_path / "out")
    for split in ("train", "val"):
        assert len(load_sem_seg(tmp_path / "out" / "labels" / split, tmp_path / "out" / "images" / split)) == 5
    assert (tmp_path / "out" / "classes.txt").read_text().startswith("background\n")


def test_groups_and_fractions_that_do_not_work(bccd: Path, tmp_path: Path) -> None:
    source = find_source(bccd / "instances_val.json")
    for wrong in (
        {"train": 1.0},
        {"train": 0.8, "val": 0.3},
        {"train": 1.2, "val": -0.2},
        {"a": float("nan"), "b": 0.5},
    ):
        with pytest.raises(DatasetError, match="two or more numbers between 0 and 1 that add up to 1, not"):
            split_dataset(source, wrong, tmp_path / "out")
    with pytest.raises(DatasetError, match="87 images in 1 groups leave none for 'val'"):
        split_dataset(source, {"train": 0.8, "val": 0.2}, tmp_path / "out", group_by="^Blood")
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="exists already"):
        split_dataset(source, {"train": 0.8, "val": 0.2}, tmp_path / "out")


def test_a_panoptic_file_is_cut_with_everything_in_it(tmp_path: Path) -> None:
    made = make_synthetic_panoptic(tmp_path / "made", train=6, val=1, size=(32, 32))
    content = json.loads(Path(made.train_json).read_text())
    content["info"] = {"year": 2031}
    for entry in (*content["images"], *content["annotations"], *content["categories"]):
        entry["own"] = [1]
    Path(made.train_json).write_text(json.dumps(content))
    split_dataset(find_source(made.train_json), {"train": 0.5, "val": 0.5}, tmp_path / "out")
    parts = [json.loads((tmp_path / "out" / f"panoptic_{split}.json").read_text()) for split in ("train", "val")]
    for key in ("images", "annotations"):
        joined = [json.dumps(entry, sort_keys=True) for part in parts for entry in part[key]]
        assert sorted(joined) == sorted(json.dumps(entry, sort_keys=True) for entry in content[key])
    assert all(part["categories"] == content["categories"] and part["info"] == content["info"] for part in parts)
