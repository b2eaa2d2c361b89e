"""Masks in all the forms in which models give them, as the compressed run lengths that COCO's evaluation takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drivetrain.errors import EvaluationError
from drivetrain.structures import PolygonMasks, bitmask_to_rle

__all__ = ["masks_to_run_lengths"]

_PIXELS = 8_000_000  # of the bitmaps that are brought over from a device at a time


def masks_to_run_lengths(masks: Any, image_size: tuple[int, int]) -> list[dict[str, Any]]:
    """N masks as COCO's compressed run lengths; bitmaps are made and read a few at a time.

    Args:
        masks: bitmaps (N, height, width), as a tensor, an array or BitMasks (of numbers that are not whole, those above
            0.5 are set); PolygonMasks; what has a method ``run_lengths``, as RoiMasks; or a sequence of N dicts
            ``{"size": [height, width], "counts": ...}`` with the counts as a list of run lengths or as COCO's
            compressed string.
        image_size: (height, width) of the image, which polygons need.

    Returns:
        One dict per mask: ``size`` [height, width] and ``counts``, bytes.

    Raises:
        EvaluationError: the masks have none of these forms.
    """
    if hasattr(masks, "run_lengths"):
        masks = masks.run_lengths()
    elif isinstance(masks, PolygonMasks):
        return [_from_polygons(polygons, *image_size) for polygons in masks.polygons]
    bitmaps = getattr(masks, "tensor", masks)
    if isinstance(bitmaps, (Tensor, np.ndarray)):
        return [_one_form(bitmask_to_rle(bitmap)) for bitmap in _bitmaps(torch.as_tensor(bitmaps))]
    if isinstance(masks, Sequence) and all(isinstance(mask, Mapping) for mask in masks):
        return [_one_form(mask) for mask in masks]
    raise EvaluationError(
        "predicted masks are bitmaps (N, height, width), BitMasks, RoiMasks, PolygonMasks or run lengths "
        f"{{'size', 'counts'}}, not {type(masks).__name__}"
    )


def _bitmaps(masks: Tensor) -> Iterator[np.ndarray[Any, Any]]:
    """Each of (N, height, width) masks as a bool array."""
    if masks.ndim != 3 or 0 in masks.shape[1:]:
        raise EvaluationError(f"predicted masks have the shape (N, height, width), not {tuple(masks.shape)}")
    together = max(1, _PIXELS // (masks.shape[1] * masks.shape[2]))
    for part in torch.split(masks.detach(), together):
        yield from (part > 0.5 if part.is_floating_point() else part != 0).cpu().numpy()


def _from_polygons(polygons: Sequence[np.ndarray[Any, Any]], height: int, width: int) -> dict[str, Any]:
    """One instance, the union of its polygons."""
    from faster_coco_eval.core import mask as mask_api

    if not polygons:
        return _one_form({"size": [height, width], "counts": [height * width]})
    return _one_form(mask_api.merge(mask_api.frPyObjects([p.tolist() for p in polygons], height, width)))


def _one_form(mask: Mapping[str, Any]) -> dict[str, Any]:
    """Run lengths with their counts compressed, as bytes."""
    try:
        (height, width), counts = mask["size"], mask["counts"]
        size = [int(height), int(width)]
    except (KeyError, TypeError, ValueError):
        raise EvaluationError(
            f"a run-length encoded mask is a dict with 'size' [height, width] and 'counts', not {mask!r}"
        ) from None
    if isinstance(counts, (bytes, str)):
        return {"size": size, "counts": counts.encode("ascii") if isinstance(counts, str) else counts}
    from faster_coco_eval.core import mask as mask_api

    runs = np.asarray(counts, dtype=np.int64)
    if runs.min(initial=0) < 0 or runs.sum() != size[0] * size[1]:
        raise EvaluationError(f"the runs of a predicted mask of the size {size} add up to {runs.sum()} pixels")
    packed: dict[str, Any] = mask_api.frPyObjects({"size": size, "counts": runs.tolist()}, *size)
    return packed
