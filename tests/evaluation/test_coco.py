from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.errors import DatasetError, EvaluationError, OutputError
from drivetrain.evaluation import COCOEvaluator
from drivetrain.structures import Boxes, BoxMode, Instances

NAMES = ["square", "round", "star"]  # by contiguous class index


class Recording(COCOEvaluator):
    """Keeps the evaluation objects, as a subclass in the wild would through this method."""

    def _derive_coco_results(self, coco_eval: Any, iou_type: str, class_names: Any = None) -> dict[str, float]:
        self.seen = {**getattr(self, "seen", {}), iou_type: coco_eval}
        return super()._derive_coco_results(coco_eval, iou_type, class_names=class_names)


def run(evaluator: COCOEvaluator, data: Any, batch: int = 4) -> dict[str, Any]:
    evaluator.reset()
    for i in range(0, len(data.inputs), batch):
        evaluator.process(data.inputs[i : i + batch], data.outputs[i : i + batch])
    return evaluator.evaluate()


def oracle(
    data: Any, results_file: Path, task: str, *, category: int | None = None, images: Any = None, most: Any = None
) -> Any:
    """What pycocotools says about the result file that the evaluator wrote."""
    truth = COCO(str(data.json_file))
    results = json.loads(results_file.read_text())
    if task == "segm":
        for result in results:
            del result["bbox"]
    evaluation = COCOeval(truth, truth.loadRes(results), task)
    if category is not None:
        evaluation.params.catIds = [category]
    if images is not None:
        evaluation.params.imgIds = images
    if most is not None:
        evaluation.params.maxDets = most
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_pycocotools(sample: Any, tmp_path: Path, seed: int, capfd: pytest.CaptureFixture[str]) -> None:
    data = sample(seed)
    evaluator = Recording(data.name, output_dir=tmp_path / "out")
    results = run(evaluator, data)
    assert capfd.readouterr().out == ""
    assert list(results) == ["bbox", "keypoints", "segm"]
    for task, figures in results.items():
        expected = oracle(data, tmp_path / "out" / "coco_instances_results.json", task)
        got = evaluator.seen[task]
        count = 10 if task == "keypoints" else 12
        np.testing.assert_allclose(got.stats[:count], expected.stats[:count], atol=1e-9, rtol=0)
        np.testing.assert_allclose(got.eval["precision"], expected.eval["precision"], atol=1e-9, rtol=0)
        names = (
            ["AP", "AP50", "AP75", "APm", "APl"] if task == "keypoints" else ["AP", "AP50", "AP75", "APs", "APm", "APl"]
        )
        assert [*figures] == [*names, *(f"AP-{n}" for n in NAMES)]
        for name, value in zip(names, expected.stats, strict=False):
            assert figures[name] == pytest.approx(value * 100, abs=1e-9)
            assert 0 < figures[name] < 100


def test_each_class_equals_an_evaluation_of_it_alone(sample: Any, tmp_path: Path) -> None:
    data = sample(3)
    evaluator = COCOEvaluator(data.name, ("bbox", "segm"), output_dir=tmp_path)
    results = run(evaluator, data)
    for task in ("bbox", "segm"):
        for row, category, name in zip(evaluator.tables[task].classes, (3, 7, 12), NAMES, strict=True):
            alone = oracle(data, tmp_path / "coco_instances_results.json", task, category=category)
            assert row.name == name
            assert [row.figures[name] for name in ("AP", "AP50", "AP75")] == pytest.approx(
                (alone.stats[:3] * 100).tolist(), abs=1e-9
            )
            assert results[task][f"AP-{name}"] == pytest.approx(alone.stats[0] * 100, abs=1e-9)
            truth = [a for a in data.content["annotations"] if a["category_id"] == category and not a["iscrowd"]]
            assert row.figures["instances"] == len(truth)


def test_contiguous_indices_in_another_order_than_the_ids(sample: Any, tmp_path: Path) -> None:
    data = sample(4, masks=False, keypoints=False)
    usual = run(COCOEvaluator(data.name), data)["bbox"]
    order = {12: 0, 3: 1, 7: 2}
    MetadataCatalog.get("other").set(
        json_file=str(data.json_file),
        thing_classes=["star", "square", "round"],
        thing_dataset_id_to_contiguous_id=order,
    )
    for output in data.outputs:
        classes = output["instances"].pred_classes
        output["instances"].pred_classes = torch.tensor([1, 2, 0])[classes]
    evaluator = COCOEvaluator("other")
    other = run(evaluator, data)["bbox"]
    assert other == usual
    assert [row.name for row in evaluator.tables["bbox"].classes] == ["star", "square", "round"]
    assert evaluator.tables["bbox"].classes[0].figures["AP"] == usual["AP-star"]


def test_limits_and_image_subset_equal_pycocotools(sample: Any, tmp_path: Path) -> None:
    data = sample(5, masks=False, keypoints=False)
    evaluator = Recording(data.name, output_dir=tmp_path, max_dets_per_image=[1, 2, 3])
    run(evaluator, data)
    images = [image["image_id"] for image in data.inputs[:9]]
    evaluator.evaluate(img_ids=images)
    file = tmp_path / "coco_instances_results.json"
    expected = oracle(data, file, "bbox", images=images, most=[1, 2, 3])
    np.testing.assert_allclose(evaluator.seen["bbox"].eval["precision"], expected.eval["precision"], atol=1e-9, rtol=0)
    assert evaluator.tables["bbox"].images == 9
    few = run(COCOEvaluator(data.name, max_dets_per_image=1), data)["bbox"]["AP"]
    assert few < run(COCOEvaluator(data.name), data)["bbox"]["AP"]


def test_images_that_are_asked_for(sample: Any) -> None:
    data = sample(5, masks=False, keypoints=False)
    evaluator = COCOEvaluator(data.name)
    run(evaluator, data)
    images = [image["image_id"] for image in data.inputs[:5]]
    expected = evaluator.evaluate(img_ids=images)
    assert evaluator.evaluate(img_ids=[*images, *np.array(images)]) == expected  # each once
    assert evaluator.tables["bbox"].images == 5
    evaluator.process(data.inputs[:2], data.outputs[:2])  # as when a sampler pads its shares
    assert evaluator.evaluate(img_ids=images) == expected
    with pytest.raises(EvaluationError, match=r"img_ids has 7, which is no image of the ground truth \(.*\.json\)"):
        evaluator.evaluate(img_ids=[*images, 7])
    assert all(math.isnan(value) for value in evaluator.evaluate(img_ids=[])["bbox"].values())


def test_the_result_file_has_the_datasets_ids(sample: Any, tmp_path: Path) -> None:
    data = sample(6)
    run(COCOEvaluator(data.name, output_dir=tmp_path), data)
    results = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert sum(len(output["instances"]) for output in data.outputs) == len(results)
    assert {r["category_id"] for r in results} == {3, 7, 12}
    assert {r["image_id"] for r in results} <= {image["id"] for image in data.content["images"]}
    assert set(results[0]) == {"image_id", "category_id", "bbox", "score", "segmentation", "keypoints"}


def records_of(data: Any) -> list[dict[str, Any]]:
    """The sample as dataset records, string ids and another box notation included."""
    records = {}
    for image in data.content["images"]:
        size = {"height": image["height"], "width": image["width"]}
        record = {"file_name": image["file_name"], "image_id": f"img-{image['id']}", "annotations": [], **size}
        records[image["id"]] = record
    for annotation in data.content["annotations"]:
        x, y, w, h = annotation["bbox"]
        points = [v if i % 3 == 2 else v + 0.5 for i, v in enumerate(annotation["keypoints"])]
        records[annotation["image_id"]]["annotations"].append(
            {
                "bbox": [x, y, x + w, y + h],
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": {3: 0, 7: 1, 12: 2}[annotation["category_id"]],
                "keypoints": points,
                **{key: annotation[key] for key in ("iscrowd", "segmentation", "area", "num_keypoints")},
            }
        )
    return list(records.values())


def test_records_without_a_file_give_the_same_results(sample: Any, catalog: None) -> None:
    data = sample(7)
    expected = run(COCOEvaluator(data.name), data)
    records = records_of(data)
    DatasetCatalog.register("records", lambda: records)
    MetadataCatalog.get("records").thing_classes = NAMES
    data.inputs = [{"image_id": f"img-{image['image_id']}"} for image in data.inputs]
    got = run(COCOEvaluator("records"), data)
    assert got.keys() == expected.keys()
    for task in expected:
        assert got[task] == pytest.approx(expected[task], abs=1e-9)


def test_nothing_predicted_gives_the_same_names_with_nan(sample: Any) -> None:
    data = sample(8)
    full = run(COCOEvaluator(data.name), data)
    data.outputs = [{"instances": Instances((200, 260))} for _ in data.outputs]
    evaluator = COCOEvaluator(data.name)
    empty = run(evaluator, data)
    assert {task: list(figures) for task, figures in empty.items()} == {t: list(f) for t, f in full.items()}
    assert all(math.isnan(value) for figures in empty.values() for value in figures.values())
    assert sum(row.figures["instances"] for row in evaluator.tables["segm"].classes) > 0


def test_tasks_follow_predictions_and_ground_truth(sample: Any, caplog: pytest.LogCaptureFixture) -> None:
    data = sample(9, masks=False)
    for output in data.outputs:
        output["instances"].pred_masks = torch.zeros((len(output["instances"]), 200, 260), dtype=torch.bool)
    assert list(run(COCOEvaluator(data.name), data)) == ["bbox", "keypoints"]
    assert "no ground truth for segm" in caplog.text
    for output in data.outputs:
        output["instances"].remove("pred_keypoints")
    assert list(run(COCOEvaluator(data.name), data)) == ["bbox"]
    with pytest.raises(
        EvaluationError, match=r"task 'keypoints' was asked for, but the model predicts no keypoints \(pr"
    ):
        run(COCOEvaluator(data.name, "keypoints"), data)
    assert list(run(COCOEvaluator(data.name, "bbox"), data)) == ["bbox"]


def test_a_config_in_the_place_of_tasks(sample: Any, tmp_path: Path) -> None:
    data = sample(10, masks=False, keypoints=False)

    class Node(dict):  # type: ignore[type-arg]
        """A config as code in the wild passes it: a dict with attributes."""

        __getattr__ = dict.__getitem__

    cfg = Node(TEST=Node(KEYPOINT_OKS_SIGMAS=[0.1, 0.2]), SOLVER=Node())
    evaluator = COCOEvaluator(data.name, cfg, False, str(tmp_path))
    assert run(evaluator, data) == run(COCOEvaluator(data.name), data)
    assert evaluator._kpt_oks_sigmas == (0.1, 0.2)
    assert (tmp_path / "coco_instances_results.json").exists()
    with pytest.raises(EvaluationError, match="unknown task 'bbbox'; did you mean 'bbox'"):
        COCOEvaluator(data.name, ("bbbox",))


def test_one_class_has_no_class_figures(catalog: None) -> None:
    record = {
        "image_id": 1,
        "height": 50,
        "width": 50,
        "annotations": [{"bbox": [5, 5, 25, 25], "bbox_mode": 0, "category_id": 0}],
    }
    DatasetCatalog.register("one", lambda: [record])
    MetadataCatalog.get("one").thing_classes = ["thing"]
    evaluator = COCOEvaluator("one")
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [{"instances": instances([[5, 5, 25, 25]])}])
    results = evaluator.evaluate()["bbox"]
    assert results["AP"] == pytest.approx(100)
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [{"instances": instances([[30, 30, 45, 45]])}])
    assert evaluator.evaluate()["bbox"]["AP"] == 0  # measured, and nothing was right
    assert list(results) == ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert math.isnan(results["APl"])  # no large object
    assert [row.name for row in evaluator.tables["bbox"].classes] == ["thing"]


def instances(boxes: list[list[float]], classes: list[int] | None = None, **fields: Any) -> Instances:
    scores = torch.linspace(0.9, 0.5, len(boxes))
    labels = torch.tensor(classes if classes is not None else [0] * len(boxes))
    return Instances((50, 50), pred_boxes=Boxes(torch.tensor(boxes)), scores=scores, pred_classes=labels, **fields)


@pytest.fixture
def square(catalog: None) -> str:
    """One image with one object of class 0 of two, with 3 keypoints."""
    annotation = {"bbox": [5, 5, 25, 25], "bbox_mode": 0, "category_id": 0, "keypoints": [8, 8, 2] * 3}
    DatasetCatalog.register("square", lambda: [{"image_id": 1, "height": 50, "width": 50, "annotations": [annotation]}])
    MetadataCatalog.get("square").thing_classes = ["a", "b"]
    return "square"


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([{"image_id": 1}], [], "0 outputs for 1 images"),
        ([{"id": 1}], [{"instances": instances([])}], "'image_id' in each input"),
        ([{"image_id": 1}], [{"boxes": 1}], "the output boxes"),
        ([{"image_id": 2}], [{"instances": instances([])}], "image 2, which is not in the ground truth"),
        ([{"image_id": "1"}], [{"instances": instances([])}], "image '1', which is not in the ground truth"),
        (
            [{"image_id": 1}],
            [{"instances": instances([[1, 2, 3, float("nan")]])}],
            "1 of 1 predicted boxes are not finite",
        ),
        ([{"image_id": 1}], [{"instances": instances([[1, 2, 3, 4]], [2])}], "class 2 was predicted.*2 classes"),
        ([{"image_id": 1}], [{"instances": instances([[1, 2, 3, 4]], [-1])}], "class -1 was predicted"),
        (
            [{"image_id": 1}],
            [{"instances": instances([[1.0, 2, 3, 4]], pred_keypoints=torch.ones(1, 4, 3))}],
            "predicts 4 keypoints.*has 3",
        ),
        (
            [{"image_id": 1}],
            [{"instances": instances([[1.0, 2, 3, 4]], pred_keypoints=torch.ones(1, 3, 3))}],
            "give kpt_oks_sigmas",
        ),
    ],
)
def test_bad_predictions(square: str, inputs: Any, outputs: Any, message: str) -> None:
    evaluator = COCOEvaluator(square)
    evaluator.reset()
    with pytest.raises(EvaluationError, match=message):
        evaluator.process(inputs, outputs)


def test_own_keypoint_sigmas(square: str) -> None:
    evaluator = COCOEvaluator(square, kpt_oks_sigmas=[0.05] * 3)
    evaluator.reset()
    points = torch.tensor([[[8.0, 8.0, 1.0]] * 3])
    evaluator.process([{"image_id": 1}], [{"instances": instances([[5, 5, 25, 25]], pred_keypoints=points)}])
    assert evaluator.evaluate()["keypoints"]["AP"] == pytest.approx(100)
    evaluator.reset()
    # OKS by its definition: exp(-d^2 / (2 area k^2)), k twice the sigma; area is that of the box, 20 x 20
    wanted = 0.62
    distance = math.sqrt(-math.log(wanted) * 2 * 400 * 0.1**2)
    points[..., 0] += distance
    evaluator.process([{"image_id": 1}], [{"instances": instances([[5, 5, 25, 25]], pred_keypoints=points)}])
    assert evaluator.evaluate()["keypoints"]["AP"] == pytest.approx(30)  # thresholds 0.50, 0.55, 0.60 of ten


def test_check_says_what_is_wrong_beforehand(square: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no dataset 'squar' is registered; did you mean 'square'"):
        COCOEvaluator("squar").check()
    with pytest.raises(EvaluationError, match="no ground truth for 'segm'"):
        COCOEvaluator(square, ("segm",)).check()
    with pytest.raises(EvaluationError, match="3 keypoints, but there are 17 OKS sigmas"):
        COCOEvaluator(square, ("keypoints",)).check()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        COCOEvaluator(square, output_dir=tmp_path / "file" / "out").check()
    for bad in (0, [], [1, "2"], True, "100", 5.0):
        with pytest.raises(EvaluationError, match="max_dets_per_image"):
            COCOEvaluator(square, max_dets_per_image=bad)  # type: ignore[arg-type]


def test_limits_and_tasks_in_other_types(square: str) -> None:
    assert COCOEvaluator(square, max_dets_per_image=np.int64(5))._max_dets_per_image == [1, 5]  # type: ignore[arg-type]
    assert COCOEvaluator(square, max_dets_per_image=(30, 20))._max_dets_per_image == [20, 30]
    assert COCOEvaluator(square, {"bbox"})._tasks == ("bbox",)  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="unknown task 5"):
        COCOEvaluator(square, 5)  # type: ignore[arg-type]


def test_repeated_and_missing_images_are_noticed(sample: Any, caplog: pytest.LogCaptureFixture) -> None:
    data = sample(11, masks=False, keypoints=False)
    evaluator = COCOEvaluator(data.name)
    run(evaluator, data)["bbox"].clear()  # what was returned belongs to the caller
    expected = run(evaluator, data)
    assert "more than once" not in caplog.text and "not given" not in caplog.text
    data.inputs, data.outputs = data.inputs + data.inputs[:2], data.outputs + data.outputs[:2]
    assert run(COCOEvaluator(data.name), data) == expected
    assert f"2 images of {data.name} came more than once" in caplog.text
    data.inputs, data.outputs = data.inputs[:10], data.outputs[:10]
    partial = run(COCOEvaluator(data.name), data)
    assert partial["bbox"]["AP"] < expected["bbox"]["AP"]
    assert f"14 of 24 images of {data.name} were not given to the model" in caplog.text


def test_a_file_without_answers_is_only_predicted_on(sample: Any, tmp_path: Path) -> None:
    data = sample(13, masks=False, keypoints=False)
    content = json.loads(data.json_file.read_text())
    del content["annotations"]
    data.json_file.write_text(json.dumps(content))
    assert run(COCOEvaluator(data.name, ("bbox",), output_dir=tmp_path), data) == {}
    assert json.loads((tmp_path / "coco_instances_results.json").read_text())


def test_no_ground_truth_boxes_give_nan(catalog: None) -> None:
    DatasetCatalog.register("bare", lambda: [{"image_id": 1, "height": 50, "width": 50, "annotations": []}])
    MetadataCatalog.get("bare").thing_classes = ["a", "b"]
    evaluator = COCOEvaluator("bare")
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [{"instances": instances([[5, 5, 25, 25]])}])
    assert all(math.isnan(value) for value in evaluator.evaluate()["bbox"].values())


def test_predictions_on_disk_give_the_same_bits(sample: Any, tmp_path: Path) -> None:
    data = sample(16)
    folders = [tmp_path / "memory", tmp_path / "disk"]
    evaluators = [
        COCOEvaluator(data.name, output_dir=f, memory_limit=m) for f, m in zip(folders, (1 << 30, 0), strict=True)
    ]
    expected, got = (run(evaluator, data) for evaluator in evaluators)
    assert json.dumps(got) == json.dumps(expected)
    texts = [(folder / "coco_instances_results.json").read_bytes() for folder in folders]
    assert texts[0] == texts[1] and len(texts[0]) > 10000
    assert [p.name for p in folders[1].iterdir()] == ["coco_instances_results.json"]


def test_masks_of_another_size_and_fields_that_come_and_go(sample: Any) -> None:
    data = sample(18, keypoints=False)
    some = next(o["instances"] for o in data.outputs if len(o["instances"]))
    some.pred_masks = some.pred_masks[:, :100]
    with pytest.raises(EvaluationError, match=r"a mask of \[100, 260\] pixels .* the image has \[200, 260\]"):
        run(COCOEvaluator(data.name), data)
    data = sample(19, keypoints=False)
    [o["instances"] for o in data.outputs if len(o["instances"])][-1].remove("pred_masks")
    with pytest.raises(EvaluationError, match=r"there are class, score, bbox, but the images before had .*counts"):
        run(COCOEvaluator(data.name), data)
