"""From polygons and run lengths to bitmaps.

Polygons are filled by the rule of the COCO tools, whose code ``faster_coco_eval`` carries, so that a mask made here has
the very pixels that evaluation counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drivetrain.errors import DatasetError

__all__ = ["polygons_to_bitmask", "rle_to_bitmask"]


def polygons_to_bitmask(
    polygons: Sequence[np.ndarray[Any, Any] | Sequence[float]], height: int, width: int
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The pixels covered by one instance's polygons, a bool array (height, width).

    Args:
        polygons: each ``[x0, y0, x1, y1, ...]`` in pixels; their union is the instance, none an empty mask.
        height: of the image, in pixels.
        width: of the image, in pixels.
    """
    if len(polygons) == 0:
        return np.zeros((height, width), dtype=bool)
    from faster_coco_eval.core import mask as mask_api

    rles = mask_api.frPyObjects([np.asarray(p, dtype=np.float64).tolist() for p in polygons], height, width)
    decoded: np.ndarray[Any, Any] = mask_api.decode(mask_api.merge(rles))
    return decoded.astype(bool)


def rle_to_bitmask(rle: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The bool array (height, width) of a COCO run-length encoding.

    Args:
        rle: ``{"size": [height, width], "counts": ...}``, the counts as a list of run lengths (column by
            column, the first run empty pixels) or as the compressed string of the COCO tools.

    Raises:
        DatasetError: an entry is missing, or the runs do not add up to the size.
    """
    try:
        (height, width), counts = rle["size"], rle["counts"]
    except (KeyError, TypeError, ValueError) as err:
        raise DatasetError(f"a run-length encoded mask is a dict with 'size' and 'counts', not {rle!r}") from err
    if isinstance(counts, (list, tuple, np.ndarray)):
        runs = np.asarray(counts, dtype=np.int64)
        if runs.min(initial=0) < 0 or runs.sum() != height * width:
            raise DatasetError(
                f"the runs of a [{height}, {width}] mask add up to {runs.sum()}, not to {height * width} pixels"
            )
        values = np.arange(len(runs)) % 2 == 1
        return np.asarray(np.repeat(values, runs).reshape((width, height)).T, dtype=np.bool_)
    from faster_coco_eval.core import mask as mask_api

    decoded: np.ndarray[Any, Any] = mask_api.decode({"size": [height, width], "counts": counts})
    return decoded.astype(bool)
