"""Whatever a model puts out, drawn on its image: objects, segments, a class for each pixel, a class for the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .labels import printable
from .predictions import draw_predictions
from .regions import draw_label_map, draw_regions
from .sheet import captioned

__all__ = ["draw_output", "top_classes"]

Array = np.ndarray[Any, Any]
_SHOWN = 3  # classes of an image


def draw_output(
    image: Array,
    output: Mapping[str, Any],
    class_names: Sequence[str] = (),
    *,
    score_threshold: float = 0.5,
    min_side: int = 480,
) -> Array:
    """Draw one image's output on a copy of the image; see :mod:`drivetrain.modeling.contract` for its keys.

    Args:
        image: uint8 array (height, width, 3), RGB.
        output: ``panoptic_seg``, ``instances``, ``sem_seg`` or ``classes``; the first of these that is there is drawn.
        class_names: class index -> name.
        score_threshold: objects with a lower score are not drawn.
        min_side: a smaller image is enlarged until its shorter side has this many pixels; 0 keeps the size.

    Returns:
        uint8 array (H, W, 3).

    Raises:
        ValueError: the output has none of these keys, or is for an image of another size.
    """
    if output.get("panoptic_seg") is not None:
        ids, segments = output["panoptic_seg"]
        classes = {segment["id"]: segment["category_id"] for segment in segments}
        return draw_regions(image, ids.cpu().numpy(), classes, class_names, min_side=min_side)
    if "instances" in output:
        found = output["instances"]
        return draw_predictions(image, found, class_names, score_threshold=score_threshold, min_side=min_side)
    if "sem_seg" in output:
        labels = output["sem_seg"].argmax(dim=0).cpu().numpy()
        return draw_label_map(image, labels, class_names, ignore_label=None, min_side=min_side)
    if "classes" in output:
        best = top_classes(output["classes"], class_names, _SHOWN)
        text = ", ".join(f"{name} {score:.0%}" for name, score in best)
        return captioned(image, printable(text, most=120), min_side=min_side)
    raise ValueError(f"nothing of this output can be drawn: its keys are {', '.join(output) or 'none'}")


def top_classes(scores: Any, class_names: Sequence[str] = (), count: int = 5) -> list[tuple[str, float]]:
    """The likeliest classes of an image with their scores, best first.

    Args:
        scores: a tensor (K,).
        class_names: class index -> name; a class without one is called by its number.
        count: how many at most.
    """
    best, order = scores.cpu().topk(min(count, len(scores)))
    names = [class_names[i] if i < len(class_names) else str(i) for i in order.tolist()]
    return list(zip(names, best.tolist(), strict=True))
