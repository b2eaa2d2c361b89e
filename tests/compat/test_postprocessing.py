"""Predictions in the pixels of another image, by hand."""

from __future__ import annotations

import pytest
import torch

from drivetrain.compat.postprocessing import detector_postprocess, sem_seg_postprocess
from drivetrain.compat.roi_masks import ROIMasks
from drivetrain.structures import Boxes, Instances


def predictions() -> Instances:
    boxes = Boxes(torch.tensor([[1.0, 2.0, 5.0, 4.0], [2.0, 2.0, 2.0, 6.0], [-3.0, 0.0, 30.0, 30.0]]))
    return Instances((10, 20), pred_boxes=boxes, scores=torch.tensor([0.9, 0.8, 0.7]))


def test_boxes_are_scaled_clipped_and_kept_unless_empty() -> None:
    results = predictions()
    found = detector_postprocess(results, 20, 60)
    assert found.pred_boxes.tensor.tolist() == [[3, 4, 15, 8], [0, 0, 60, 20]] and found.image_size == (20, 60)
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])
    assert results.pred_boxes.tensor[0].tolist() == [1, 2, 5, 4] and len(results) == 3


def test_proposals_too() -> None:
    proposals = Instances((10, 10), proposal_boxes=Boxes(torch.tensor([[1.0, 1.0, 2.0, 3.0]])))
    assert detector_postprocess(proposals, 20, 20).proposal_boxes.tensor.tolist() == [[2, 2, 4, 6]]


@pytest.mark.parametrize("form", [lambda m: m[:, None], lambda m: m, ROIMasks])
def test_masks_of_boxes_become_those_of_the_image(form: object) -> None:
    results = predictions()
    masks = torch.zeros(3, 2, 2)
    masks[0, :, 1] = 1.0  # the right half of the first box
    results.pred_masks = form(masks)  # type: ignore[operator]
    found = detector_postprocess(results, 20, 60).pred_masks
    assert found.shape == (2, 20, 60) and found.dtype == torch.bool
    rows, columns = found[0].nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 7, 9, 14) and not found[1].any()
    assert detector_postprocess(results, 20, 60, mask_threshold=1.5).pred_masks.sum() == 0


def test_keypoints_keep_their_score() -> None:
    results = predictions()
    results.pred_keypoints = torch.tensor([[[2.0, 3.0, 0.5]]]).repeat(3, 1, 1)
    assert detector_postprocess(results, 20, 60).pred_keypoints[0].tolist() == [[6.0, 6.0, 0.5]]
    assert results.pred_keypoints[0].tolist() == [[2.0, 3.0, 0.5]]


def test_scores_of_classes_without_the_padding() -> None:
    scores = torch.zeros(1, 4, 4)
    scores[:, :2, :3] = 1.0
    found = sem_seg_postprocess(scores, (2, 3), 4, 6)
    assert found.shape == (1, 4, 6) and bool((found == 1).all())
    assert not (sem_seg_postprocess(scores, (4, 4), 4, 6) == 1).all()
