"""From queries to segments: equal to the library's post-processing where that is right, and to plain rules."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from drivetrain.modeling.transformers.frames import Frame
from drivetrain.modeling.transformers.segments import instance_segments, panoptic_segments, semantic_scores
from drivetrain.structures import BitMasks

# The library's post-processing goes through maps of this size, whatever the image's.
SIZE = (384, 384)
FRAME = Frame(SIZE, SIZE, SIZE)


def queries(count: int = 20, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random class logits, and mask logits that are smooth blobs."""
    random = torch.Generator().manual_seed(seed)
    masks = torch.nn.functional.interpolate(
        torch.randn(1, count, 6, 6, generator=random) * 6, size=(96, 96), mode="bicubic"
    )[0]
    return torch.randn(count, classes + 1, generator=random) * 2, masks


def library(name: str, class_logits: Tensor, mask_logits: Tensor, **options: Any) -> Any:
    """What the library makes of the queries of one image."""
    from transformers.models.mask2former.image_processing_mask2former import Mask2FormerImageProcessor

    output = SimpleNamespace(class_queries_logits=class_logits[None], masks_queries_logits=mask_logits[None])
    method = getattr(Mask2FormerImageProcessor, f"post_process_{name}_segmentation")
    return method(None, output, target_sizes=[SIZE], **options)[0]


def test_instances_equal_the_librarys() -> None:
    class_logits, mask_logits = queries()
    theirs = library("instance", class_logits, mask_logits, threshold=0.1, return_binary_maps=True)
    ours = instance_segments(class_logits, mask_logits, FRAME, most=20, threshold=0.1)
    order = sorted(range(len(theirs["segments_info"])), key=lambda i: -theirs["segments_info"][i]["score"])
    assert len(ours) == len(order) >= 10
    assert ours.scores.tolist() == pytest.approx([theirs["segments_info"][i]["score"] for i in order], abs=1e-5)
    assert ours.pred_classes.tolist() == [theirs["segments_info"][i]["label_id"] for i in order]
    assert ours.pred_masks.equal(theirs["segmentation"][order].bool())
    assert ours.pred_boxes.tensor.equal(BitMasks(ours.pred_masks).get_bounding_boxes().tensor)


def test_semantic_scores_equal_the_librarys() -> None:
    class_logits, mask_logits = queries()
    theirs = library("semantic", class_logits, mask_logits, return_segmentation_scores=True)
    ours = semantic_scores(class_logits, mask_logits, FRAME)
    assert torch.allclose(ours, theirs.segmentation_scores, atol=1e-5)
    assert ours.argmax(0).equal(theirs.segmentation)


def test_panoptic_segments_equal_the_librarys() -> None:
    """Where every score is near 1, by which the library multiplies masks before it measures them."""
    class_logits, mask_logits = queries()
    class_logits = class_logits * 0
    class_logits[torch.arange(20), torch.arange(20) % 5] = 30.0
    theirs = library("panoptic", class_logits, mask_logits, threshold=0.8, label_ids_to_fuse=set())
    ours, segments = panoptic_segments(class_logits, mask_logits, FRAME, stuff=(), min_score=0.8, min_visible=0.0)
    expected = library(
        "panoptic",
        class_logits,
        mask_logits,
        threshold=0.8,
        label_ids_to_fuse=set(),
        overlap_mask_area_threshold=0.0,
    )
    assert [s["category_id"] for s in segments] == [s["label_id"] for s in expected["segments_info"]]
    assert len(segments) > len(theirs["segments_info"])
    inside = ours > 0  # the library also gives pixels to the best of several masks that all leave them out
    assert ours[inside].equal(expected["segmentation"][inside])
    strict, few = panoptic_segments(class_logits, mask_logits, FRAME, stuff=(), min_score=0.8, min_visible=0.8)
    assert [s["category_id"] for s in few] == [s["label_id"] for s in theirs["segments_info"]]
    assert strict.dtype == torch.int32


def plain_panoptic(
    class_logits: Tensor, masks: Tensor, stuff: set[int], min_score: float, min_visible: float
) -> tuple[Tensor, list[tuple[int, int]]]:
    """The same rules pixel by pixel and query by query, on masks of the final size."""
    scores, classes = class_logits.softmax(1).max(1)
    kept = [q for q in range(len(scores)) if scores[q] > min_score and classes[q] < class_logits.shape[1] - 1]
    probabilities = masks.sigmoid()
    panoptic = torch.zeros(masks.shape[1:], dtype=torch.int32)
    segments: list[tuple[int, int]] = []
    winner = torch.stack([probabilities[q] * scores[q] for q in kept]).argmax(0)
    for place, q in enumerate(kept):
        won, whole = winner == place, probabilities[q] >= 0.5
        if whole.sum() == 0 or (won & whole).sum() == 0 or won.sum() / whole.sum() < min_visible:
            continue
        category = int(classes[q])
        known = [i for i, c in segments if c == category and category in stuff]
        if known:
            panoptic[won & whole] = known[0]
            continue
        segments.append((len(segments) + 1, category))
        panoptic[won & whole] = len(segments)
    return panoptic, segments


@pytest.mark.parametrize("seed", range(4))
def test_panoptic_segments_equal_plain_rules(seed: int) -> None:
    class_logits, mask_logits = queries(count=30, seed=seed)
    frame = Frame((96, 96), (96, 96), (96, 96))
    ours, segments = panoptic_segments(class_logits, mask_logits, frame, stuff={0, 2}, min_score=0.4, min_visible=0.05)
    expected, plain = plain_panoptic(class_logits, mask_logits, {0, 2}, 0.4, 0.05)
    assert ours.equal(expected) and len(plain) >= 3
    assert [(s["id"], s["category_id"]) for s in segments] == plain
    assert [s["isthing"] for s in segments] == [c not in (0, 2) for _, c in plain]
    stuff = [c for _, c in plain if c in (0, 2)]
    assert len(stuff) == len(set(stuff))
    scores = class_logits.softmax(1)[:, :-1]
    for segment in segments:
        if segment["category_id"] in (0, 2):
            assert segment["score"] <= scores[:, segment["category_id"]].max().item() + 1e-6


def test_padding_is_undone() -> None:
    """A mask over the lower right quarter of an image that fills half of the tensor."""
    mask = torch.full((1, 16, 32), -9.0)
    mask[:, 8:16, 8:16] = 9.0
    frame = Frame((64, 128), (64, 64), (128, 128))
    certain = torch.tensor([[9.0, -9.0]])
    (found,) = instance_segments(certain, mask, frame, most=5, threshold=0.5)
    assert found.pred_boxes.tensor.tolist() == [[64, 64, 128, 128]]
    assert found.pred_masks.sum() > 0.99 * 64 * 64  # the corners are round
    panoptic, segments = panoptic_segments(certain, mask, frame, stuff=(), min_score=0.5, min_visible=0.5)
    assert panoptic.equal(found.pred_masks[0].int()) and segments[0]["id"] == 1
    scores = semantic_scores(certain, mask, frame)
    assert (scores[0] > 0.5).equal(found.pred_masks[0])


def test_nothing_found() -> None:
    frame = Frame((16, 16), (16, 16), (20, 30))
    nothing = torch.tensor([[-9.0, -9.0, 9.0]] * 3)
    masks = torch.ones(3, 4, 4)
    assert instance_segments(nothing, masks, frame, most=5, threshold=0.5).pred_masks.shape == (0, 20, 30)
    panoptic, segments = panoptic_segments(nothing, masks, frame, stuff=(), min_score=0.5, min_visible=0.5)
    assert panoptic.shape == (20, 30) and not panoptic.any() and segments == []
    sure = -nothing
    assert len(instance_segments(sure, -masks, frame, most=5, threshold=0.0)) == 0  # masks without a pixel


def test_stuff_becomes_one_segment_and_things_stay_apart() -> None:
    """Two separate masks of one class, then one of another class, whose id is not taken twice."""
    masks = torch.full((3, 8, 24), -9.0)
    for i in range(3):
        masks[i, :, 8 * i : 8 * i + 8] = 9.0
    frame = Frame((8, 24), (8, 24), (8, 24))
    class_logits = torch.log(torch.tensor([[0.9, 0.05, 0.05], [0.95, 0.03, 0.02], [0.02, 0.97, 0.01]]))
    merged, segments = panoptic_segments(class_logits, masks, frame, stuff={0}, min_score=0.5, min_visible=0.5)
    assert merged[0, ::8].tolist() == [1, 1, 2]
    assert [(s["id"], s["category_id"], s["isthing"]) for s in segments] == [(1, 0, False), (2, 1, True)]
    assert [s["score"] for s in segments] == pytest.approx([0.95, 0.97])
    apart, segments = panoptic_segments(class_logits, masks, frame, stuff={1}, min_score=0.5, min_visible=0.5)
    assert apart[0, ::8].tolist() == [1, 2, 3] and [s["isthing"] for s in segments] == [True, True, False]


def test_run_lengths_are_of_the_same_masks() -> None:
    from drivetrain.structures import rle_to_bitmask

    class_logits, mask_logits = queries()
    frame = Frame((96, 96), (80, 96), (50, 70))
    bitmaps = instance_segments(class_logits, mask_logits, frame, most=20, threshold=0.1)
    codes = instance_segments(class_logits, mask_logits, frame, most=20, threshold=0.1, mask_format="rle")
    assert len(bitmaps) >= 10 and codes.scores.equal(bitmaps.scores)
    assert codes.pred_boxes.tensor.equal(bitmaps.pred_boxes.tensor)
    for code, mask in zip(codes.pred_masks, bitmaps.pred_masks, strict=True):
        assert torch.from_numpy(rle_to_bitmask(code)).equal(mask)
    none = instance_segments(class_logits[:0], mask_logits[:0], frame, most=20, threshold=0.1, mask_format="rle")
    assert len(none) == 0 and none.pred_masks == []


def test_few_masks_are_large_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, no more than a handful of floating-point maps have the image's size."""
    class_logits, mask_logits = queries(count=50)
    sizes = []
    restore = Frame.restore

    def record(self: Frame, maps: Tensor) -> Tensor:
        sizes.append(len(maps))
        return restore(self, maps)

    monkeypatch.setattr(Frame, "restore", record)
    instance_segments(class_logits, mask_logits, Frame((96, 96), (96, 96), (96, 96)), most=100, threshold=0.0)
    assert sum(sizes) == 100 and max(sizes) <= 8
