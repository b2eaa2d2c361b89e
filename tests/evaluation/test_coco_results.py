from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_api

from drivetrain.errors import EvaluationError
from drivetrain.evaluation import instances_to_coco_json
from drivetrain.evaluation.coco_results import encode_instances, result_entries, write_results
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


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("pred_boxes", torch.rand(4, 5), r"pred_boxes has the shape \(4, 5\), but \(4, 4\) is needed"),
        ("scores", torch.rand(4, 1), r"scores has the shape \(4, 1\), but \(4,\) is needed"),
        ("pred_classes", torch.zeros(4, 2), r"pred_classes has the shape \(4, 2\), but \(4,\) is needed"),
        ("pred_keypoints", torch.rand(4, 3, 2), r"pred_keypoints has the shape \(4, 3, 2\), but \(4, 3, 3\) is needed"),
        ("pred_keypoints", torch.rand(4, 6), r"pred_keypoints has the shape \(4, 6\), but \(4, 6, 3\) is needed"),
    ],
)
def test_fields_of_another_shape(field: str, value: torch.Tensor, message: str) -> None:
    fields = {"pred_boxes": torch.rand(4, 4), "scores": torch.rand(4), "pred_classes": torch.zeros(4)}
    with pytest.raises(EvaluationError, match=f"image 'a.jpg': {message}"):
        encode_instances(Instances((9, 9), **{**fields, field: value}), "a.jpg")


def test_what_is_no_instances() -> None:
    for wrong in ([1], {"boxes": torch.rand(1, 4)}, None, torch.rand(1, 6)):
        with pytest.raises(
            EvaluationError, match=f"image 3: 'instances' of .* is {type(wrong).__name__}: an Instances"
        ):
            encode_instances(wrong, 3)  # type: ignore[arg-type]


def test_columns_are_compact_and_give_the_entries() -> None:
    bits = torch.rand(2, 6, 7, generator=torch.Generator().manual_seed(1)) > 0.5
    instances = predictions(pred_masks=bits, pred_keypoints=torch.rand(2, 3, 3))
    rows = encode_instances(instances, 3)
    assert rows["bbox"].dtype == rows["score"].dtype == rows["keypoints"].dtype == np.float64
    assert rows["class"].tolist() == [4, 0] and rows["size"].tolist() == [[6, 7], [6, 7]]
    assert all(isinstance(counts, bytes) for counts in rows["counts"])
    assert result_entries(3, [4, 0], rows) == instances_to_coco_json(instances, 3)
    assert result_entries("a", [40, 10], rows)[1]["category_id"] == 10


def test_scores_of_half_precision() -> None:
    instances = predictions()
    instances.scores = instances.scores.bfloat16()
    assert encode_instances(instances, 1)["score"].tolist() == [float(torch.tensor(0.9).bfloat16()), 0.25]


def test_masks_of_an_unknown_form_name_the_image() -> None:
    with pytest.raises(EvaluationError, match=r"image 8: predicted masks are .* not list"):
        encode_instances(predictions(pred_masks=["a", "b"]), 8)


def test_a_result_file_is_a_list_of_all_images_entries(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "r.json"
    write_results(iter([[{"a": 1}, {"b": [1.5, "x"]}], [], [{"c": 2}]]), path)
    assert json.loads(path.read_text()) == [{"a": 1}, {"b": [1.5, "x"]}, {"c": 2}]
    assert path.read_text().count("\n") == 2  # a line for each image
    with pytest.raises(TypeError):
        write_results([[{"a": 2}], [{"b": object()}]], path)
    assert json.loads(path.read_text())[0] == {"a": 1}
    for nothing in ([], [[], []]):
        write_results(nothing, path)
        assert json.loads(path.read_text()) == []
