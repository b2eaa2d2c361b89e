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
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score, recall_score

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.errors import DatasetError, EvaluationError
from drivetrain.evaluation import SemSegEvaluator
from drivetrain.evaluation.semantic_segmentation import segmentation_figures

NAMES = ["sky", "road", "tree", "car", "never"]
IGNORED = 255


@pytest.fixture
def maps(tmp_path: Path, catalog: None) -> Callable[..., tuple[str, list[dict[str, Any]], list[Any]]]:
    """Makes a registered dataset, with its records and, per image, the true labels and the scores of the classes."""

    def make(seed: int = 0, images: int = 6, mode: str = "L") -> tuple[str, list[dict[str, Any]], list[Any]]:
        rng = np.random.default_rng(seed)
        records, pixels = [], []
        for number in range(images):
            size = (int(rng.integers(20, 30)), int(rng.integers(20, 30)))
            labels = rng.choice([0, 1, 2, 3, IGNORED], size, p=[0.4, 0.3, 0.15, 0.05, 0.1]).astype(np.uint8)
            scores = rng.normal(size=(5, *size)).astype(np.float32)
            known = labels != IGNORED
            scores[(labels[known], *np.nonzero(known))] += 1.5
            path = tmp_path / f"{seed}_{number}.png"
            picture = Image.fromarray(labels)
            if mode == "P":
                picture = picture.convert("P")
                picture.putdata(labels.ravel().tolist())
            picture.save(path)
            records.append({"file_name": f"{number}.jpg", "image_id": f"{number}", "sem_seg_file_name": str(path)})
            pixels.append((labels, scores))
        name = f"maps_{seed}_{mode}"
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(stuff_classes=NAMES, ignore_label=IGNORED, evaluator_type="sem_seg")
        return name, records, pixels

    return make


def run(evaluator: SemSegEvaluator, records: Any, outputs: Any) -> dict[str, float]:
    evaluator.reset()
    for i in range(0, len(records), 2):
        evaluator.process(records[i : i + 2], [{"sem_seg": torch.as_tensor(o)} for o in outputs[i : i + 2]])
    return dict(evaluator.evaluate()["sem_seg"])


@pytest.mark.parametrize("mode", ["L", "P"])
@pytest.mark.parametrize("as_scores", [True, False])
def test_equals_scikit_learn(maps: Any, mode: str, as_scores: bool, tmp_path: Path) -> None:
    name, records, pixels = maps(mode=mode)
    outputs = [scores if as_scores else scores.argmax(axis=0) for _, scores in pixels]
    evaluator = SemSegEvaluator(name, output_dir=tmp_path / "out")
    figures = run(evaluator, records, outputs)
    true = np.concatenate([labels.ravel() for labels, _ in pixels])
    predicted = np.concatenate([scores.argmax(axis=0).ravel() for _, scores in pixels])[true != IGNORED]
    true = true[true != IGNORED]
    there = [0, 1, 2, 3]  # the labels that a map has
    overlaps = jaccard_score(true, predicted, labels=there, average=None) * 100
    recalls = recall_score(true, predicted, labels=there, average=None) * 100
    assert figures["mIoU"] == pytest.approx(overlaps.mean(), abs=1e-9)
    weighted = jaccard_score(true, predicted, labels=there, average="weighted") * 100
    assert figures["fwIoU"] == pytest.approx(weighted, abs=1e-9)
    assert figures["mACC"] == pytest.approx(recalls.mean(), abs=1e-9)
    assert figures["pACC"] == pytest.approx(accuracy_score(true, predicted) * 100, abs=1e-9)
    for i, label in enumerate(NAMES[:4]):
        assert figures[f"IoU-{label}"] == pytest.approx(overlaps[i], abs=1e-9)
        assert figures[f"ACC-{label}"] == pytest.approx(recalls[i], abs=1e-9)
    assert math.isnan(figures["IoU-never"]) and math.isnan(figures["ACC-never"])  # though it was predicted
    assert 30 < figures["mIoU"] < 90
    written = json.loads((tmp_path / "out" / "sem_seg_evaluation.json").read_text())
    assert written["confusions"] == confusion_matrix(true, predicted, labels=range(5)).tolist()
    assert written["classes"] == NAMES
    rows = evaluator.tables["sem_seg"].rows()
    assert [row["pixels"] for row in rows] == [*np.bincount(true, minlength=5).tolist(), len(true)]
    assert rows[0]["IoU"] == figures["IoU-sky"] and rows[-1]["IoU"] == figures["mIoU"]


def test_images_count_once_and_labels_are_found_by_id(maps: Any) -> None:
    name, records, pixels = maps(1)
    outputs = [scores for _, scores in pixels]
    expected = run(SemSegEvaluator(name), records, outputs)
    inputs = [{"image_id": record["image_id"]} for record in records]  # as of a mapper that drops the label map's name
    got = run(SemSegEvaluator(name, memory_limit=0), [*inputs, *inputs[:2]], [*outputs, *outputs[:2]])
    assert json.dumps(got) == json.dumps(expected)
    tensors = [{"image_id": i, "sem_seg": torch.from_numpy(labels)} for i, (labels, _) in enumerate(pixels)]
    unregistered = SemSegEvaluator("somewhere else", num_classes=5)
    assert list(run(unregistered, tensors, outputs).values()) == pytest.approx(list(expected.values()), nan_ok=True)


def test_the_ignored_label_may_be_a_class(maps: Any) -> None:
    _, _, pixels = maps(2)
    MetadataCatalog.get("from zero").stuff_classes = NAMES
    evaluator = SemSegEvaluator("from zero", ignore_label=0)
    inputs = [
        {"image_id": i, "sem_seg": torch.from_numpy(np.where(labels == 255, 0, labels))}
        for i, (labels, _) in enumerate(pixels)
    ]
    figures = run(evaluator, inputs, [np.full(labels.shape, 1) for labels, _ in pixels])
    assert math.isnan(figures["IoU-sky"]) and figures["ACC-road"] == 100 and figures["IoU-tree"] == 0


def test_figures_of_a_matrix() -> None:
    figures = segmentation_figures(np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]]), ["a", "b", "c"])
    assert figures["IoU-a"] == pytest.approx(600 / 9) and figures["ACC-a"] == 75
    assert figures["fwIoU"] == pytest.approx((8 * 600 / 9 + 4 * 50) / 12) and figures["pACC"] == 75
    nothing = segmentation_figures(np.zeros((2, 2), dtype=np.int64), ["a", "b"])
    assert all(math.isnan(value) for value in nothing.values())


def test_check_says_what_is_wrong_beforehand(maps: Any, tmp_path: Path) -> None:
    name, records, pixels = maps(3)
    SemSegEvaluator(name).check()
    with pytest.raises(DatasetError, match=r"num_classes is 4, but the metadata of dataset .* names 5 stuff_classes"):
        SemSegEvaluator(name, num_classes=4).check()
    with pytest.raises(DatasetError, match="no dataset 'maps_3_M' is registered; did you mean 'maps_3_L'"):
        SemSegEvaluator("maps_3_M").check()
    DatasetCatalog.register("nameless", list)
    with pytest.raises(DatasetError, match="has no 'stuff_classes'"):
        SemSegEvaluator("nameless").check()
    labels = pixels[0][0].copy()
    labels[3, 4] = 7
    Image.fromarray(labels).save(records[-1]["sem_seg_file_name"])
    with pytest.raises(DatasetError, match=r"3_5\.png has the label 7, but there are 5 classes \(0 to 4; 255"):
        SemSegEvaluator(name).check()
    (tmp_path / "3_5.png").unlink()
    with pytest.raises(DatasetError, match=r"3_5\.png"):
        SemSegEvaluator(name).check()
    del records[2]["sem_seg_file_name"]
    with pytest.raises(DatasetError, match=r"record of '2\.jpg' has no 'sem_seg_file_name'"):
        SemSegEvaluator(name).check()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.zeros((5, 3, 3), np.float32), r"image '0': 'sem_seg' has the shape \(5, 3, 3\), but the label map has"),
        ("classes", "scores for 4 classes, but the dataset has 5"),
        ("floats", "holds classes, not torch.float32"),
        ("large", "has the classes 0 to 5, but the dataset has 5"),
        ("nan", "scores that are not finite"),
    ],
)
def test_bad_outputs(maps: Any, output: Any, message: str) -> None:
    name, records, pixels = maps(4)
    size = pixels[0][0].shape
    made = {
        "classes": np.zeros((4, *size), np.float32),
        "floats": np.zeros(size, np.float32),
        "large": np.arange(math.prod(size)).reshape(size) % 6,
        "nan": np.full((5, *size), np.nan, np.float32),
    }
    with pytest.raises(EvaluationError, match=message):
        run(SemSegEvaluator(name), records[:1], [made[output] if isinstance(output, str) else output])


def test_bad_inputs(maps: Any) -> None:
    name, _, _ = maps(5)
    with pytest.raises(EvaluationError, match="against the label map 'sem_seg_file_name'"):
        run(SemSegEvaluator(name), [{"image_id": "none"}], [np.zeros((5, 3, 3))])
    with pytest.raises(EvaluationError, match=r"SemSegEvaluator needs 'image_id' in each input and 'sem_seg' in each"):
        SemSegEvaluator(name).process([{"file_id": 1}], [{"instances": 1}])
    with pytest.raises(DatasetError, match=r"'sem_seg' of 8 has the label -1"):
        run(SemSegEvaluator(name), [{"image_id": 8, "sem_seg": torch.full((2, 2), -1)}], [np.zeros((5, 2, 2))])
