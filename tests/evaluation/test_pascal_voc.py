from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.errors import DatasetError, EvaluationError
from drivetrain.evaluation import PascalVOCDetectionEvaluator
from drivetrain.evaluation.pascal_voc import average_precision
from drivetrain.structures import Boxes, BoxMode, Instances

NAMES = ["cat", "dog", "cow", "unseen"]
THRESHOLDS = np.linspace(0.5, 0.95, 10)


@pytest.fixture
def voc(catalog: None) -> Callable[..., tuple[str, list[dict[str, Any]], list[dict[str, Any]]]]:
    """Makes a registered dataset, with its records and predictions for each."""

    def make(seed: int, year: Any, images: int = 25) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
        rng = np.random.default_rng(seed)
        records = [random_record(rng, number) for number in range(images)]
        name = f"voc_{year}_{seed}"
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(thing_classes=NAMES, evaluator_type="pascal_voc", year=year)
        return name, records, [{"instances": random_predictions(rng, record)} for record in records]

    return make


def random_record(rng: np.random.Generator, number: int) -> dict[str, Any]:
    annotations = []
    for _ in range(int(rng.integers(0, 6))):
        x, y, w, h = rng.integers(0, 60), rng.integers(0, 60), rng.integers(5, 40), rng.integers(5, 40)
        annotations.append(
            {
                "bbox": [float(x), float(y), float(x + w), float(y + h)],
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": int(rng.integers(0, 3)),
                "difficult": int(rng.random() < 0.25),
            }
        )
    return {"file_name": f"{number}.jpg", "image_id": f"2007_{number:06}", "annotations": annotations}


def random_predictions(rng: np.random.Generator, record: dict[str, Any]) -> Instances:
    """Several for most objects, with scores of which many are equal, and some elsewhere."""
    rows = [(a["bbox"], a["category_id"]) for a in record["annotations"] for _ in range(int(rng.integers(0, 4)))]
    rows += [([5.0, 5, 30, 30], int(rng.integers(0, 3))) for _ in range(int(rng.integers(0, 2)))]
    boxes = np.array([box for box, _ in rows]).reshape(-1, 4)
    boxes = (boxes + rng.normal(0, 2, boxes.shape)).astype(np.float32)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    return Instances(
        (100, 100),
        pred_boxes=Boxes(torch.from_numpy(boxes)),
        scores=torch.from_numpy(rng.uniform(0.1, 1, len(rows)).round(1)),
        pred_classes=torch.tensor([label for _, label in rows], dtype=torch.int64),
    )


def run(name: str, records: Any, outputs: Any, **options: Any) -> PascalVOCDetectionEvaluator:
    evaluator = PascalVOCDetectionEvaluator(name, **options)
    evaluator.reset()
    for i in range(0, len(records), 4):
        inputs = [{"image_id": record["image_id"]} for record in records[i : i + 4]]
        evaluator.process(inputs, outputs[i : i + 4])
    return evaluator


def overlap(a: Any, b: Any) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def by_the_rules(records: Any, outputs: Any, label: int, threshold: float, year: int) -> float:
    """The average precision of a class as the development kit describes it, detection by detection."""
    objects = {r["image_id"]: [a for a in r["annotations"] if a["category_id"] == label] for r in records}
    positives = sum(not a["difficult"] for of_image in objects.values() for a in of_image)
    if not positives:
        return math.nan
    detections = []
    for record, output in zip(records, outputs, strict=True):
        of_image = output["instances"]
        for box, score, found in zip(of_image.pred_boxes, of_image.scores, of_image.pred_classes, strict=True):
            if found == label:
                detections.append((float(score), record["image_id"], box.double().tolist()))
    detections.sort(key=lambda d: -d[0])  # stable
    taken: set[tuple[str, int]] = set()
    right, curve = [], []
    for _, image, box in detections:
        overlaps = [overlap(box, a["bbox"]) for a in objects[image]]
        best = max(range(len(overlaps)), key=overlaps.__getitem__) if overlaps else -1
        if best >= 0 and overlaps[best] >= threshold:
            if objects[image][best]["difficult"]:
                continue
            right.append((image, best) not in taken)
            taken.add((image, best))
        else:
            right.append(False)
        curve.append((sum(right) / positives, sum(right) / len(right)))
    if year == 2007:
        points = [max((p for r, p in curve if r >= t / 10), default=0.0) for t in range(11)]
        return sum(points) / 11
    area, before = 0.0, 0.0
    for place, (recall, _) in enumerate(curve):
        area += (recall - before) * max(p for _, p in curve[place:])
        before = recall
    return area


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("year", [2007, 2012, "2007"])
def test_equals_the_rules_written_out(voc: Any, seed: int, year: Any) -> None:
    name, records, outputs = voc(seed, year)
    evaluator = run(name, records, outputs)
    results = evaluator.evaluate()["bbox"]
    expected = np.array(
        [[by_the_rules(records, outputs, c, t, int(year)) * 100 for t in THRESHOLDS] for c in range(len(NAMES))]
    )
    assert list(results)[:3] == ["AP", "AP50", "AP75"]
    assert results["AP"] == pytest.approx(np.nanmean(expected), abs=1e-9)
    assert results["AP50"] == pytest.approx(np.nanmean(expected[:, 0]), abs=1e-9)
    assert results["AP75"] == pytest.approx(np.nanmean(expected[:, 5]), abs=1e-9)
    assert 20 < results["AP"] < results["AP50"] < 100
    for row, label, precisions in zip(evaluator.tables["bbox"].classes, NAMES, expected, strict=True):
        wanted = [precisions.mean(), precisions[0], precisions[5]]
        assert [row.figures[f] for f in ("AP", "AP50", "AP75")] == pytest.approx(wanted, abs=1e-9, nan_ok=True)
        assert results[f"AP-{label}"] == pytest.approx(wanted[0], abs=1e-9, nan_ok=True)
        assert results[f"AP50-{label}"] == pytest.approx(wanted[1], abs=1e-9, nan_ok=True)
    counts = [row["instances"] for row in evaluator.tables["bbox"].rows()]
    assert counts[-1] == sum(counts[:-1]) == sum(not a["difficult"] for r in records for a in r["annotations"])


def test_the_two_measures_differ() -> None:
    recall, precision = np.array([0.25, 0.25, 0.5]), np.array([1.0, 0.5, 2 / 3])
    assert average_precision(recall, precision) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    assert average_precision(recall, precision, eleven_points=True) == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)
    assert (
        average_precision(np.zeros(0), np.zeros(0))
        == average_precision(np.zeros(0), np.zeros(0), eleven_points=True)
        == 0
    )


def test_order_and_share_of_images_do_not_matter(voc: Any) -> None:
    name, records, outputs = voc(2, 2012)
    expected = run(name, records, outputs).evaluate()["bbox"]
    shuffled = np.random.default_rng(0).permutation(len(records))
    again = [*shuffled, *shuffled[:3]]
    got = run(name, [records[i] for i in again], [outputs[i] for i in again], memory_limit=0).evaluate()["bbox"]
    assert got == pytest.approx(expected, nan_ok=True)


def test_a_difficult_object_is_neither_found_nor_missed(catalog: None) -> None:
    objects = [
        {"bbox": [0, 0, 10, 10], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "difficult": 1},
        {"bbox": [20, 20, 10, 10], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0},
    ]
    DatasetCatalog.register("one", lambda: [{"image_id": 1, "annotations": objects}])
    MetadataCatalog.get("one").set(thing_classes=["cat"], year=2012)
    found = Instances(
        (50, 50),
        pred_boxes=Boxes([[0.0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30]]),
        scores=torch.tensor([0.9, 0.8, 0.7]),
        pred_classes=torch.tensor([0, 0, 0]),
    )
    evaluator = run("one", [{"image_id": 1}], [{"instances": found}])
    assert evaluator.evaluate()["bbox"] == {"AP": 100, "AP50": 100, "AP75": 100}  # one class has no class figures
    nothing = run("one", [{"image_id": 1}], [{"instances": Instances((50, 50))}]).evaluate()["bbox"]
    assert nothing == {"AP": 0, "AP50": 0, "AP75": 0}


def test_an_overlap_at_the_threshold_is_enough(catalog: None) -> None:
    objects = [{"bbox": [0, 0, 10, 10], "category_id": 0}]
    DatasetCatalog.register("half", lambda: [{"image_id": 1, "annotations": objects}])
    MetadataCatalog.get("half").set(thing_classes=["cat"], year=2012)
    for height, right in ((5.0, 1), (7.5, 6), (4.99, 0)):  # of the overlaps 0.50, 0.55, ... 0.75 ... 0.95
        box = Boxes([[0.0, 0, 10, height]])
        found = Instances((50, 50), pred_boxes=box, scores=torch.tensor([0.9]), pred_classes=torch.tensor([0]))
        figures = run("half", [{"image_id": 1}], [{"instances": found}]).evaluate()["bbox"]
        assert figures["AP"] == pytest.approx(10 * right)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"annotations": []}, "has no 'image_id'"),
        ({"image_id": 7, "annotations": []}, "image id 7, which another record has too"),
        ({"image_id": 8, "annotations": [{"bbox": [1, 2, 3, 4], "category_id": 4}]}, "category_id 4, but .* 4 classes"),
        ({"image_id": 8, "annotations": [{"category_id": 0}]}, r"records\[1\] .* with the bbox None"),
        ({"image_id": 8, "annotations": [{"bbox": [1, 2, 3], "category_id": 0}]}, r"the bbox \[1, 2, 3\]"),
    ],
)
def test_check_says_what_is_wrong_beforehand(catalog: None, record: Any, message: str) -> None:
    DatasetCatalog.register("bad", lambda: [{"image_id": 7}, record])
    MetadataCatalog.get("bad").thing_classes = NAMES
    with pytest.raises(DatasetError, match=message):
        PascalVOCDetectionEvaluator("bad").check()


def test_bad_predictions(voc: Any) -> None:
    name, _, _ = voc(3, 2012)
    evaluator = PascalVOCDetectionEvaluator(name)
    evaluator.reset()
    wrong = Instances((9, 9), pred_boxes=Boxes([[1.0, 2, 3, 4]]), scores=torch.ones(1), pred_classes=torch.tensor([4]))
    with pytest.raises(EvaluationError, match="class 4 was predicted, but dataset .* has 4 classes"):
        evaluator.process([{"image_id": "2007_000001"}], [{"instances": wrong}])
    with pytest.raises(EvaluationError, match="image 'other', which is not in the ground truth"):
        evaluator.process([{"image_id": "other"}], [{"instances": Instances((9, 9))}])
    with pytest.raises(EvaluationError, match="needs 'image_id' in each input and 'instances' in each output"):
        evaluator.process([{"image": 1}], [{"boxes": 1}])
