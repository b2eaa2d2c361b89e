"""The contract between models and everything else. Any ``nn.Module`` that keeps it can be trained and evaluated.

A **batch** is a list with one dictionary per image:

* ``image``: uint8 tensor (C, H, W), already resized, channels in the order of ``INPUT.FORMAT``, on any device;
* ``height``, ``width``: the size of the original image in pixels, in which outputs are given;
* ``instances`` (training): Instances of image size (H, W) with ``gt_boxes`` (Boxes, XYXY in pixels of ``image``) and
  ``gt_classes`` (int64, from 0), and ``gt_masks``, ``gt_keypoints`` where the dataset has them;
* ``image_id``, ``file_name``: whose image it is.

In training mode ``model(batch)`` returns a dictionary of scalar tensors, named ``loss_...``; their sum is minimised.
In evaluation mode it returns a list with one dictionary per image. A detector's has ``instances``: Instances of
image size (``height``, ``width``) with ``pred_boxes`` (Boxes, XYXY in pixels of the original image), ``scores``
(float, from 0 to 1, descending) and ``pred_classes`` (int64, from 0), on the model's device.

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
