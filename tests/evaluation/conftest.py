"""A random dataset with ground truth and predictions of every kind, to be measured by several means."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_api

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.structures import Boxes, Instances

SIZE = (200, 260)  # height, width
CATEGORIES = {7: "round", 3: "square", 12: "star"}  # ids that are neither dense nor in order
CLASS_OF = {3: 0, 7: 1, 12: 2}
COCO_KEYPOINTS = 17


@dataclass
class Sample:
    """A registered dataset, its COCO content, and predictions for it."""

    name: str
    json_file: Path
    content: dict[str, Any]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]


@pytest.fixture
def catalog() -> Iterator[None]:
    """Forgets, after the test, the datasets that it registered."""
    before = set(DatasetCatalog.list()), set(MetadataCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before[0]:
        DatasetCatalog.remove(name)
    for name in set(MetadataCatalog.list()) - before[1]:
        MetadataCatalog.remove(name)


@pytest.fixture
def sample(tmp_path: Path, catalog: None) -> Callable[..., Sample]:
    """Makes a registered random dataset with predictions for it."""

    def make(seed: int = 0, images: int = 24, *, masks: bool = True, keypoints: bool = True) -> Sample:
        rng = np.random.default_rng(seed)
        content = random_content(rng, images, masks=masks, keypoints=keypoints)
        path = tmp_path / f"random_{seed}.json"
        path.write_text(json.dumps(content))
        name = f"random_{seed}"
        MetadataCatalog.get(name).set(
            json_file=str(path),
            evaluator_type="coco",
            thing_classes=[CATEGORIES[c] for c in sorted(CATEGORIES)],
            thing_dataset_id_to_contiguous_id=dict(CLASS_OF),
        )
        inputs = [{"image_id": image["id"]} for image in content["images"]]
        by_image = {image["image_id"]: [] for image in inputs}
        for annotation in content["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        outputs = [
            {"instances": random_instances(rng, by_image[image["image_id"]], masks=masks, keypoints=keypoints)}
            for image in inputs
        ]
        return Sample(name, path, content, inputs, outputs)

    return make


def random_content(rng: np.random.Generator, images: int, *, masks: bool, keypoints: bool) -> dict[str, Any]:
    """A COCO file: objects of all three sizes, crowds, images without objects."""
    height, width = SIZE
    ids = rng.permutation(np.arange(100, 100 + images))
    annotations = []
    for image_id in ids.tolist():
        for _ in range(int(rng.integers(0, 6))):
            w, h = rng.uniform(6, 190, 2)
            x, y = rng.uniform(0, width - w), rng.uniform(0, max(height - h, 1))
            box = [round(float(v), 2) for v in (x, y, w, min(h, height - y))]
            annotation = {
                "id": len(annotations) + 501,
                "image_id": image_id,
                "category_id": int(rng.choice(list(CATEGORIES))),
                "bbox": box,
                "area": box[2] * box[3] * 0.8,
                "iscrowd": int(rng.random() < 0.1),
            }
            if masks:
                annotation["segmentation"] = _random_segmentation(box, annotation["iscrowd"])
            if keypoints:
                points = _random_keypoints(rng, box)
                annotation["keypoints"] = points
                annotation["num_keypoints"] = sum(v > 0 for v in points[2::3])
            annotations.append(annotation)
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": height, "width": width} for i in ids.tolist()],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in CATEGORIES.items()],
    }


def random_instances(
    rng: np.random.Generator, annotations: list[dict[str, Any]], *, masks: bool, keypoints: bool
) -> Instances:
    """Predictions near the truth and elsewhere, with scores of two decimals so that many are equal."""
    height, width = SIZE
    rows = [(a["bbox"], CLASS_OF[a["category_id"]], a.get("keypoints")) for a in annotations for _ in range(2)]
    rows = [row for row in rows if rng.random() < 0.8]
    rows += [([20.0, 30.0, 40.0, 50.0], int(rng.integers(0, 3)), None) for _ in range(int(rng.integers(0, 3)))]
    boxes, classes, points = [], [], []
    for (x, y, w, h), label, truth in rows:
        x, y, w, h = np.asarray([x, y, w, h]) + rng.normal(0, 0.08, 4) * [w, h, w, h]
        boxes.append([x, y, x + max(w, 1), y + max(h, 1)])
        classes.append(label if rng.random() < 0.85 else int(rng.integers(0, 3)))
        k = np.asarray(truth or _random_keypoints(rng, [x, y, w, h]), dtype=float).reshape(-1, 3)
        points.append(k + np.abs(rng.normal(0, 3, k.shape)))
    instances = Instances(SIZE)
    instances.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
    instances.scores = torch.from_numpy(rng.uniform(0.05, 1, len(boxes)).round(2)).float()
    instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
    if masks:
        bits = torch.zeros((len(boxes), height, width), dtype=torch.bool)
        for bit, (x0, y0, x1, y1) in zip(bits, boxes, strict=True):
            bit[max(int(y0), 0) : max(int(y1), 0), max(int(x0), 0) : max(int(x1), 0)] = True
        instances.pred_masks = bits
    if keypoints:
        instances.pred_keypoints = torch.tensor(np.array(points).reshape(-1, COCO_KEYPOINTS, 3)).float()
    return instances


def _random_segmentation(box: list[float], crowd: int) -> Any:
    """A polygon (an octagon in the box), or for a crowd uncompressed run lengths."""
    x, y, w, h = box
    if not crowd:
        unit = [0.3, 0, 0.7, 0, 1, 0.3, 1, 0.7, 0.7, 1, 0.3, 1, 0, 0.7, 0, 0.3]
        return [[(x + u * w) if i % 2 == 0 else (y + u * h) for i, u in enumerate(unit)]]
    bits = np.zeros(SIZE, dtype=np.uint8)
    bits[int(y) : int(y + h), int(x) : int(x + w)] = 1
    flat = bits.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = [*([0] if flat[0] else []), *np.diff([0, *edges.tolist(), flat.size]).tolist()]
    assert mask_api.area(mask_api.frPyObjects({"size": list(SIZE), "counts": counts}, *SIZE)) == bits.sum()
    return {"size": list(SIZE), "counts": counts}


def _random_keypoints(rng: np.random.Generator, box: list[float]) -> list[float]:
    """17 points in the box, some not labelled; sometimes none is."""
    x, y, w, h = box
    labels = rng.integers(0, 3, COCO_KEYPOINTS) * (rng.random() < 0.85)
    points = rng.uniform(0, 1, (COCO_KEYPOINTS, 2)) * [w, h] + [x, y]
    return np.column_stack([points.round(), labels]).flatten().tolist()
