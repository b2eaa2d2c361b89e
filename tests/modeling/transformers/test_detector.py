"""TransformersDetector: the library's losses and detections for each family, boxes back in the original image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torchvision.ops import box_convert, clip_boxes_to_image

from drivetrain.errors import ModelError
from drivetrain.modeling.transformers import TransformersDetector
from drivetrain.modeling.transformers.bases import BASES
from drivetrain.structures import Boxes, Instances

SMALL_DETR = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "num_queries": 20,
    "dropout": 0.0,
}
SMALL_DAB = {name: value for name, value in SMALL_DETR.items() if name != "d_model"} | {"hidden_size": 32}
SMALL_VIT_DETR = {
    "d_model": 32,
    "decoder_layers": 2,
    "decoder_ffn_dim": 64,
    "decoder_self_attention_heads": 2,
    "decoder_cross_attention_heads": 2,
    "num_queries": 10,
    "group_detr": 3,
    "dropout": 0.0,
}
TIMM = "timm/test_resnet"
# Name -> (preset, options of the fixture ``build``).
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "d_fine": ("dfine_tiny", {}),
    "rt_detr_v2": ("rt_detr_v2_tiny", {}),
    "rt_detr": ("rt_detr_v2_tiny", {"BASE": "rt_detr", "CONFIG": dict(BASES["rt_detr_v2_tiny"].fields)}),
    "deimv2": ("dfine_tiny", {"BASE": "deimv2", "CONFIG": dict(BASES["dfine_tiny"].fields)}),
    "detr": ("detr", {"backbone": TIMM, "CONFIG": SMALL_DETR}),
    "conditional_detr": ("detr", {"BASE": "conditional_detr", "backbone": TIMM, "CONFIG": SMALL_DETR}),
    "dab-detr": ("detr", {"BASE": "dab-detr", "backbone": TIMM, "CONFIG": SMALL_DAB}),
    "table-transformer": ("detr", {"BASE": "table-transformer", "backbone": TIMM, "CONFIG": SMALL_DETR}),
    "deformable_detr": ("deformable_detr", {"backbone": TIMM, "CONFIG": SMALL_DETR}),
    "deformable_detr, two stages": (
        "deformable_detr",
        {
            "backbone": TIMM,
            "CONFIG": {**SMALL_DETR, "two_stage": True, "with_box_refine": True, "two_stage_num_proposals": 20},
        },
    ),
    "rf_detr": (
        "rf_detr",
        {
            "CONFIG": {
                **SMALL_VIT_DETR,
                "backbone_config": {
                    "model_type": "rf_detr_dinov2",
                    "hidden_size": 48,
                    "num_hidden_layers": 3,
                    "num_attention_heads": 3,
                    "image_size": 64,
                    "patch_size": 16,
                    "num_windows": 2,
                    "out_features": ["stage1", "stage2", "stage3"],
                },
            }
        },
    ),
    "lw_detr": (
        "rf_detr",
        {
            "BASE": "lw_detr",
            "CONFIG": {
                **SMALL_VIT_DETR,
                "backbone_config": {
                    "model_type": "lw_detr_vit",
                    "hidden_size": 32,
                    "num_hidden_layers": 3,
                    "num_attention_heads": 2,
                    "image_size": 64,
                    "pretrain_image_size": 64,
                    "patch_size": 16,
                    "num_windows": 4,
                    "window_block_indices": [0],
                    "out_indices": [1, 2],
                },
            },
        },
    ),
    "yolos": (
        "detr",
        {
            "BASE": "yolos",
            "CONFIG": {
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 64,
                "image_size": [96, 128],
                "patch_size": 16,
                "num_detection_tokens": 20,
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
            },
        },
    ),
}
WITHOUT_MASK = ("d_fine", "rt_detr_v2", "rt_detr", "deimv2", "yolos")
SOFTMAX = ("detr", "table-transformer", "yolos")


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, build: Any) -> tuple[str, Any]:
    """A family's name and a small model of it."""
    preset, options = CASES[request.param]
    return request.param, build(preset, **options)


def prepared(model: Any, batch: list[dict[str, Any]], name: str) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """What the library's processor would make of a batch, and what its boxes are fractions of."""
    step = model.preprocess.size_divisibility
    sizes = [tuple(entry["image"].shape[1:]) for entry in batch]
    height, width = (-(-max(side) // step) * step for side in zip(*sizes, strict=True))
    if name == "rf_detr":
        height = width = max(height, width)
    pixels = torch.zeros(len(batch), 3, height, width)
    mask = torch.zeros(len(batch), height, width, dtype=torch.int64)
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    for row, entry, (h, w) in zip(range(len(batch)), batch, sizes, strict=True):
        pixels[row, :, :h, :w] = (entry["image"] - mean[:, None, None]) / std[:, None, None]
        mask[row, :h, :w] = 1
    if name in WITHOUT_MASK:
        return {"pixel_values": pixels}, [(height, width)] * len(batch)
    return {"pixel_values": pixels, "pixel_mask": mask}, sizes


def test_losses_sum_up_to_the_librarys(case: tuple[str, Any], scene: Any) -> None:
    name, model = case
    batch = scene()
    inputs, frames = prepared(model, batch, name)
    labels = []
    for entry, (height, width) in zip(batch, frames, strict=True):
        boxes = box_convert(entry["instances"].gt_boxes.tensor, "xyxy", "cxcywh")
        labels.append(
            {
                "class_labels": entry["instances"].gt_classes,
                "boxes": boxes / torch.tensor([width, height, width, height]),
            }
        )
    torch.manual_seed(3)
    expected = model.net(**inputs, labels=labels).loss
    torch.manual_seed(3)
    losses = model(batch)
    assert all(key.startswith("loss_") and value.ndim == 0 for key, value in losses.items())
    assert sum(losses.values()).item() == pytest.approx(expected.item(), rel=1e-5)
    assert len(losses) >= 3


def test_every_parameter_learns_also_without_objects(case: tuple[str, Any], scene: Any, emptied: Any) -> None:
    """Distributed training waits for a gradient of each parameter, and for the same losses on each rank."""
    _, model = case
    names = []
    for batch in (scene(), emptied(scene())):
        model.zero_grad(set_to_none=True)
        losses = model(batch)
        names.append(list(losses))
        sum(losses.values()).backward()
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assert [name for name, p in trained.items() if p.grad is None] == []
        assert [name for name, p in trained.items() if not p.grad.isfinite().all()] == []
        assert len(trained) > 0.9 * len(list(model.parameters()))
    assert names[0] == names[1]


def post_processed(name: str, output: Any, sizes: torch.Tensor) -> list[dict[str, Any]]:
    """By the image processor that the library has for the family."""
    from transformers.models.deformable_detr.image_processing_deformable_detr import DeformableDetrImageProcessor
    from transformers.models.detr.image_processing_detr import DetrImageProcessor
    from transformers.models.rf_detr.image_processing_rf_detr import RfDetrImageProcessor
    from transformers.models.rt_detr.image_processing_rt_detr import RTDetrImageProcessor

    if name in SOFTMAX:
        return DetrImageProcessor.post_process_object_detection(None, output, 0.0, sizes)
    if name in ("rt_detr", "rt_detr_v2", "d_fine", "deimv2"):
        return RTDetrImageProcessor.post_process_object_detection(None, output, 0.0, sizes)
    if name in ("rf_detr", "lw_detr"):
        return RfDetrImageProcessor.post_process_object_detection(None, output, 0.0, sizes)
    return DeformableDetrImageProcessor.post_process_object_detection(None, output, 0.0, sizes, top_k=20)


@torch.no_grad()
def test_detections_equal_the_librarys(case: tuple[str, Any], scene: Any) -> None:
    name, model = case
    model.eval()
    batch = scene(((96, 128),), height=200, width=300)
    inputs, ((height, width),) = prepared(model, batch, name)
    # The image is 96 x 128 and its original 200 x 300, so the frame of the boxes is as much larger.
    sizes = torch.tensor([[height * 200 / 96, width * 300 / 128]])
    (theirs,) = post_processed(name, model.net(**inputs), sizes)
    model._most = len(theirs["scores"])
    (ours,) = model(batch)
    found = ours["instances"]
    expected = clip_boxes_to_image(theirs["boxes"], (200, 300))
    keep = Boxes(expected).nonempty()
    order = theirs["scores"][keep].argsort(descending=True, stable=True)
    assert found.image_size == (200, 300) and len(order) >= 10
    assert torch.allclose(found.scores, theirs["scores"][keep][order], atol=1e-6)
    assert torch.allclose(found.pred_boxes.tensor.sum(0), expected[keep][order].sum(0), rtol=1e-4)
    assert found.pred_classes.bincount(minlength=3).equal(theirs["labels"][keep][order].bincount(minlength=3))


@torch.no_grad()
def test_a_box_comes_back_as_it_was(case: tuple[str, Any], scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that answers with the very targets it is trained for finds the boxes, whatever the padding."""
    name, model = case
    asked: list[Any] = []
    logits = torch.full((2, 3, 4 if name in SOFTMAX else 3), -9.0)

    def answer(images: Any, labels: Any = None) -> Any:
        if labels is not None:
            asked.append(labels)
            return SimpleNamespace(loss_dict={"loss_bbox": torch.zeros(())})
        for row, label in zip(logits, asked[0], strict=True):
            row[range(3), label["class_labels"]] = torch.tensor([9.0, 8.0, 7.0])
        return SimpleNamespace(logits=logits, pred_boxes=torch.stack([label["boxes"] for label in asked[0]]))

    monkeypatch.setattr(model, "_run", answer)
    monkeypatch.setattr(type(model), "_with_denoising", lambda self, terms: terms)
    batch = scene(((96, 128), (64, 128)), height=320, width=384)
    model(batch)
    model.eval()
    outputs = model.batch_outputs(batch)  # as one batch, for the second image to be padded
    for entry, output, (height, width) in zip(batch, outputs, ((96, 128), (64, 128)), strict=True):
        best = output["instances"][:3]
        scale = torch.tensor([384 / width, 320 / height]).repeat(2)
        assert torch.allclose(best.pred_boxes.tensor, entry["instances"].gt_boxes.tensor * scale, atol=1e-3)
        assert best.pred_classes.equal(entry["instances"].gt_classes)


@torch.no_grad()
@pytest.mark.parametrize("name", ["d_fine", "detr", "rf_detr"])
def test_other_images_of_a_batch_change_nothing(name: str, build: Any, scene: Any) -> None:
    preset, options = CASES[name]
    model = build(preset, **options).eval()
    batch = scene(((64, 90), (128, 128), (64, 96)))
    together = model(batch)
    for entry, output in zip(batch, together, strict=True):
        alone = model([entry])[0]["instances"]
        assert torch.allclose(output["instances"].scores, alone.scores, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (96, 160), (160, 96), (128, 32)])
@pytest.mark.parametrize("name", ["d_fine", "rt_detr_v2", "deimv2"])
def test_any_multiple_of_32_goes(name: str, size: tuple[int, int], build: Any, scene: Any) -> None:
    preset, options = CASES[name]
    config = {"num_queries": 20, "anchor_image_size": [640, 640], "eval_size": [640, 640] if name == "deimv2" else 640}
    model = build(preset, **{**options, "CONFIG": {**options.get("CONFIG", {}), **config}})
    model(scene((size,)))
    assert len(model.eval()(scene((size,)))[0]["instances"]) > 0


@torch.no_grad()
def test_bgr_images_reach_the_network_as_rgb(build: Any, scene: Any) -> None:
    rgb, bgr = build("dfine_tiny"), build("dfine_tiny", fmt="BGR")
    bgr.preprocess.mean, bgr.preprocess.std = rgb.preprocess.mean.flip(0), rgb.preprocess.std.flip(0)
    batch = scene()
    flipped = [{**entry, "image": entry["image"].flip(0)} for entry in batch]
    for ours, theirs in zip(bgr.eval()(flipped), rgb.eval()(batch), strict=True):
        assert ours["instances"].scores.equal(theirs["instances"].scores)
    assert not bgr(batch)[0]["instances"].scores.equal(rgb(batch)[0]["instances"].scores)


def test_half_precision_keeps_losses_finite(build: Any, scene: Any) -> None:
    preset, options = CASES["rf_detr"]
    model = build(preset, **options)
    model.net.class_embed.bias.data.fill_(12.0)  # probabilities that bfloat16 rounds to 1
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(scene())
    assert all(value.isfinite() and value.dtype == torch.float32 for value in losses.values())


def test_targets_of_another_size_and_boxes_without_area(
    build: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("dfine_tiny")
    asked: dict[str, Any] = {}

    def record(images: Any, labels: Any) -> Any:
        asked.update(labels[0])
        return SimpleNamespace(loss_dict={})

    monkeypatch.setattr(model, "_run", record)
    (entry,) = scene(((64, 64),))
    boxes = Boxes([[10.0, 20.0, 30.0, 60.0], [5.0, 5.0, 5.0, 50.0]])
    entry["instances"] = Instances((128, 256), gt_boxes=boxes, gt_classes=torch.tensor([2, 1]))
    model([entry])
    assert asked["class_labels"].tolist() == [2]
    assert asked["boxes"].flatten().tolist() == pytest.approx([20 / 256, 40 / 128, 20 / 256, 40 / 128])


def test_thresholds(build: Any, make_transformers_cfg: Any, scene: Any) -> None:
    from drivetrain.modeling.transformers import build_transformers

    cfg = make_transformers_cfg("dfine_tiny")
    cfg.TEST.DETECTIONS_PER_IMAGE = 7
    model = build_transformers(cfg).eval()
    assert 0 < len(model(scene())[0]["instances"]) <= 7
    model._score_thresh = 1.0
    assert len(model(scene())[0]["instances"]) == 0


def test_errors(build: Any, scene: Any) -> None:
    model = build("dfine_tiny", CONFIG={"num_queries": 500})
    with pytest.raises(ModelError, match=r"64 x 96 pixels have fewer places .* set num_queries lower"):
        model(scene(((64, 90),)))
    batch = scene()
    batch[1]["instances"].gt_classes[0] = 3
    with pytest.raises(ModelError, match=r"1\.jpg has classes .*, but the model has 3, numbered from 0"):
        model(batch)
    del batch[0]["instances"]
    with pytest.raises(ModelError, match=r"gt_boxes and gt_classes, but that of 0\.jpg has None"):
        model(batch)
    with pytest.raises(ModelError, match="batch is empty"):
        model([])


def test_the_librarys_object_itself_can_be_adapted(scene: Any) -> None:
    from transformers import YolosConfig, YolosForObjectDetection

    small = CASES["yolos"][1]["CONFIG"]
    model = TransformersDetector(YolosForObjectDetection(YolosConfig(**small, num_labels=5)), detections_per_image=4)
    assert model.num_classes == 5
    assert set(model.train()(scene())) == {"loss_ce", "loss_bbox", "loss_giou"}
    assert 0 < len(model.eval()(scene())[0]["instances"]) <= 4


@pytest.mark.slow
def test_learns_one_image(build: Any) -> None:
    """Overfits one image and finds its boxes in the original, which is larger."""
    model = build("dfine_tiny")
    boxes = Boxes([[10, 12, 50, 44], [70, 20, 110, 80], [30, 60, 60, 90]])
    image = torch.full((3, 96, 128), 90, dtype=torch.uint8)
    for label, (x0, y0, x1, y1) in enumerate(boxes.tensor.int().tolist()):
        image[label, y0:y1, x0:x1] = 230
    instances = Instances((96, 128), gt_boxes=boxes, gt_classes=torch.arange(3))
    entry = {"image": image, "instances": instances, "height": 192, "width": 256}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(150):
        optimizer.zero_grad()
        sum(model([entry] * 2).values()).backward()
        optimizer.step()
    found = model.eval()([entry])[0]["instances"][:3]
    order = found.pred_classes.argsort()
    assert found.pred_classes[order].tolist() == [0, 1, 2]
    assert (found.pred_boxes.tensor[order] - 2 * boxes.tensor).abs().max() < 12
