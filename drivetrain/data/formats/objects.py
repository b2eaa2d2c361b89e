"""Objects gathered from many small annotation files, checked together and made into records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from drivetrain.structures import BoxMode

from .coco_file import Section
from .coco_shapes import FloatArray, check_boxes, check_keypoints, check_segmentations
from .defects import DefectReport

__all__ = ["ObjectTable"]

Record = dict[str, Any]


class ObjectTable:
    """Images and the objects in them, as a format's reader finds them; the checks are those of COCO files.

    Args:
        report: gets what is wrong.
    """

    def __init__(self, report: DefectReport) -> None:
        self._report = report
        self._images: list[Record] = []
        self._image_of: list[int] = []
        self._places: list[str] = []
        self._entries: list[dict[str, Any]] = []

    def add_image(self, file_name: str, image_id: int | str, height: int, width: int) -> None:
        """Begin an image; what is added from now on lies in it.

        Args:
            file_name: its path.
            image_id: its own.
            height: in pixels.
            width: in pixels.
        """
        image = {"file_name": file_name, "image_id": image_id, "height": height, "width": width}
        self._images.append({**image, "annotations": []})

    def add(self, where: str, label: int, box: list[float], more: Mapping[str, Any]) -> None:
        """Add an object of the image that was begun last.

        Args:
            where: its place in the files, for messages.
            label: its class, 0 or more.
            box: x, y, width, height in pixels; need not lie in the image.
            more: ``segmentation`` (polygons in pixels), ``keypoints`` (flat, in pixels from the image's corner) and any
                other key, which are kept as they are.
        """
        self._entries.append({"category_id": label, "bbox": box, **more})
        self._places.append(where)
        self._image_of.append(len(self._images) - 1)

    def records(self, mode: BoxMode = BoxMode.XYWH_ABS, keypoints: int | None = None) -> list[Record]:
        """One record for each image, in the order of adding, with the objects that pass every check.

        Boxes are cut to their images; those without an area, and outlines without a point, are left out and reported.

        Args:
            mode: of the boxes in the records, XYWH_ABS or XYXY_ABS.
            keypoints: how many each object with keypoints must have; None: as most have.
        """
        section = _PlacedSection(self._entries, self._places, self._report)
        every = np.array([(r["width"], r["height"]) for r in self._images], dtype=np.float64).reshape(-1, 2)
        boxes = check_boxes(section, every[np.array(self._image_of, dtype=np.int64)])
        segmentations = check_segmentations(section, every[np.array(self._image_of, dtype=np.int64)])
        points = check_keypoints(section, keypoints)
        self._fill(section, _in_mode(boxes, mode), mode, segmentations, points)
        return self._images

    def _fill(self, section: Section, boxes: FloatArray, mode: BoxMode, shapes: list[Any], points: list[Any]) -> None:
        rows = zip(section.ok.tolist(), self._image_of, boxes.tolist(), section.entries, shapes, points, strict=True)
        for ok, image, box, entry, shape, point in rows:
            if not ok:
                continue
            made = {**entry, "iscrowd": int(entry.get("iscrowd", 0)), "bbox": box, "bbox_mode": mode}
            made.pop("segmentation", None)
            made.pop("keypoints", None)
            if shape is not None:
                made["segmentation"] = shape
            if point is not None:
                made["keypoints"] = point
            self._images[image]["annotations"].append(made)


class _PlacedSection(Section):
    """Entries that come from several files, each with its own place in one of them."""

    def __init__(self, entries: list[dict[str, Any]], places: list[str], report: DefectReport) -> None:
        super().__init__("annotations", entries, report)
        self._where = places

    def where(self, i: int) -> str:
        return self._where[i]


def _in_mode(boxes: FloatArray, mode: BoxMode) -> FloatArray:
    if mode == BoxMode.XYXY_ABS:
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return boxes
