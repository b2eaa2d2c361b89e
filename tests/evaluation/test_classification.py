from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score, top_k_accuracy_score

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.errors import DatasetError, EvaluationError
from drivetrain.evaluation import ClassificationEvaluator

NAMES = [f"class {i}" for i in range(8)]


@pytest.fixture
def images(catalog: None) -> tuple[list[dict[str, Any]], np.ndarray[Any, Any]]:
    """The records of a registered dataset, and a score of each class for each; no image is of the last class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 90)
    scores = rng.normal(size=(90, 8)).astype(np.float32)
    scores[np.arange(90), labels] += 1.2
    records = [{"image_id": f"{i}.jpg", "class_id": int(label)} for i, label in enumerate(labels)]
    DatasetCatalog.register("folders", lambda: records)
    MetadataCatalog.get("folders").set(thing_classes=NAMES, evaluator_type="classification")
    return records, scores


def run(evaluator: ClassificationEvaluator, records: Any, scores: Any) -> dict[str, float]:
    evaluator.reset()
    for i in range(0, len(records), 4):
        evaluator.process(records[i : i + 4], [{"classes": torch.as_tensor(s)} for s in scores[i : i + 4]])
    return dict(evaluator.evaluate()["classification"])


def test_equals_scikit_learn(images: Any) -> None:
    records, scores = images
    evaluator = ClassificationEvaluator("folders", topk=(5, 1, 3))
    figures = run(evaluator, records, scores)
    true = np.array([record["class_id"] for record in records])
    assert list(figures)[:3] == ["top1", "top3", "top5"]
    for k in (1, 3, 5):
        expected = top_k_accuracy_score(true, scores, k=k, labels=range(8)) * 100
        assert figures[f"top{k}"] == pytest.approx(expected, abs=1e-9)
    recalls = recall_score(true, scores.argmax(axis=1), labels=range(7), average=None) * 100
    assert [figures[f"top1-{name}"] for name in NAMES[:7]] == pytest.approx(recalls.tolist(), abs=1e-9)
    assert math.isnan(figures["top1-class 7"])
    rows = evaluator.tables["classification"].rows()
    assert list(rows[0]) == ["name", "top1", "top3", "top5", "images"]
    assert [row["images"] for row in rows] == [*np.bincount(true, minlength=8).tolist(), 90]
    of_two = top_k_accuracy_score(true[true == 2], scores[true == 2], k=3, labels=range(8)) * 100
    assert rows[2]["top3"] == pytest.approx(of_two) and rows[-1]["top3"] == figures["top3"]


def test_equal_scores_go_by_index(images: Any) -> None:
    records, scores = images
    figures = run(ClassificationEvaluator("folders", topk=(1, 3)), records, np.zeros_like(scores))
    share = np.bincount([record["class_id"] for record in records], minlength=8) / 90 * 100
    assert figures["top1"] == pytest.approx(share[0]) and figures["top3"] == pytest.approx(share[:3].sum())
    assert figures["top1-class 0"] == 100 and figures["top1-class 1"] == 0


def test_images_count_once(images: Any, caplog: pytest.LogCaptureFixture) -> None:
    records, scores = images
    expected = run(ClassificationEvaluator("folders"), records, scores)
    doubled = [*records, *records[:7]], np.concatenate([scores, -scores[:7]])
    assert json.dumps(run(ClassificationEvaluator("folders", memory_limit=0), *doubled)) == json.dumps(expected)
    assert "7 images of folders came more than once" in caplog.text
    run(ClassificationEvaluator("folders"), records[:60], scores)
    assert "30 of 90 images of folders were not given to the model" in caplog.text


def test_more_places_than_classes_is_all() -> None:
    MetadataCatalog.get("two").classes = ["a", "b"]
    figures = run(ClassificationEvaluator("two"), [{"image_id": 1, "class_id": 1}], [[0.9, 0.1]])
    assert figures == {"top1": 0, "top5": 100, "top1-a": pytest.approx(math.nan, nan_ok=True), "top1-b": 0}
    MetadataCatalog.remove("two")


def test_images_known_by_their_file_name(catalog: None, caplog: pytest.LogCaptureFixture) -> None:
    DatasetCatalog.register("names", lambda: [{"file_name": f"{i}.jpg", "class_id": i % 2} for i in range(3)])
    MetadataCatalog.get("names").thing_classes = ["a", "b"]
    inputs = [{"file_name": "0.jpg", "class_id": torch.tensor(0)}, {"file_name": "2.jpg", "class_id": np.int64(0)}]
    assert run(ClassificationEvaluator("names"), inputs, [[0.9, 0.1], [0.1, 0.9]])["top1"] == 50
    assert "1 of 3 images of names were not given to the model (such as '1.jpg'); the figures are" in caplog.text


@pytest.mark.parametrize("label", [8, -1, None, "2", True])
def test_check_says_what_is_wrong_beforehand(images: Any, label: Any) -> None:
    records, _ = images
    ClassificationEvaluator("folders").check()
    records[3]["class_id"] = label
    with pytest.raises(DatasetError, match=rf"records\[3\] .* has the class_id {label!r}; it is one of the 8 classes"):
        ClassificationEvaluator("folders").check()


def test_bad_values(images: Any) -> None:
    records, scores = images
    with pytest.raises(DatasetError, match="no dataset 'folder' is registered; did you mean 'folders'"):
        ClassificationEvaluator("folder").check()
    DatasetCatalog.register("nameless", list)
    with pytest.raises(DatasetError, match="has no 'thing_classes'"):
        ClassificationEvaluator("nameless").check()
    for topk in (5, None, (), (0,), (1, 2.5), (1, "a"), (True,)):
        with pytest.raises(EvaluationError, match="topk has to be one or more positive integers"):
            ClassificationEvaluator("folders", topk=topk)  # type: ignore[arg-type]
    evaluator = ClassificationEvaluator("folders")
    with pytest.raises(EvaluationError, match=r"image '0\.jpg': 'classes' has the shape \(7,\), but .* has 8 classes"):
        run(evaluator, records, scores[:, :7])
    scores[0, 2] = np.inf
    with pytest.raises(EvaluationError, match="1 of 8 scores are not finite"):
        run(evaluator, records, scores)
    for label in (9, None, 0.7):
        with pytest.raises(
            DatasetError, match=f"dataset 'folders': image 1 has the class_id {label}; it is one of the 8"
        ):
            run(evaluator, [{"image_id": 1, "class_id": label}], scores[1:2])
    with pytest.raises(EvaluationError, match="image 1: 'classes' is NoneType, and no tensor can be made of it"):
        evaluator.process([{"image_id": 1, "class_id": 2}], [{"classes": None}])
    with pytest.raises(EvaluationError, match="needs 'image_id' and 'class_id' in each input and 'classes'"):
        run(evaluator, [{"image_id": 1}], scores[1:2])
