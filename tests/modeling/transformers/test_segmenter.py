"""Mask2Former and MaskFormer under the contract: the library's losses, and outputs in the original image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.errors import ModelError
from drivetrain.modeling.transformers.frames import Frame
from drivetrain.modeling.transformers.segments import instance_segments
from drivetrain.structures import BitMasks, PolygonMasks

MASKFORMER = {
    "backbone_config": {
        "model_type": "swin",
        "embed_dim": 16,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 2, 2],
        "window_size": 4,
        "image_size": 64,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
        "drop_path_rate": 0.0,
    },
    "decoder_config": {
        "model_type": "detr",
        "d_model": 32,
        "decoder_layers": 2,
        "encoder_layers": 1,
        "decoder_ffn_dim": 64,
        "decoder_attention_heads": 2,
        "num_queries": 10,
        "dropout": 0.0,
    },
    "fpn_feature_size": 32,
    "mask_feature_size": 32,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mask2former": ("mask2former_tiny", {}),
    "maskformer": ("mask2former", {"BASE": "maskformer", "CONFIG": MASKFORMER}),
    "maskformer, all layers": (
        "mask2former",
        {"BASE": "maskformer", "CONFIG": {**MASKFORMER, "use_auxiliary_loss": True}},
    ),
}


@pytest.fixture(params=CASES)
def model(request: pytest.FixtureRequest, build: Any) -> Any:
    """A small model of each kind."""
    preset, options = CASES[request.param]
    return build(preset, **options)


def library_loss(model: Any, batch: list[dict[str, Any]], masks: list[Any], classes: list[Any]) -> float:
    """What the library's own forward says, for images and masks padded here."""
    height, width = (-(-max(e["image"].shape[i] for e in batch) // 32) * 32 for i in (1, 2))
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    pixels = torch.zeros(len(batch), 3, height, width)
    labels = []
    for row, entry, mask in zip(pixels, batch, masks, strict=True):
        h, w = entry["image"].shape[1:]
        row[:, :h, :w] = (entry["image"] - mean[:, None, None]) / std[:, None, None]
        padded = torch.zeros(len(mask), height, width)
        padded[:, :h, :w] = mask
        labels.append(padded)
    torch.manual_seed(7)
    auxiliary = getattr(model.net.config, "use_auxiliary_loss", False)
    output = model.net(pixels, mask_labels=labels, class_labels=classes, output_hidden_states=auxiliary)
    return float(output.loss.detach())


def total(model: Any, batch: list[dict[str, Any]]) -> float:
    """The sum of the adapter's losses, from the same random points."""
    torch.manual_seed(7)
    losses = model(batch)
    assert set(losses) >= {"loss_cross_entropy", "loss_mask", "loss_dice"}
    return float(sum(losses.values()).detach())


def test_losses_sum_up_to_the_librarys(model: Any, scene: Any) -> None:
    batch = scene()
    masks = [entry["instances"].gt_masks.tensor for entry in batch]
    classes = [entry["instances"].gt_classes for entry in batch]
    assert total(model, batch) == pytest.approx(library_loss(model, batch, masks, classes), rel=1e-5)


def test_every_parameter_learns_also_without_segments(model: Any, scene: Any, emptied: Any) -> None:
    names = []
    for batch in (scene(), emptied(scene())):
        model.zero_grad(set_to_none=True)
        losses = model(batch)
        names.append(set(losses))
        sum(losses.values()).backward()
        assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
        assert [n for n, p in model.named_parameters() if p.requires_grad and not p.grad.isfinite().all()] == []
    assert names[0] == names[1]


def test_semantic_targets_are_one_mask_per_class(build: Any, scene: Any) -> None:
    model = build("mask2former_semantic_tiny")
    batch = scene()
    masks, classes = [], []
    for entry in batch:
        present = sorted(set(np.unique(entry["sem_seg"]).tolist()) - {255})
        masks.append(torch.stack([entry["sem_seg"] == label for label in present]))
        classes.append(torch.tensor(present))
    assert total(model, batch) == pytest.approx(library_loss(model, batch, masks, classes), rel=1e-5)


def test_polygons_do_as_well_as_bitmaps(build: Any, scene: Any) -> None:
    model = build("mask2former_tiny")
    batch = scene()
    expected = None
    for polygons in (False, True):
        for entry in batch:
            corners = entry["instances"].gt_boxes.tensor.round().tolist()
            shapes = PolygonMasks([[[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in corners])
            size = tuple(entry["image"].shape[1:])
            entry["instances"].gt_masks = shapes if polygons else BitMasks.from_polygon_masks(shapes, *size)
        expected = total(model, batch) if expected is None else expected
    assert total(model, batch) == expected


@torch.no_grad()
def test_instances_are_in_the_original_image(build: Any, scene: Any) -> None:
    model = build("mask2former_tiny").eval()
    batch = scene(height=200, width=300)
    outputs = model(batch)
    images = model.prepare(batch[1:])
    raw = model.net(pixel_values=images.tensor)
    frame = Frame((64, 96), (64, 90), (200, 300))
    expected = instance_segments(
        raw.class_queries_logits[0], raw.masks_queries_logits[0], frame, most=100, threshold=0.0
    )
    found = outputs[1]["instances"]
    assert found.pred_masks.shape[1:] == (200, 300) and found.pred_masks.dtype == torch.bool
    assert found.scores.equal(expected.scores) and found.pred_masks.equal(expected.pred_masks)
    assert found.scores.diff().max() <= 0 and 1 <= len(found) <= 100


@torch.no_grad()
def test_each_task_has_its_output(build: Any, make_transformers_cfg: Any, scene: Any) -> None:
    from drivetrain.modeling.transformers import build_transformers

    (semantic,) = build("mask2former_semantic_tiny").eval()(scene(((96, 128),), height=120, width=90))
    assert set(semantic) == {"sem_seg"} and semantic["sem_seg"].shape == (3, 120, 90)
    assert semantic["sem_seg"].min() >= 0
    cfg = make_transformers_cfg("mask2former_panoptic_tiny", STUFF_CLASSES=[1], SEGMENT_SCORE=0.0, SEGMENT_VISIBLE=0.0)
    torch.manual_seed(0)
    (panoptic,) = build_transformers(cfg).eval()(scene(((96, 128),), height=120, width=90))
    ids, segments = panoptic["panoptic_seg"]
    assert ids.shape == (120, 90) and ids.dtype == torch.int32 and len(segments) >= 1
    assert sorted(set(ids.unique().tolist()) - {0}) == [s["id"] for s in segments]
    assert all(s["isthing"] == (s["category_id"] != 1) for s in segments)


def test_half_precision(build: Any, scene: Any) -> None:
    model = build("mask2former_tiny")
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(scene())
    assert all(value.isfinite() and value.dtype == torch.float32 for value in losses.values())


def test_errors(build: Any, scene: Any) -> None:
    model = build("mask2former_tiny")
    batch = scene()
    batch[1]["instances"].gt_masks = BitMasks(torch.zeros(3, 10, 10, dtype=torch.bool))
    with pytest.raises(ModelError, match=r"masks of 1\.jpg are \(10, 10\), but its image is \(64, 90\)"):
        model(batch)
    batch[0]["instances"].remove("gt_masks")
    with pytest.raises(ModelError, match=r"gt_masks and gt_classes, but that of 0\.jpg"):
        model(batch)
    with pytest.raises(ModelError, match=r"0\.jpg has classes \[.*\], but the model has 1"):
        build("mask2former_tiny", classes=1)(scene())
    batch = scene()
    batch[0]["sem_seg"][0, 0] = 7
    with pytest.raises(ModelError, match=r"label map of 0\.jpg has the labels \[7\]"):
        build("mask2former_semantic_tiny")(batch)
