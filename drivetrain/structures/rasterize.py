"""From polygons and run lengths to bitmaps, and back to run lengths.

Polygons are filled by the rule of the COCO tools, whose code ``faster_coco_eval`` carries, so that a mask made here has
the very pixels that evaluation counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drivetrain.errors import DatasetError

__all__ = ["bitmask_to_rle", "polygons_to_bitmask", "rle_to_bitmask"]


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


def bitmask_to_rle(
    bitmap: np.ndarray[Any, np.dtype[np.bool_]],
    size: tuple[int, int] | None = None,
    corner: tuple[int, int] = (0, 0),
) -> dict[str, Any]:
    """The compressed COCO run lengths of a bitmap, ``{"size": [height, width], "counts": str}``.

    The bitmap may be a part of the image, for the time that this takes grows with its own size only.

    Args:
        bitmap: bool, shape (h, w).
        size: (height, width) of the image; the bitmap's own by default.
        corner: row and column of the image where the bitmap begins.
    """
    from faster_coco_eval.core import mask as mask_api

    height, width = size or bitmap.shape
    rows, columns = (np.flatnonzero(bitmap.any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        counts = [height * width]
    else:
        inside = bitmap[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        starts, ends = _runs(inside, height, corner[0] + int(rows[0]), corner[1] + int(columns[0]))
        changes = np.stack((starts, ends), axis=1).reshape(-1)
        counts = np.diff(changes, prepend=0, append=height * width).tolist()
        counts = counts if counts[-1] else counts[:-1]
    code: dict[str, Any] = mask_api.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    text = code["counts"]
    return {"size": [int(height), int(width)], "counts": text.decode("ascii") if isinstance(text, bytes) else text}


def _runs(bitmap: np.ndarray[Any, Any], height: int, top: int, left: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Where runs of set pixels start and end, counted column by column in an image of that height."""
    padded = np.zeros((bitmap.shape[1], bitmap.shape[0] + 2), dtype=np.int8)
    padded[:, 1:-1] = bitmap.T
    steps = np.diff(padded, axis=1)
    starts, ends = (
        (left + column) * height + top + row for column, row in (np.nonzero(steps == 1), np.nonzero(steps == -1))
    )
    apart = starts[1:] != ends[:-1]  # a run to the foot of a column goes on at the head of the next
    return starts[np.append(True, apart)], ends[np.append(apart, True)]
