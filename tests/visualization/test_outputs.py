"""Whatever a model puts out, drawn on its image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.structures import Boxes, Instances
from drivetrain.visualization import draw_label_map, draw_output, draw_predictions, draw_regions, top_classes

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
FOUND = Instances(
    (40, 60),
    pred_boxes=Boxes([[5.0, 5.0, 30.0, 30.0]]),
    scores=torch.tensor([0.9]),
    pred_classes=torch.tensor([1]),
)
SCORES = torch.zeros(3, 40, 60)
SCORES[2, :, 30:] = 1
IDS = torch.zeros(40, 60, dtype=torch.int32)
IDS[10:20] = 7
SEGMENTS = [{"id": 7, "category_id": 1, "isthing": True}]
NAMES = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"instances": FOUND}, lambda: draw_predictions(IMAGE, FOUND, NAMES)),
        ({"sem_seg": SCORES}, lambda: draw_label_map(IMAGE, SCORES.argmax(0).numpy(), NAMES, ignore_label=None)),
        ({"panoptic_seg": (IDS, SEGMENTS)}, lambda: draw_regions(IMAGE, IDS.numpy(), {7: 1}, NAMES)),
        (
            {"instances": FOUND, "panoptic_seg": (IDS, SEGMENTS)},
            lambda: draw_regions(IMAGE, IDS.numpy(), {7: 1}, NAMES),
        ),
    ],
)
def test_each_kind(output: dict[str, Any], expected: Any) -> None:
    assert (draw_output(IMAGE, output, NAMES) == expected()).all()


def test_a_class_stands_in_a_corner() -> None:
    drawn = draw_output(IMAGE, {"classes": torch.tensor([0.1, 0.7, 0.2])}, NAMES)
    other = draw_output(IMAGE, {"classes": torch.tensor([0.7, 0.1, 0.2])}, NAMES)
    assert drawn.shape == (480, 720, 3)
    rows = np.flatnonzero((drawn != other).any(axis=(1, 2)))
    assert rows.min() > 400 and len(rows) > 3


def test_the_likeliest_classes() -> None:
    best = top_classes(torch.tensor([0.1, 0.7, 0.05, 0.15]), ["a", "b"], 3)
    assert [name for name, _ in best] == ["b", "3", "a"]
    assert [score for _, score in best] == pytest.approx([0.7, 0.15, 0.1])
    assert len(top_classes(torch.tensor([1.0]), ["a"])) == 1


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="its keys are logits"):
        draw_output(IMAGE, {"logits": torch.zeros(3)})
