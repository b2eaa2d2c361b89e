"""The contract between models and everything else. Any ``nn.Module`` that keeps it can be trained and evaluated.

A **batch** is a list with one dictionary per image:

* ``image``: uint8 tensor (C, H, W), already resized, channels in the order of ``INPUT.FORMAT``, on any device, in any
  memory layout (those of the mapper have their channels side by side, so that ``view`` fails: use ``reshape``);
* ``height``, ``width``: the size of the original image in pixels, in which outputs are given;
* ``image_id``, ``file_name``: whose image it is.

For training it has what the model learns from, of:

* ``instances``: Instances of image size (H, W) with ``gt_boxes`` (Boxes, XYXY in pixels of ``image``) and
  ``gt_classes`` (int64, from 0), and, for models that learn them, ``gt_masks`` (PolygonMasks or BitMasks) and
  ``gt_keypoints`` (Keypoints of (N, K, 3): x and y in pixels of ``image``, visibility);
* ``sem_seg``: the class of each pixel, a tensor (H, W) of whole numbers (uint8 or int64) in which 255 means that it is
  not known and does not count;
* ``class_id``: the class of the whole image, an int from 0.

In training mode ``model(batch)`` returns a dictionary of scalar tensors, named ``loss_...``; their sum is minimised.
In evaluation mode it returns a list with one dictionary per image, on the model's device, of:

* ``instances``: Instances of image size (``height``, ``width``) with ``pred_boxes`` (Boxes, XYXY in pixels of the
  original image), ``scores`` (float, from 0 to 1, descending) and ``pred_classes`` (int64, from 0); where the model
  predicts them, ``pred_masks`` (bool, (N, ``height``, ``width``); with TEST.MASK_FORMAT "rle" a list of N run lengths,
  ``{"size": [height, width], "counts": str}``) and ``pred_keypoints`` (float, (N, K, 3): x and y in pixels of the
  original image, and a score above 0);
* ``sem_seg``: scores of each class and pixel, float, (K, ``height``, ``width``); the highest is the class. Resizing,
  letterboxing and padding are undone;
* ``panoptic_seg``: a tuple of an int32 tensor (``height``, ``width``) with the id of each pixel's segment, 0 for none,
  and a list with one dictionary per segment: ``id`` (from 1), ``category_id`` (from 0), ``isthing`` (bool), ``score``;
* ``classes``: the probability of each class for the whole image, float, (K,).

The model moves images and targets to its own device; normalising and padding are its business too.
"""

from __future__ import annotations

from typing import Any

import torch

from drivetrain.errors import ModelError

__all__ = ["Batch", "Losses", "Outputs", "check_losses", "check_outputs"]

Batch = list[dict[str, Any]]
"""One dictionary per image."""
Losses = dict[str, torch.Tensor]
"""Loss name to scalar tensor."""
Outputs = list[dict[str, Any]]
"""One dictionary of predictions per image."""


def check_losses(losses: Any) -> None:
    """Check what a model returned in training mode; no value is read, so nothing waits for the device.

    Raises:
        ModelError: it is not a non-empty dictionary of scalar tensors; the message names what was returned.
    """
    wanted = "a model in training mode returns a dict of scalar loss tensors"
    if not isinstance(losses, dict):
        raise ModelError(f"{wanted}, but this one returned {_described(losses)}")
    if not losses:
        raise ModelError(f"{wanted}, but this one returned an empty dict")
    for name, value in losses.items():
        if not isinstance(value, torch.Tensor) or value.ndim != 0:
            hint = ": reduce it with .sum() or .mean()" if isinstance(value, torch.Tensor) else ""
            raise ModelError(f"{wanted}, but its {name!r} is {_described(value)}{hint}")


def check_outputs(outputs: Any, batch: Batch) -> None:
    """Check what a model returned in evaluation mode for ``batch``.

    Raises:
        ModelError: it is not a list with one dictionary per image.
    """
    wanted = f"a model in evaluation mode returns one dict per image, {len(batch)} here"
    if not isinstance(outputs, (list, tuple)):
        raise ModelError(f"{wanted}, but this one returned {_described(outputs)}")
    if len(outputs) != len(batch):
        raise ModelError(f"{wanted}, but this one returned {len(outputs)}")
    for i, output in enumerate(outputs):
        if not isinstance(output, dict):
            raise ModelError(f"{wanted}, but entry {i} is {_described(output)}")


def _described(value: Any) -> str:
    """What a value is, in a few words."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, dict):
        return f"a dict with the keys {sorted(map(str, value))}"
    if isinstance(value, (list, tuple)):
        kinds = sorted({type(v).__name__ for v in value})
        return f"a {type(value).__name__} of {len(value)} ({', '.join(kinds) or 'empty'})"
    return f"{value!r} (a {type(value).__name__})"
