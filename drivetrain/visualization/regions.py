"""Label maps drawn on their image: the classes of a semantic segmentation, the segments of a panoptic one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .drawing import draw_instances

__all__ = ["draw_label_map", "draw_regions"]

Array = np.ndarray[Any, Any]

_MOST_REGIONS = 200  # that are drawn one by one


def draw_label_map(
    image: Array,
    labels: Array,
    class_names: Sequence[str] = (),
    *,
    ignore_label: int | None = 255,
    min_side: int = 480,
) -> Array:
    """Draw the class of each pixel on a copy of an image.

    Args:
        image: uint8 array (height, width, 3), RGB.
        labels: whole numbers (height, width).
        class_names: class index -> name.
        ignore_label: pixels with this label are left as they are; None: there is none.
        min_side: a smaller image is enlarged until its shorter side has this many pixels; 0 keeps the size.

    Returns:
        uint8 array (H, W, 3).

    Raises:
        ValueError: the labels are of another size than the image.
    """
    present = [label for label in np.unique(labels).tolist() if label != ignore_label]
    return draw_regions(image, labels, {label: label for label in present}, class_names, min_side=min_side)


def draw_regions(
    image: Array,
    ids: Array,
    classes: Mapping[int, int],
    class_names: Sequence[str] = (),
    *,
    min_side: int = 480,
) -> Array:
    """Fill and outline regions of a copy of an image in the colours of their classes, each with its class's name.

    Args:
        image: uint8 array (height, width, 3), RGB.
        ids: the region of each pixel, whole numbers (height, width).
        classes: region -> class index; other regions are left as they are. Beyond 200, the smallest are left out.
        class_names: class index -> name.
        min_side: a smaller image is enlarged until its shorter side has this many pixels; 0 keeps the size.

    Returns:
        uint8 array (H, W, 3).

    Raises:
        ValueError: the map is of another size than the image.
    """
    if ids.shape != image.shape[:2]:
        raise ValueError(
            f"this label map is for an image of height x width {ids.shape[0]}x{ids.shape[1]}, but one of "
            f"{image.shape[0]}x{image.shape[1]} was given"
        )
    found, counts = np.unique(ids, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    regions = [i for i in found[order].tolist() if i in classes][:_MOST_REGIONS]
    return draw_instances(
        image,
        boxes=[_spot(ids == i) for i in regions],
        classes=[classes[i] for i in regions],
        class_names=class_names,
        masks=(ids == i for i in regions),
        min_side=min_side,
        frames=False,
    )


def _spot(mask: Array) -> list[float]:
    """A box of one pixel, XYXY, in the middle of the longest row of pixels of a mask that has any."""
    padded = np.pad(mask, ((0, 0), (1, 1))).astype(np.int8)
    steps = np.diff(padded, axis=1)
    (rows, starts), (_, ends) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    lengths = ends - starts
    ties = np.flatnonzero(lengths == lengths.max())
    longest = int(ties[len(ties) // 2])
    x, y = (int(starts[longest]) + int(ends[longest])) // 2, int(rows[longest])
    return [float(x), float(y), float(x + 1), float(y + 1)]
