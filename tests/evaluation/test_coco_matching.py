from __future__ import annotations

import contextlib
import gc
import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.evaluation import COCOEvaluator, load_ground_truth
from drivetrain.evaluation.coco_matching import Detections, evaluate_task
from drivetrain.evaluation.coco_results import encode_instances, result_entries
from drivetrain.structures import Boxes, Instances

CATEGORY = np.array([3, 7, 12])  # by contiguous class index


def joined(data: Any) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """The columns of all images of a sample one after the other, and the image of each row."""
    encoded = [encode_instances(o["instances"], 1) for o in data.outputs]
    rows = [r for r in encoded if r]
    columns = {
        name: np.concatenate([r[name] for r in rows]) for name in ("class", "score", "bbox", "size", "keypoints")
    }
    columns["counts"] = Bytes([counts for r in rows for counts in r["counts"]])
    images = np.repeat([i["image_id"] for i in data.inputs], [len(r.get("class", ())) for r in encoded])
    return columns, images


class Bytes(list):  # type: ignore[type-arg]
    """Byte strings looked up by an array of places, as a store's column."""

    def __getitem__(self, rows: Any) -> Any:
        return [list.__getitem__(self, row) for row in rows.tolist()]


def oracle(data: Any, columns: dict[str, Any], images: Any, task: str, counted: Any, wanted: Any = None) -> Any:
    """pycocotools on the rows that count."""
    entries = []
    for row in np.flatnonzero(counted):
        cut = {name: values[np.array([row])] for name, values in columns.items()}
        entries += result_entries(int(images[row]), CATEGORY[cut["class"]].tolist(), cut)
    if task == "segm":
        for entry in entries:
            del entry["bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data.json_file))
        evaluation = COCOeval(truth, truth.loadRes(entries), task)
        if wanted is not None:
            evaluation.params.imgIds = wanted
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("task", ["bbox", "segm", "keypoints"])
def test_class_by_class_is_pycocotools_on_all(sample: Any, task: str) -> None:
    data = sample(20, images=30)
    truth = load_ground_truth(data.name)
    columns, images = joined(data)
    counted = np.arange(len(images)) % 5 != 0
    counted &= columns["class"] != 1  # a class without a prediction
    wanted = sorted(i["image_id"] for i in data.inputs)[:20]
    for image_ids in (None, wanted):
        shown = counted if image_ids is None else counted & np.isin(images, image_ids)
        detections = Detections.by_class(columns, images, shown, 3)
        ours = evaluate_task(truth, detections, task, image_ids=image_ids)
        expected = oracle(data, columns, images, task, counted, image_ids)
        for name in ("precision", "recall", "scores"):
            np.testing.assert_allclose(ours.eval[name], expected.eval[name], atol=1e-12, rtol=0)
        count = 10 if task == "keypoints" else 12
        assert np.abs(ours.stats[:count] - expected.stats[:count]).max() < 1e-12
        assert list(ours.params.catIds) == [3, 7, 12] and ours.params.imgIds == (image_ids or sorted(truth.api.imgs))
        assert list(ours.eval["counts"]) == list(ours.eval["precision"].shape)


def test_a_class_without_ground_truth_has_no_curve(sample: Any) -> None:
    data = sample(21, masks=False, keypoints=False)
    truth = load_ground_truth(data.name)
    annotations = [a for a in truth.api.dataset["annotations"] if a["category_id"] != 7]
    truth.api.dataset["annotations"][:] = annotations
    columns = {"class": np.array([1, 0]), "score": np.array([0.9, 0.8]), "bbox": np.ones((2, 4)) * 9}
    image = truth.api.dataset["images"][0]["id"]
    detections = Detections.by_class(columns, np.array([image, image]), np.ones(2, dtype=bool), 3)
    ours = evaluate_task(truth, detections, "bbox")
    assert (ours.eval["precision"][:, :, 1] == -1).all() and (ours.eval["recall"][:, 1] == -1).all()
    assert (ours.eval["precision"][:, :, 2, 0] == 0).all()  # ground truth, and nothing found


def test_nothing_to_evaluate(sample: Any) -> None:
    data = sample(22, masks=False)
    truth = load_ground_truth(data.name)
    nothing = Detections.by_class({}, np.zeros(0, np.int64), np.zeros(0, bool), 3)
    columns = {"class": np.array([1]), "score": np.array([0.9]), "bbox": np.ones((1, 4))}
    image = truth.api.dataset["images"][0]["id"]
    boxes = Detections.by_class(columns, np.array([image]), np.ones(1, bool), 3)
    for task in ("bbox", "segm", "keypoints"):
        assert evaluate_task(truth, nothing, task) is None
        assert (evaluate_task(truth, boxes, task) is None) == (task != "bbox")


def test_masks_on_images_whose_size_is_not_told(catalog: None) -> None:
    annotation = {"bbox": [5, 5, 25, 25], "category_id": 0, "segmentation": [[5, 5, 25, 5, 25, 25, 5, 25]]}
    records = [{"image_id": 1, "height": 50, "width": 50, "annotations": [annotation]}, {"image_id": 2}]
    DatasetCatalog.register("sizes", lambda: records)
    MetadataCatalog.get("sizes").thing_classes = ["a"]
    bits = torch.zeros(1, 50, 50, dtype=torch.bool)
    bits[:, 5:25, 5:25] = True
    box, label = Boxes([[5.0, 5, 25, 25]]), torch.tensor([0])
    evaluator = COCOEvaluator("sizes")
    for scores, precision in (((0.9, 0.8), 100), ((0.8, 0.9), 50)):  # a false positive after the right one, or before
        found = [
            {
                "instances": Instances(
                    (50, 50), pred_boxes=box, pred_classes=label, pred_masks=bits, scores=torch.tensor([s])
                )
            }
            for s in scores
        ]
        evaluator.reset()
        evaluator.process([{"image_id": 1}, {"image_id": 2}], found)
        assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(precision)


def test_the_size_of_a_mask_is_its_own_and_not_its_boxs(catalog: None) -> None:
    annotation = {
        "bbox": [5, 5, 20, 20],
        "bbox_mode": 1,
        "category_id": 0,
        "segmentation": [[5, 5, 25, 5, 25, 25, 5, 25]],
    }
    large = {"bbox": [80, 80, 100, 100], "bbox_mode": 1, "category_id": 0}
    large["segmentation"] = [[80, 80, 180, 80, 180, 180, 80, 180]]
    DatasetCatalog.register(
        "one", lambda: [{"image_id": 1, "height": 200, "width": 200, "annotations": [annotation, large]}]
    )
    MetadataCatalog.get("one").thing_classes = ["a"]
    bits = torch.zeros(3, 200, 200, dtype=torch.bool)
    bits[0, 5:25, 5:25] = bits[1, 80:180, 80:180] = bits[2, 185:195, 5:15] = True
    boxes = Boxes([[5.0, 5, 25, 25], [80, 80, 180, 180], [5, 30, 105, 195]])  # the last is 100 wide, its mask 10
    found = Instances((200, 200), pred_boxes=boxes, pred_masks=bits, pred_classes=torch.zeros(3, dtype=torch.int64))
    found.scores = torch.tensor([0.8, 0.8, 0.9])
    evaluator = COCOEvaluator("one")
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [{"instances": found}])
    results = evaluator.evaluate()
    assert results["segm"]["APs"] == pytest.approx(50) and results["segm"]["APl"] == pytest.approx(100)
    assert results["bbox"]["APs"] == pytest.approx(100) and results["bbox"]["APl"] == pytest.approx(50)


def test_the_garbage_collector_is_as_before(sample: Any) -> None:
    data = sample(23, masks=False, keypoints=False)
    truth = load_ground_truth(data.name)
    columns = {"class": np.array([1]), "score": np.array([float("nan")]), "bbox": np.ones((1, 4))}
    image = truth.api.dataset["images"][0]["id"]
    detections = Detections.by_class(columns, np.array([image]), np.ones(1, bool), 3)
    with pytest.raises(ValueError, match="NaN"):
        evaluate_task(truth, detections, "bbox")
    assert gc.isenabled()
    gc.disable()
    try:
        with pytest.raises(ValueError, match="NaN"):
            evaluate_task(truth, detections, "bbox")
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_lvis_is_the_librarys_on_all_classes(sample: Any, task: str) -> None:
    data = sample(24, images=40)
    rng = np.random.default_rng(0)
    content = {
        **data.content,
        "categories": [{**c, "frequency": f} for c, f in zip(data.content["categories"], "rcf", strict=True)],
        "images": [
            {
                **image,
                "neg_category_ids": rng.permutation(CATEGORY)[: rng.integers(0, 3)].tolist(),
                "not_exhaustive_category_ids": rng.permutation(CATEGORY)[: rng.integers(0, 2)].tolist(),
            }
            for image in data.content["images"]
        ],
    }
    path = data.json_file.with_name("lvis.json")
    path.write_text(json.dumps(content))
    MetadataCatalog.get("lvis_like").set(json_file=str(path))
    truth = load_ground_truth("lvis_like")
    columns, images = joined(data)
    detections = Detections.by_class(columns, images, np.ones(len(images), bool), 3)
    ours = evaluate_task(truth, detections, task, max_dets=[300], lvis=True)

    whole = load_ground_truth("lvis_like").api
    entries = []
    for row, image in enumerate(images.tolist()):
        cut = {name: values[np.array([row])] for name, values in columns.items()}
        entries += result_entries(image, CATEGORY[cut["class"]].tolist(), cut)
    there = {(a["image_id"], a["category_id"]) for a in content["annotations"]}
    absent = {(i["id"], category) for i in content["images"] for category in i["neg_category_ids"]}
    judged = [e for e in entries if (e["image_id"], e["category_id"]) in there | absent]
    for entry in entries if task == "segm" else ():
        del entry["bbox"]
    # for masks the library fails on those that do not count, so they are left out beforehand
    results = whole.loadRes(judged if task == "segm" else entries)
    expected = COCOeval_faster(whole, results, task, lvis_style=True, print_function=lambda *_: None)
    expected.params.maxDets = [300]
    expected.run()
    np.testing.assert_array_equal(ours.eval["precision"], expected.eval["precision"])
    assert ours.stats_as_dict == expected.stats_as_dict and len(judged) < len(entries)
    plain = evaluate_task(truth, detections, task, max_dets=[300])
    assert plain.stats_as_dict["AP_all"] < ours.stats_as_dict["AP_all"]  # fewer false positives count
