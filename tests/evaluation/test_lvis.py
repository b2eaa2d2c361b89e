from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.data.catalog import MetadataCatalog
from drivetrain.errors import DatasetError, EvaluationError
from drivetrain.evaluation import LVISEvaluator
from drivetrain.structures import Boxes, Instances

BOX = [10.0, 10.0, 60.0, 60.0]


@pytest.fixture
def lvis(tmp_path: Path, catalog: None) -> str:
    """Two images, three classes: rare 1 on image 1, common 2 on both, frequent 3 nowhere."""
    box = [10, 10, 50, 50]
    content = {
        "images": [
            {"id": 1, "height": 99, "width": 99, "neg_category_ids": [3], "not_exhaustive_category_ids": []},
            {"id": 2, "height": 99, "width": 99, "neg_category_ids": [], "not_exhaustive_category_ids": [2]},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 2500},
            {"id": 2, "image_id": 1, "category_id": 2, "bbox": box, "area": 2500},
            {"id": 3, "image_id": 2, "category_id": 2, "bbox": box, "area": 2500},
        ],
        "categories": [{"id": i, "name": f"class {i}", "frequency": f} for i, f in zip((1, 2, 3), "rcf", strict=True)],
    }
    (tmp_path / "lvis.json").write_text(json.dumps(content))
    MetadataCatalog.get("lvis").set(json_file=str(tmp_path / "lvis.json"), evaluator_type="lvis")
    return "lvis"


def instances(*found: tuple[list[float], int, float]) -> dict[str, Any]:
    boxes, classes, scores = zip(*found, strict=True) if found else ((), (), ())
    fields = {"pred_boxes": Boxes(torch.tensor(boxes)), "pred_classes": torch.tensor(classes, dtype=torch.int64)}
    return {"instances": Instances((99, 99), scores=torch.tensor(scores), **fields)}


def run(evaluator: LVISEvaluator, *outputs: dict[str, Any]) -> dict[str, float]:
    evaluator.reset()
    evaluator.process([{"image_id": i} for i in range(1, len(outputs) + 1)], outputs)
    return dict(evaluator.evaluate()["bbox"])


def test_figures_of_rare_common_and_frequent_classes(lvis: str) -> None:
    right = run(
        LVISEvaluator(lvis), instances((BOX, 0, 0.9), (BOX, 1, 0.9)), instances(([0, 0, 9, 9], 1, 0.95), (BOX, 1, 0.8))
    )
    # not all objects of class 2 are marked on image 2: the box that matches none is ignored
    assert right["AP"] == pytest.approx(100) and right["APr"] == pytest.approx(100)
    assert right["APc"] == pytest.approx(100) and math.isnan(right["APf"])
    assert list(right) == [
        *("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"),
        *("AP-class 1", "AP-class 2", "AP-class 3"),
    ]
    wrong = run(LVISEvaluator(lvis), instances(([0, 0, 9, 9], 1, 0.95), (BOX, 1, 0.9), (BOX, 0, 0.9)), instances())
    assert wrong["APc"] == pytest.approx(100 * 51 / 101 / 2)  # one of two found, after a false one; 101 points


def test_classes_that_were_not_looked_for_do_not_count(lvis: str) -> None:
    found = run(LVISEvaluator(lvis), instances((BOX, 0, 0.9)), instances((BOX, 0, 0.99)))
    assert found["APr"] == pytest.approx(100)  # class 1 is neither on image 2 nor known not to be
    none = run(LVISEvaluator(lvis), instances(), instances())
    assert all(math.isnan(value) for value in none.values())


def test_only_the_best_of_an_image_count(lvis: str) -> None:
    many = instances((BOX, 0, 0.3), (BOX, 1, 0.9), ([0, 0, 9, 9], 1, 0.8))
    all_of_them = run(LVISEvaluator(lvis), many, instances())
    two = run(LVISEvaluator(lvis, max_dets_per_image=2), many, instances())
    assert all_of_them["APr"] == pytest.approx(100) and two["APr"] == 0
    assert two["APc"] == all_of_them["APc"] > 0


FREQUENCY = {5: "r", 2: "c", 9: "f", 4: "f"}  # of each category; the last has no object
Found = dict[int, list[tuple[list[float], int, float]]]


def random_lvis(rng: np.random.Generator) -> tuple[dict[str, Any], Found]:
    """An annotation file, and for each image the box (XYWH), category and score of what was found."""
    categories, images, annotations, found = list(FREQUENCY), [], [], {}
    for image_id in rng.permutation(12).tolist():
        found[image_id] = []
        here = rng.choice(categories[:3], rng.integers(0, 5)).tolist()
        for category in here:
            box = [*rng.integers(0, 60, 2).tolist(), *rng.integers(10, 40, 2).tolist()]
            ids = {"id": len(annotations) + 1, "image_id": image_id, "category_id": category}
            annotations.append({**ids, "bbox": box, "area": box[2] * box[3]})
            for _ in range(int(rng.integers(0, 3))):
                near = [float(side) for side in (np.array(box) + rng.integers(-4, 5, 4)).clip(min=[-9, -9, 5, 5])]
                label = category if rng.random() < 0.8 else int(rng.choice(categories))
                found[image_id].append((near, label, round(float(rng.random()), 1)))
        absent = [c for c in categories if c not in here and rng.random() < 0.3]
        partly = [c for c in categories if rng.random() < 0.25]
        marks = {"neg_category_ids": absent, "not_exhaustive_category_ids": partly}
        images.append({"id": image_id, "height": 100, "width": 100, **marks})
    categories_ = [{"id": c, "name": f"c{c}", "frequency": f} for c, f in FREQUENCY.items()]
    return {"images": images, "annotations": annotations, "categories": categories_}, found


def overlap(a: list[float], b: list[float]) -> float:
    wide, high = (min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    shared = max(wide, 0) * max(high, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def judged(image: Any, objects: list[Any], found: Any, category: int, threshold: float) -> list[tuple[float, bool]]:
    """Score, and whether it is right, of the detections of a category on an image that count."""
    if not objects and category not in image["neg_category_ids"]:
        return []
    taken: set[int] = set()
    result = []
    for box, _, score in sorted((f for f in found if f[1] == category), key=lambda f: -f[2]):
        free = [(overlap(box, a["bbox"]), place) for place, a in enumerate(objects) if place not in taken]
        best, place = max(free, default=(0.0, -1))  # of equal ones the last
        if best >= threshold:
            taken.add(place)
            result.append((score, True))
        elif category not in image["not_exhaustive_category_ids"]:
            result.append((score, False))
    return result


def by_the_rules(content: dict[str, Any], found: Found, most: int) -> dict[int, float]:
    """The average precision of each category in percent, NaN without objects."""
    images = sorted(content["images"], key=lambda image: image["id"])
    kept = {i: sorted(f, key=lambda d: -d[2])[:most] for i, f in found.items()}
    result = {}
    for category in FREQUENCY:
        of_class = [a for a in content["annotations"] if a["category_id"] == category]
        precisions = []
        for threshold in np.linspace(0.5, 0.95, 10) if of_class else ():
            flags = [
                flag
                for image in images
                for flag in judged(
                    image, [a for a in of_class if a["image_id"] == image["id"]], kept[image["id"]], category, threshold
                )
            ]
            flags.sort(key=lambda flag: -flag[0])
            right = np.cumsum([flag for _, flag in flags])
            recall, precision = right / len(of_class), right / np.arange(1, len(right) + 1)
            points = [precision[recall >= at].max(initial=0) for at in np.linspace(0, 1, 101)]
            precisions.append(np.mean(points) * 100)
        result[category] = float(np.mean(precisions)) if precisions else math.nan
    return result


@pytest.mark.parametrize("most", [300, 3])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_rules_written_out(tmp_path: Path, catalog: None, seed: int, most: int) -> None:
    content, found = random_lvis(np.random.default_rng(seed))
    (tmp_path / "lvis.json").write_text(json.dumps(content))
    MetadataCatalog.get("random").set(json_file=str(tmp_path / "lvis.json"))
    evaluator = LVISEvaluator("random", "bbox", max_dets_per_image=most)
    evaluator.reset()
    label = {category: place for place, category in enumerate(sorted(FREQUENCY))}
    for image_id, rows in found.items():
        boxes = [([x, y, x + w, y + h], label[c], s) for (x, y, w, h), c, s in rows]
        evaluator.process([{"image_id": image_id}], [instances(*boxes)])
    got, expected = evaluator.evaluate()["bbox"], by_the_rules(content, found, most)
    assert [got[f"AP-c{c}"] for c in FREQUENCY] == pytest.approx(list(expected.values()), abs=1e-5, nan_ok=True)
    for name, kinds in (("AP", "rcf"), ("APr", "r"), ("APc", "c"), ("APf", "f")):
        values = [expected[c] for c, f in FREQUENCY.items() if f in kinds]
        assert got[name] == pytest.approx(np.nanmean(values), abs=1e-5)
    assert 10 < got["AP"] < 90


def test_other_files_and_tasks(lvis: str, sample: Any) -> None:
    with pytest.raises(DatasetError, match=r"is no LVIS file: its categories have no 'frequency'"):
        LVISEvaluator(sample(0).name).check()
    with pytest.raises(EvaluationError, match="LVIS has no keypoints"):
        LVISEvaluator(lvis, "keypoints")
    with pytest.raises(EvaluationError, match="max_dets_per_image"):
        LVISEvaluator(lvis, max_dets_per_image=0)
