from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.errors import DatasetError, EvaluationError
from drivetrain.evaluation import COCOPanopticEvaluator
from drivetrain.evaluation.panoptic_quality import Segment, match_segments, panoptic_qualities

NAMES = ["cat", "sky", "dog", "road"]  # by contiguous id; things and stuff are counted together
THINGS = {11: 0, 13: 2}
STUFF = {12: 1, 14: 3}
Sample = tuple[str, list[dict[str, Any]], list[dict[str, Any]], list[Any]]


def random_segments(rng: np.random.Generator, size: tuple[int, int], crowds: bool) -> tuple[Any, dict[int, Any]]:
    """A map of ids up to 16 millions, and class and crowd flag of each id; stuff at most once each."""
    ids, segments = np.zeros(size, dtype=np.int32), {}
    for label in (1, 3, *rng.choice([0, 2], 6).tolist()):
        y, x = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
        key = int(rng.integers(1, 1 << 24))
        ids[y : y + rng.integers(5, 25), x : x + rng.integers(5, 25)] = key
        segments[key] = (label, crowds and label in THINGS.values() and rng.random() < 0.2)
    seen = set(np.unique(ids).tolist())
    return ids, {key: segment for key, segment in segments.items() if key in seen}


@pytest.fixture
def panoptic(tmp_path: Path, catalog: None) -> Callable[..., Sample]:
    """Makes a registered dataset with its records, and outputs and true maps for them."""

    def make(seed: int = 0, images: int = 7, *, crowds: bool = True) -> Sample:
        rng = np.random.default_rng(seed)
        records, outputs, truths = [], [], []
        for number in range(images):
            size = (int(rng.integers(30, 50)), int(rng.integers(30, 50)))
            ids, segments = random_segments(rng, size, crowds)
            path = tmp_path / f"{seed}_{number}.png"
            Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)).save(path)
            records.append(
                {
                    "file_name": f"{number}.jpg",
                    "image_id": number,
                    "pan_seg_file_name": str(path),
                    "segments_info": [
                        {"id": key, "category_id": label, "isthing": label in THINGS.values(), "iscrowd": int(crowd)}
                        for key, (label, crowd) in segments.items()
                    ],
                }
            )
            found = np.roll(ids, rng.integers(-3, 4, 2), (0, 1))
            keys = {key: place for place, key in enumerate(np.unique(found).tolist()) if key}
            relabelled = np.vectorize(lambda key, keys=keys: keys.get(key, 0))(found).astype(np.int32)
            info = [
                {"id": place, "category_id": segments[key][0] if rng.random() < 0.85 else int(rng.choice([0, 2]))}
                for key, place in keys.items()
            ]
            for segment in info:
                segment["isthing"] = segment["category_id"] in THINGS.values()
            outputs.append({"panoptic_seg": (torch.from_numpy(relabelled), info)})
            truths.append((ids, {key: Segment(*segment) for key, segment in segments.items()}))
        name = f"panoptic_{seed}"
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(
            thing_classes=NAMES,
            stuff_classes=list(NAMES),
            thing_dataset_id_to_contiguous_id=THINGS,
            stuff_dataset_id_to_contiguous_id=STUFF,
            evaluator_type="coco_panoptic_seg",
        )
        return name, records, outputs, truths

    return make


def run(evaluator: COCOPanopticEvaluator, records: Any, outputs: Any) -> dict[str, float]:
    evaluator.reset()
    for i in range(0, len(records), 2):
        evaluator.process(records[i : i + 2], outputs[i : i + 2])
    return dict(evaluator.evaluate()["panoptic_seg"])


def test_figures_from_the_counts_of_all_images(panoptic: Any, tmp_path: Path) -> None:
    name, records, outputs, truths = panoptic()
    evaluator = COCOPanopticEvaluator(name, tmp_path / "out")
    figures = run(evaluator, records, outputs)
    sums = np.zeros((4, 4))
    for (ids, segments), output in zip(truths, outputs, strict=True):
        found, info = output["panoptic_seg"]
        predicted = {segment["id"]: Segment(segment["category_id"]) for segment in info}
        sums += match_segments(ids, segments, found.numpy(), predicted, 4)
    qualities = panoptic_qualities(sums)
    for column, quality in enumerate(("PQ", "SQ", "RQ")):
        assert figures[quality] == pytest.approx(qualities[:, column].mean(), abs=1e-9)
        assert figures[f"{quality}_th"] == pytest.approx(qualities[[0, 2], column].mean(), abs=1e-9)
        assert figures[f"{quality}_st"] == pytest.approx(qualities[[1, 3], column].mean(), abs=1e-9)
    assert [figures[f"PQ-{label}"] for label in NAMES] == pytest.approx(qualities[:, 0].tolist())
    assert 10 < figures["PQ"] < 90
    rows = {row["name"]: row for row in evaluator.tables["panoptic_seg"].rows()}
    assert list(rows) == ["cat", "dog", "sky", "road", "all"]  # things first
    assert rows["dog"]["SQ"] == pytest.approx(qualities[2, 1]) and rows["all"]["PQ"] == figures["PQ"]
    plain = sum(not segment.is_crowd for _, segments in truths for segment in segments.values())
    assert rows["all"]["segments"] == plain
    written = json.loads((tmp_path / "out" / "panoptic_evaluation.json").read_text())
    assert written["figures"] == figures and len(written["classes"]) == 4


@pytest.mark.slow  # the import takes 8 s
def test_equals_torchmetrics(panoptic: Any) -> None:
    """Without crowds, which it does not know, and without void in the prediction, which it takes out."""
    from torchmetrics.detection import PanopticQuality

    name, records, outputs, truths = panoptic(1, images=20, crowds=False)
    for output in outputs:
        found, info = output["panoptic_seg"]
        found[found == 0] = 99
        info.append({"id": 99, "category_id": 0})
    figures = run(COCOPanopticEvaluator(name), records, outputs)
    metric = PanopticQuality({0, 2}, {1, 3}, allow_unknown_preds_category=True, return_sq_and_rq=True)
    each = PanopticQuality({0, 2}, {1, 3}, allow_unknown_preds_category=True, return_per_class=True)
    void = metric.void_color
    for (ids, segments), output in zip(truths, outputs, strict=True):
        found, info = output["panoptic_seg"]
        true, predicted = torch.tensor(void).repeat(1, *ids.shape, 1), torch.tensor(void).repeat(1, *ids.shape, 1)
        for key, segment in segments.items():
            true[0, torch.from_numpy(ids == key)] = torch.tensor([segment.label, key])
        for segment in info:
            predicted[0, found == segment["id"]] = torch.tensor([segment["category_id"], segment["id"]])
        metric.update(predicted, true)
        each.update(predicted, true)
    expected = (metric.compute() * 100).tolist()
    assert [figures[quality] for quality in ("PQ", "SQ", "RQ")] == pytest.approx(expected, abs=1e-4)
    by_class = (each.compute() * 100).flatten().tolist()  # things first, then stuff
    assert [figures[f"PQ-{NAMES[i]}"] for i in (0, 2, 1, 3)] == pytest.approx(by_class, abs=1e-4)


def test_images_count_once_and_maps_are_found_by_id(panoptic: Any) -> None:
    name, records, outputs, _ = panoptic(2)
    expected = run(COCOPanopticEvaluator(name), records, outputs)
    inputs = [{"image_id": record["image_id"]} for record in records]
    got = run(COCOPanopticEvaluator(name, memory_limit=0), [*inputs, *inputs[:3]], [*outputs, *outputs[:3]])
    assert json.dumps(got) == json.dumps(expected)


def test_a_perfect_answer_and_an_empty_one(panoptic: Any) -> None:
    name, records, _, truths = panoptic(3)
    perfect = [
        {"panoptic_seg": (torch.from_numpy(ids), [{"id": k, "category_id": s.label} for k, s in segments.items()])}
        for ids, segments in truths
    ]
    figures = run(COCOPanopticEvaluator(name), records, perfect)
    assert all(value == pytest.approx(100) for value in figures.values())
    empty = [{"panoptic_seg": (torch.full(ids.shape, -1), [])} for ids, _ in truths]
    evaluator = COCOPanopticEvaluator(name)
    assert all(value == 0 for value in run(evaluator, records, empty).values())
    plain = sum(not segment.is_crowd for _, segments in truths for segment in segments.values())
    assert evaluator.tables["panoptic_seg"].rows()[-1]["segments"] == plain
    nothing = COCOPanopticEvaluator(name)
    nothing.reset()
    assert all(math.isnan(value) for value in nothing.evaluate()["panoptic_seg"].values())


def test_check_says_what_is_wrong_beforehand(panoptic: Any, tmp_path: Path) -> None:
    name, records, _, _ = panoptic(4)
    COCOPanopticEvaluator(name).check()
    removed = records[0]["segments_info"].pop()
    with pytest.raises(DatasetError, match=rf"4_0\.png' has pixels of segment {removed['id']}, which is not in its"):
        COCOPanopticEvaluator(name).check()
    records[0]["segments_info"].append({**removed, "category_id": 4})
    with pytest.raises(DatasetError, match=r"has category_id 4, which is none of the 4 classes"):
        COCOPanopticEvaluator(name).check()
    records[0]["segments_info"][-1] = removed
    (tmp_path / "4_6.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"4_6\.png"):
        COCOPanopticEvaluator(name).check()
    del records[1]["segments_info"]
    with pytest.raises(DatasetError, match=r"records\[1\] \(1\.jpg\) has no 'segments_info', which panoptic"):
        COCOPanopticEvaluator(name).check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ids, info: ids, "is a map of segment ids and a list of segments .* but Tensor was returned"),
        (lambda ids, info: (ids, None), "but tuple was returned"),
        (lambda ids, info: (ids.float(), info), "has a map of float32"),
        (lambda ids, info: (ids[1:], info), "the size of the original image"),
        (lambda ids, info: (ids, [*info, {"id": 99}]), "a segment without 'id' and 'category_id'"),
        (
            lambda ids, info: (ids, [*info, {"id": 99, "category_id": 4}]),
            "category_id 4, which is none of the 4 classes",
        ),
        (lambda ids, info: (ids, info[:-1]), "has pixels of segment"),
    ],
)
def test_bad_outputs(panoptic: Any, change: Any, message: str) -> None:
    name, records, outputs, _ = panoptic(5)
    outputs[0]["panoptic_seg"] = change(*outputs[0]["panoptic_seg"])
    with pytest.raises(EvaluationError, match=f"image 0: 'panoptic_seg' .*{message}|image 0: 'panoptic_seg' {message}"):
        run(COCOPanopticEvaluator(name), records, outputs)


def test_images_of_another_dataset(panoptic: Any) -> None:
    name, records, outputs, _ = panoptic(6)
    with pytest.raises(EvaluationError, match="image 70, which is not in the ground truth"):
        run(COCOPanopticEvaluator(name), [{"image_id": 70}], outputs[:1])
    with pytest.raises(EvaluationError, match="image 70, which is not in the ground truth"):  # with segments of its own
        run(COCOPanopticEvaluator(name), [{**records[0], "image_id": 70}], outputs[:1])
