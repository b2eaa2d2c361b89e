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


@pytest.fixture
def segments(tmp_path: Path, catalog: None) -> tuple[list[dict[str, Any]], list[Any]]:
    """Records of a registered panoptic dataset, and the class of each pixel, 255 for those without a segment."""
    rng, records, truths = np.random.default_rng(8), [], []
    for number in range(5):
        keys = rng.integers(1, 1 << 24, 6)
        label_of = dict(zip(keys.tolist(), rng.integers(0, 5, 6).tolist(), strict=True))
        ids = rng.choice([0, *keys], (9, 11))
        picture = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        info = [{"id": k, "category_id": c, "isthing": c < 2, "iscrowd": int(c == 1)} for k, c in label_of.items()]
        path = str(tmp_path / f"{number}.png")
        records.append({"file_name": f"{number}.jpg", "image_id": number, "pan_seg_file_name": path})
        records[-1]["segments_info"] = info
        truths.append(np.vectorize(lambda key, known=label_of: known.get(key, IGNORED))(ids))
    DatasetCatalog.register("panoptic", lambda: records)
    MetadataCatalog.get("panoptic").set(stuff_classes=NAMES, thing_classes=NAMES)
    return records, truths


def test_panoptic_maps_tell_the_class_of_each_pixel(segments: Any) -> None:
    records, truths = segments
    SemSegEvaluator("panoptic").check()
    outputs = [np.random.default_rng(1).integers(0, 5, truth.shape) for truth in truths]
    given = [{"image_id": n, "sem_seg": torch.from_numpy(truth)} for n, truth in enumerate(truths)]
    expected = run(SemSegEvaluator("elsewhere", num_classes=5), given, outputs)
    assert 5 < expected["mIoU"] < 30
    for inputs in (records, [{"image_id": torch.tensor(record["image_id"])} for record in records]):
        assert list(run(SemSegEvaluator("panoptic"), inputs, outputs).values()) == list(expected.values())
    perfect = [np.where(truth == IGNORED, 0, truth) for truth in truths]
    assert all(value == 100 for value in run(SemSegEvaluator("panoptic"), records, perfect).values())


def test_panoptic_maps_that_cannot_be_used(segments: Any) -> None:
    records, _ = segments
    maps = {"thing_dataset_id_to_contiguous_id": {7: 0, 8: 1}, "stuff_dataset_id_to_contiguous_id": {0: 1, 9: 2}}
    MetadataCatalog.get("panoptic").set(**maps)
    with pytest.raises(DatasetError, match=r"'panoptic' counts things and stuff apart \(class 1 is one of both\)"):
        SemSegEvaluator("panoptic").check()
    maps["stuff_dataset_id_to_contiguous_id"] = {0: 3, 9: 2}
    MetadataCatalog.remove("panoptic")
    MetadataCatalog.get("panoptic").set(stuff_classes=NAMES, **maps)
    SemSegEvaluator("panoptic").check()
    records[0]["segments_info"][0]["category_id"] = 5
    with pytest.raises(DatasetError, match=r"0\.png has the label 5, but there are 5 classes"):
        SemSegEvaluator("panoptic").check()
    del records[1]["segments_info"]
    with pytest.raises(DatasetError, match=r"record of '1\.jpg' has no 'sem_seg_file_name' \(nor a 'pan_seg"):
        SemSegEvaluator("panoptic").check()


def test_a_label_map_in_the_record(catalog: None) -> None:
    DatasetCatalog.register("memory", lambda: [{"image_id": 3, "sem_seg": torch.tensor([[0, 1, 255]])}])
    MetadataCatalog.get("memory").stuff_classes = ["a", "b"]
    SemSegEvaluator("memory").check()
    assert run(SemSegEvaluator("memory"), [{"image_id": 3}], [np.array([[0, 0, 1]])])["pACC"] == 50


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
    with pytest.raises(EvaluationError, match="image 8: 'sem_seg' is NoneType, and no tensor can be made of it"):
        SemSegEvaluator(name).process([{"image_id": 8, "sem_seg": torch.zeros(2, 2)}], [{"sem_seg": None}])
    with pytest.raises(DatasetError, match=r"'sem_seg' of 8 has the label -1"):
        run(SemSegEvaluator(name), [{"image_id": 8, "sem_seg": torch.full((2, 2), -1)}], [np.zeros((5, 2, 2))])
