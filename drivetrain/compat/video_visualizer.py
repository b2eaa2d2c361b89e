"""Drawing on the frames of a video with detectron2's ``VideoVisualizer``: an object keeps its colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from drivetrain.structures import Boxes, Instances, pairwise_iou
from drivetrain.visualization import class_color

from .visualizer import ColorMode, VisImage, Visualizer
from .visualizer_masks import as_array, as_bitmaps, as_boxes, bounding_boxes

__all__ = ["VideoVisualizer"]

Array = np.ndarray[Any, Any]

_SAME = 0.5  # IoU from which on two boxes of neighbouring frames are of one object
_REMEMBERED = 8  # frames for which an object that is not found keeps its colour


class VideoVisualizer:
    """Draws the frames of a video, one after the other.

    An object has the colour of the object of its class that its box overlaps most in the frames before, from an IoU of
    0.5 on; so objects need not be tracked for this. One that is not found keeps its colour for 8 frames.
    """

    def __init__(self, metadata: Any, instance_mode: ColorMode = ColorMode.IMAGE) -> None:
        """Begin a video.

        Args:
            metadata: of the dataset, as for :class:`~drivetrain.compat.visualizer.Visualizer`.
            instance_mode: with ``SEGMENTATION`` colours are those of the classes.
        """
        self.metadata = metadata
        self._instance_mode = ColorMode(instance_mode)
        self._things, self._segments = _Memory(), _Memory()

    def draw_instance_predictions(self, frame: Any, predictions: Instances) -> VisImage:
        """Draw all instances found in the next frame.

        Args:
            frame: (height, width, 3), RGB, 0 to 255.
            predictions: as for :meth:`~drivetrain.compat.visualizer.Visualizer.draw_instance_predictions`.
        """
        visualizer = self._visualizer(frame)
        fields = predictions.to("cpu").get_fields()
        colors = None
        if self._instance_mode is not ColorMode.SEGMENTATION and (boxes := _boxes(fields, visualizer)) is not None:
            classes = as_array(fields["pred_classes"]).tolist() if "pred_classes" in fields else [0] * len(boxes)
            colors = [class_color(number) for number in self._things.numbers(classes, boxes)]
        return visualizer.draw_instance_predictions(predictions, colors=colors)

    def draw_sem_seg(self, frame: Any, sem_seg: Any, area_threshold: int | None = None) -> VisImage:
        """Draw the class of each pixel of a frame: whole numbers (height, width); small classes may be left out."""
        return self._visualizer(frame).draw_sem_seg(sem_seg, area_threshold=area_threshold)

    def draw_panoptic_seg_predictions(
        self,
        frame: Any,
        panoptic_seg: Any,
        segments_info: Sequence[Mapping[str, Any]],
        area_threshold: int | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw the segments of the next frame, see :meth:`.visualizer.Visualizer.draw_panoptic_seg`."""
        ids, colors = as_array(panoptic_seg), None
        if self._instance_mode is not ColorMode.SEGMENTATION:
            things = [segment for segment in segments_info if segment.get("isthing", True)]
            boxes = bounding_boxes([ids == thing["id"] for thing in things])
            numbers = self._segments.numbers([int(thing["category_id"]) for thing in things], boxes)
            colors = {thing["id"]: class_color(number) for thing, number in zip(things, numbers, strict=True)}
        return self._visualizer(frame).draw_panoptic_seg(ids, segments_info, area_threshold, alpha, colors=colors)

    def _visualizer(self, frame: Any) -> Visualizer:
        return Visualizer(frame, self.metadata, instance_mode=self._instance_mode)


@dataclass
class _Object:
    """Something seen in a frame."""

    number: int
    category: int
    box: Array  # (4,), XYXY
    unseen: int = 0  # frames since


class _Memory:
    """The objects of the frames so far; each has a number of its own among those remembered."""

    def __init__(self) -> None:
        self._objects: list[_Object] = []

    def numbers(self, classes: Sequence[int], boxes: Array) -> list[int]:
        """The numbers of the objects of the next frame, given the class and the box, XYXY, of each."""
        known = self._matches(classes, boxes)
        again = set(known.values())
        for thing in self._objects:
            thing.unseen += 1
        kept = [t for i, t in enumerate(self._objects) if i not in again and t.unseen <= _REMEMBERED]
        used = {thing.number for thing in (*kept, *(self._objects[i] for i in again))}
        found = []
        for i, category in enumerate(classes):
            number = self._objects[known[i]].number if i in known else _smallest_free(used)
            used.add(number)
            found.append(_Object(number, category, boxes[i]))
        self._objects = kept + found
        return [thing.number for thing in found]

    def _matches(self, classes: Sequence[int], boxes: Array) -> dict[int, int]:
        """Place of a new object -> place of the known one that it is; the pairs with the highest IoU first."""
        if not len(boxes) or not self._objects:
            return {}
        before = np.stack([thing.box for thing in self._objects])
        overlaps = pairwise_iou(Boxes(torch.tensor(boxes)), Boxes(torch.tensor(before))).numpy()
        overlaps[np.array(classes)[:, None] != np.array([thing.category for thing in self._objects])] = 0
        matches: dict[int, int] = {}
        for flat in np.argsort(-overlaps, axis=None, kind="stable").tolist():
            new, old = divmod(flat, len(before))
            if overlaps[new, old] < _SAME:
                break
            if new not in matches and old not in matches.values():
                matches[new] = old
        return matches


def _smallest_free(used: set[int]) -> int:
    number = 0
    while number in used:
        number += 1
    return number


def _boxes(fields: Mapping[str, Any], visualizer: Visualizer) -> Array | None:
    """The boxes of predictions, XYXY, else those around their masks."""
    if "pred_boxes" in fields:
        return as_boxes(fields["pred_boxes"])[:, :4]
    if "pred_masks" in fields:
        return bounding_boxes(as_bitmaps(fields["pred_masks"], visualizer.output.height, visualizer.output.width))
    return None
