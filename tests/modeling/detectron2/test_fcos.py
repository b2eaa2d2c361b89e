"""FCOS, against torchvision's losses and against computations that go point by point."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS as TorchvisionFCOS

from drivetrain.modeling.detectron2 import FCOS, build_detectron2_model
from drivetrain.modeling.detectron2.fcos import centerness, decode, match_points

from .conftest import batch_of, config
from .slow import without_overlapping

SIZE = (96, 128)
BOXES = torch.tensor(
    [[4.0, 6.0, 44.0, 50.0], [8.0, 8.0, 30.0, 36.0], [20.0, 10.0, 126.0, 94.0], [90.0, 60.0, 97.0, 66.0]]
)
CLASSES = torch.tensor([0, 2, 1, 1])


def entries() -> list[dict[str, Any]]:
    images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    shared = {"height": SIZE[0], "width": SIZE[1]}
    return [
        {"image": images[0], "gt_boxes": BOXES, "gt_classes": CLASSES, **shared},
        {"image": images[1], "gt_boxes": BOXES[:2] + 40, "gt_classes": CLASSES[:2], **shared},
    ]


def made(**changes: Any) -> FCOS:
    torch.manual_seed(0)
    model = build_detectron2_model(config("fcos", **changes))
    assert isinstance(model, FCOS)
    for module in model.modules():  # random weights that give something to compare
        if isinstance(module, nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    for layer in (model.head.cls_score, model.head.bbox_pred, model.head.ctrness):
        nn.init.normal_(layer.weight, std=0.1)  # type: ignore[arg-type]
    return model


def matches_point_by_point(boxes: torch.Tensor, levels: list[torch.Tensor], radius: float) -> list[int]:
    out = []
    for number, squares in enumerate(levels):
        for left, top, right, bottom in squares.tolist():
            x, y, stride = (left + right) / 2, (top + bottom) / 2, right - left
            low = 0 if number == 0 else 4 * stride
            high = math.inf if number == len(levels) - 1 else 8 * stride
            best, smallest = -1, math.inf
            for index, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
                sides = (x - x0, y - y0, x1 - x, y1 - y)
                near = max(abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2)) < radius * stride
                area = (x1 - x0) * (y1 - y0)
                if near and min(sides) > 0 and low < max(sides) < high and area < smallest - 8:
                    best, smallest = index, area
            out.append(best)
    return out


@pytest.mark.parametrize("radius", [1.5, 0.6, 3.0])
def test_points_and_their_boxes(radius: float) -> None:
    model = made()
    levels = model.anchor_generator(
        [torch.zeros(1, 1, math.ceil(96 / s), math.ceil(128 / s)) for s in (8, 16, 32, 64, 128)]
    )
    assert levels[0][0].tolist() == [0, 0, 8, 8] and levels[1][1].tolist() == [16, 0, 32, 16]
    random = torch.rand(12, 4, generator=torch.Generator().manual_seed(1)) * 60
    boxes = torch.cat((BOXES, torch.cat((random[:, :2], random[:, :2] + random[:, 2:] + 5), dim=1)))
    matches = match_points(boxes, levels, radius)
    expected = matches_point_by_point(boxes, levels, radius)
    assert matches.tolist() == expected and len(set(expected)) > 5
    assert match_points(torch.zeros(0, 4), levels, radius).unique().tolist() == [-1]


def test_losses_are_torchvisions_but_for_what_they_are_divided_by() -> None:
    model, batch = made(), batch_of(entries())
    losses = model(batch)
    with torch.no_grad():
        maps = model.maps(model.preprocess(batch))
        levels = model.anchor_generator(maps)
        logits, deltas, centers = (torch.cat(parts, dim=1) for parts in model.head(maps))
    oracle = TorchvisionFCOS(Backbone(), num_classes=3)
    targets = [{"boxes": b["instances"].gt_boxes.tensor, "labels": b["instances"].gt_classes} for b in batch]
    outputs = {"cls_logits": logits, "bbox_regression": deltas.relu(), "bbox_ctrness": centers}
    expected = oracle.compute_loss(targets, outputs, [torch.cat(levels)] * 2, [len(level) for level in levels])
    count = sum((match_points(t["boxes"], levels, 1.5) >= 0).sum().item() for t in targets)
    assert count > 20 and model.loss_normalizer.item() == pytest.approx(270 + 0.1 * count)
    names = {"loss_fcos_cls": "classification", "loss_fcos_loc": "bbox_regression", "loss_fcos_ctr": "bbox_ctrness"}
    assert losses.keys() == names.keys()
    for name, theirs in names.items():
        assert losses[name].item() * model.loss_normalizer.item() == pytest.approx(expected[theirs].item() * count), (
            name
        )


class Backbone(nn.Module):
    out_channels = 64


@torch.no_grad()
def test_predictions_point_by_point() -> None:
    model = made(MODEL__FCOS__SCORE_THRESH_TEST=0.15, TEST__DETECTIONS_PER_IMAGE=30).eval()
    model.head.ctrness.bias.fill_(1.0)  # type: ignore[union-attr]
    model.head.bbox_pred.bias.fill_(3.0)  # type: ignore[union-attr]
    batch = batch_of(entries()[:1])
    found = model.detections(model.preprocess(batch))[0]
    maps = model.maps(model.preprocess(batch))
    logits, deltas, centers = (torch.cat(parts, dim=1)[0].tolist() for parts in model.head(maps))
    candidates = []
    places = [
        (s, r, c)
        for s, m in zip((8, 16, 32, 64, 128), maps, strict=True)
        for r in range(m.shape[2])
        for c in range(m.shape[3])
    ]
    for (stride, row, column), values, sides, center in zip(places, logits, deltas, centers, strict=True):
        x, y = (column + 0.5) * stride, (row + 0.5) * stride
        left, top, right, bottom = (max(side, 0) * stride for side in sides)
        for kind, value in enumerate(values):
            score = math.sqrt(sigmoid(value) * sigmoid(center[0]))
            if score > 0.15:
                candidates.append((score, kind, (x - left, y - top, x + right, y + bottom)))
    kept = without_overlapping(sorted(candidates, reverse=True), 0.6)
    assert len(candidates) > len(kept) > 30  # something is suppressed, and cut off
    assert found.scores.tolist() == pytest.approx([score for score, _, _ in kept[:30]], rel=1e-5)
    assert found.pred_classes.tolist() == [kind for _, kind, _ in kept[:30]]
    assert torch.allclose(found.pred_boxes, torch.tensor([box for _, _, box in kept[:30]]), atol=1e-3)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_weights_names_are_detectron2s() -> None:
    model = made()
    towers = [
        f"{name}.{k}.{kind}"
        for name in ("cls_subnet", "bbox_subnet")
        for k in (0, 1, 3, 4, 6, 7, 9, 10)
        for kind in ("weight", "bias")
    ]
    layers = [f"{name}.{kind}" for name in ("cls_score", "bbox_pred", "ctrness") for kind in ("weight", "bias")]
    names = list(model.state_dict())
    assert [n.removeprefix("head.") for n in names if n.startswith("head.")] == [*towers, *layers]
    assert {n.split(".")[0] for n in names} == {"backbone", "head", "loss_normalizer"}
    assert model.backbone.top_block.p6.weight.shape[1] == 64 and model.backbone.top_block.in_feature == "p5"


def test_distances_and_centerness() -> None:
    square = torch.tensor([[8.0, 16.0, 16.0, 24.0]])  # around (12, 20)
    assert decode(torch.tensor([[1.0, 0.5, 2.0, -1.0]]), square).tolist() == [[4, 16, 28, 20]]
    assert centerness(square, torch.tensor([[10.0, 16.0, 20.0, 24.0]])).item() == pytest.approx(0.5)
    assert centerness(square, torch.tensor([[4.0, 4.0, 20.0, 36.0]])).item() == pytest.approx(1.0)


def test_an_image_without_objects_has_losses() -> None:
    empty = {**entries()[0], "gt_boxes": torch.zeros(0, 4), "gt_classes": torch.zeros(0, dtype=torch.int64)}
    losses = made()(batch_of([empty]))
    sum(losses.values()).backward()
    assert losses["loss_fcos_cls"] > 0 and losses["loss_fcos_loc"] == losses["loss_fcos_ctr"] == 0


def test_it_learns_an_image() -> None:
    model, batch = made(), batch_of(entries()[:1])
    optimizer = torch.optim.Adam(model.head.parameters(), 1e-3)
    totals = []
    for _ in range(12):
        loss = sum(model(batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(float(loss.detach() * model.loss_normalizer))
    assert totals[-1] < 0.6 * totals[0]
