from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_api

from drivetrain.errors import EvaluationError, OutputError
from drivetrain.evaluation import instances_to_coco_json
from drivetrain.evaluation.coco_results import evaluate_task, write_results
from drivetrain.structures import BitMasks, Boxes, Instances, Keypoints


def predictions(count: int = 2, **fields: Any) -> Instances:
    boxes = Boxes(torch.tensor([[1.1, 2, 3.3, 5], [0, 0, 6, 7]])[:count])
    scores, labels = torch.tensor([0.9, 0.25])[:count], torch.tensor([4, 0])[:count]
    return Instances((6, 7), pred_boxes=boxes, scores=scores, pred_classes=labels, **fields)


def test_entries() -> None:
    entries = instances_to_coco_json(predictions(), "img")
    assert [set(e) for e in entries] == [{"image_id", "category_id", "bbox", "score"}] * 2
    assert entries[1] == {"image_id": "img", "category_id": 0, "bbox": [0, 0, 6, 7], "score": 0.25}
    assert entries[0]["bbox"] == pytest.approx([1.1, 2, 2.2, 3], abs=1e-6)
    assert entries[0]["bbox"][0] + entries[0]["bbox"][2] == float(np.float32(3.3))  # the edge is kept exactly
    json.dumps(entries)


def test_the_instances_are_not_changed() -> None:
    instances = predictions(pred_keypoints=torch.ones(2, 3, 3))
    instances_to_coco_json(instances, 1)
    assert instances.pred_boxes.tensor[1].tolist() == [0, 0, 6, 7]
    assert instances.pred_keypoints.eq(1).all()


@pytest.mark.parametrize("wrap", [lambda m: m, BitMasks, lambda m: m.float()])
def test_masks_are_the_run_lengths_of_pycocotools(wrap: Any) -> None:
    bits = torch.rand(2, 6, 7, generator=torch.Generator().manual_seed(0)) > 0.5
    entries = instances_to_coco_json(predictions(pred_masks=wrap(bits)), 1)
    for entry, bit in zip(entries, bits, strict=True):
        expected = mask_api.encode(np.asfortranarray(bit.numpy().astype(np.uint8)))
        assert entry["segmentation"] == {"size": [6, 7], "counts": expected["counts"].decode()}


@pytest.mark.parametrize("wrap", [lambda k: k, Keypoints])
def test_keypoints_become_pixel_indices(wrap: Any) -> None:
    points = torch.tensor([[[10.5, 20.5, 0.7], [0.5, 1.5, 0.2]]]).repeat(2, 1, 1)
    entry = instances_to_coco_json(predictions(pred_keypoints=wrap(points)), 1)[0]
    assert entry["keypoints"] == pytest.approx([10, 20, 0.7, 0, 1, 0.2])


def test_no_instances() -> None:
    assert instances_to_coco_json(Instances((4, 4)), 1) == []
    assert instances_to_coco_json(predictions(0, pred_masks=torch.zeros(0, 6, 7)), 1) == []


@pytest.mark.parametrize("field", ["pred_boxes", "scores", "pred_keypoints"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite(field: str, value: float) -> None:
    instances = predictions(pred_keypoints=torch.ones(2, 3, 3))
    getattr(instances.get(field), "tensor", instances.get(field))[1] = value
    with pytest.raises(
        EvaluationError, match=rf"image 7: 1 of 2 predicted \w+ are not finite \(the first is \[{value}"
    ):
        instances_to_coco_json(instances, 7)


def test_missing_fields() -> None:
    with pytest.raises(EvaluationError, match=r"no pred_boxes and no pred_classes \(they have: scores\)"):
        instances_to_coco_json(Instances((4, 4), scores=torch.ones(1)), 1)


def test_nothing_to_evaluate() -> None:
    for task in ("bbox", "segm", "keypoints"):
        assert evaluate_task(None, [{"image_id": 1}], task, category_ids=[1]) is None


def test_a_file_is_replaced_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "r.json"
    write_results([{"a": 1}, {"b": [1.5, "x"]}], path)
    assert json.loads(path.read_text()) == [{"a": 1}, {"b": [1.5, "x"]}]
    with pytest.raises(TypeError):
        write_results([{"a": 2}, {"b": object()}], path)
    assert json.loads(path.read_text()) == [{"a": 1}, {"b": [1.5, "x"]}]
    assert [p.name for p in path.parent.iterdir()] == ["r.json"]
    write_results([], path)
    assert json.loads(path.read_text()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written to .*r\.json"):
        write_results([], tmp_path / "file" / "r.json")
