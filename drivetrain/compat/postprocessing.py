"""From predictions in the image that a model saw to those in the original one, for architectures of one's own."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from drivetrain.structures import Boxes, Instances

from .roi_masks import ROIMasks

__all__ = ["detector_postprocess", "sem_seg_postprocess"]


def detector_postprocess(
    results: Instances, output_height: int, output_width: int, mask_threshold: float = 0.5
) -> Instances:
    """Detections in pixels of an image of another size; those whose box is empty there drop out.

    Args:
        results: of one image, in the pixels of ``results.image_size``; they stay as they are. ``pred_boxes`` (or
            ``proposal_boxes``) are scaled and clipped. ``pred_masks`` are :class:`ROIMasks`, or (N, M, M) or
            (N, 1, M, M) from 0 to 1 within the boxes, and become bool (N, height, width). ``pred_keypoints`` are
            (N, K, 3). All other fields are kept.
        output_height: of the result, in pixels.
        output_width: of the result, in pixels.
        mask_threshold: from this score on a pixel belongs to a mask.
    """
    scale_x, scale_y = output_width / results.image_size[1], output_height / results.image_size[0]
    fields = results.get_fields()
    name = "pred_boxes" if "pred_boxes" in fields else "proposal_boxes"
    boxes = Boxes(fields[name].tensor.clone())
    boxes.scale(scale_x, scale_y)
    boxes.clip((output_height, output_width))
    found = Instances((output_height, output_width), **{**fields, name: boxes})[boxes.nonempty()]
    if found.has("pred_masks"):
        masks = _of_boxes(found.pred_masks)
        found.pred_masks = masks.to_bitmasks(found.get(name), output_height, output_width, mask_threshold).tensor
    if found.has("pred_keypoints"):
        found.pred_keypoints = found.pred_keypoints * found.pred_keypoints.new_tensor((scale_x, scale_y, 1.0))
    return found


def _of_boxes(masks: Any) -> ROIMasks:
    if isinstance(masks, ROIMasks):
        return masks
    return ROIMasks(masks[:, 0] if masks.ndim == 4 else masks)


def sem_seg_postprocess(result: Tensor, img_size: tuple[int, int], output_height: int, output_width: int) -> Tensor:
    """Scores of classes in pixels of an image of another size, bilinearly.

    Args:
        result: (C, H, W), of a padded image.
        img_size: (height, width) of that image without its padding.
        output_height: of the result, in pixels.
        output_width: of the result, in pixels.
    """
    part = result[None, :, : img_size[0], : img_size[1]]
    return interpolate(part, size=(output_height, output_width), mode="bilinear", align_corners=False)[0]
