from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

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


def test_other_files_and_tasks(lvis: str, sample: Any) -> None:
    with pytest.raises(DatasetError, match=r"is no LVIS file: its categories have no 'frequency'"):
        LVISEvaluator(sample(0).name).check()
    with pytest.raises(EvaluationError, match="LVIS has no keypoints"):
        LVISEvaluator(lvis, "keypoints")
    with pytest.raises(EvaluationError, match="max_dets_per_image"):
        LVISEvaluator(lvis, max_dets_per_image=0)
