"""Masks in all the forms in which models give them, as the compressed run lengths that COCO's evaluation takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drivetrain.errors import EvaluationError
from drivetrain.structures import PolygonMasks, bitmask_to_rle

__all__ = ["masks_to_run_lengths", "runs_of"]

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
        EvaluationError: the masks have none of these forms, or run lengths do not cover the image exactly.
    """
    if hasattr(masks, "run_lengths"):
        return [_compressed(mask) for mask in masks.run_lengths()]
    if isinstance(masks, PolygonMasks):
        return [_from_polygons(polygons, *image_size) for polygons in masks.polygons]
    bitmaps = getattr(masks, "tensor", masks)
    if isinstance(bitmaps, (Tensor, np.ndarray)):
        return [_compressed(bitmask_to_rle(bitmap)) for bitmap in _bitmaps(torch.as_tensor(bitmaps))]
    if isinstance(masks, Sequence) and all(isinstance(mask, Mapping) for mask in masks):
        return [_checked(mask) for mask in masks]
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
        return _compressed({"size": [height, width], "counts": [height * width]})
    return _compressed(mask_api.merge(mask_api.frPyObjects([p.tolist() for p in polygons], height, width)))


def _checked(mask: Mapping[str, Any]) -> dict[str, Any]:
    """Run lengths of any form in the one form; what does not cover its image would keep the comparison from ending."""
    try:
        (height, width), counts = mask["size"], mask["counts"]
        size = [int(height), int(width)]
    except (KeyError, TypeError, ValueError):
        raise EvaluationError(
            f"a run-length encoded mask is a dict with 'size' [height, width] and 'counts', not {mask!r}"
        ) from None
    runs = runs_of(counts)
    if runs is None or runs.min(initial=0) < 0:
        raise EvaluationError(f"the counts of a predicted mask of the size {size} are damaged: {counts!r:.60}")
    if runs.sum() != size[0] * size[1]:
        raise EvaluationError(
            f"the runs of a predicted mask of the size {size} add up to {runs.sum()} pixels, not to {size[0] * size[1]}"
        )
    return _compressed({"size": size, "counts": counts if isinstance(counts, (bytes, str)) else runs.tolist()})


def _compressed(mask: Mapping[str, Any]) -> dict[str, Any]:
    """Run lengths with their counts compressed, as bytes."""
    counts = mask["counts"]
    if isinstance(counts, str):
        return {"size": mask["size"], "counts": counts.encode("ascii")}
    if isinstance(counts, bytes):
        return {"size": mask["size"], "counts": counts}
    from faster_coco_eval.core import mask as mask_api

    packed: dict[str, Any] = mask_api.frPyObjects(mask, *mask["size"])
    return packed


def runs_of(counts: Any) -> np.ndarray[Any, Any] | None:
    """The run lengths, int64 (M,), of COCO's ``counts``: a list of them, or the compressed string; None if damaged.

    In the string a run is a number of 5 bits a character, the lowest first; from the fourth on it is the difference to
    the run two places before.
    """
    if not isinstance(counts, (bytes, str)):
        values = np.asarray(counts)
        return values.astype(np.int64) if values.ndim == 1 and values.dtype.kind in "iu" else None
    text = counts if isinstance(counts, bytes) else counts.encode("utf-8", "surrogatepass")
    codes = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - ord("0")
    ends = np.flatnonzero(codes & 32 == 0)  # the bit says that the number goes on
    if ((codes < 0) | (codes > 63)).any() or not len(ends) or ends[-1] != len(codes) - 1:
        return None
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 12:  # more than 60 bits
        return None
    places = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << 5 * places, starts)
    runs -= np.where(codes[ends] & 16, 1 << 5 * lengths, 0)  # a negative one
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    return runs
