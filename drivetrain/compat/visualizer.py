"""Drawing with detectron2's ``Visualizer``: its calls, and pictures made by :mod:`drivetrain.visualization`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np

from drivetrain.data.catalog import Metadata
from drivetrain.data.formats.label_maps import read_label_map, read_panoptic_map
from drivetrain.structures import BoxMode, Instances
from drivetrain.visualization import class_color

from .visualizer_canvas import Color, VisImage, as_rgb
from .visualizer_masks import as_array, as_boxes, as_points, bounding_boxes
from .visualizer_shapes import ShapeDrawer
from .visualizer_texts import text_labels

__all__ = ["ColorMode", "VisImage", "Visualizer"]

Array = np.ndarray[Any, Any]

_KEYPOINT_THRESHOLD = 0.05
_GREY = (0.299, 0.587, 0.114)  # share of R, G, B in what the eye calls bright (ITU-R BT.601)
_SHADES = (1.0, 0.8, 1.2, 0.9, 1.1)


class ColorMode(Enum):
    """How instances get their colours."""

    IMAGE = 0
    """One for each instance of an image, laid on thinly."""
    SEGMENTATION = 1
    """One for each class, ``thing_colors`` of the metadata if there are any, laid on thickly."""
    IMAGE_BW = 2
    """As ``IMAGE``, and the image is grey where there is no mask, or where there are no masks, no box."""


class Visualizer(ShapeDrawer):
    """Draws predictions, annotations and shapes on an image; every method returns the picture, :attr:`output`.

    Colours are the same each time, not drawn by chance. Colours are given as R, G, B in 0 to 1, or by name.

    Attributes:
        img: the image, uint8 (height, width, 3), RGB.
        metadata: of the dataset: ``thing_classes``, ``stuff_classes``, ``thing_colors``, ``stuff_colors``,
            ``keypoint_names``, ``keypoint_connection_rules`` are used, if they are there.
        output: the picture, a :class:`VisImage`.
    """

    def __init__(
        self,
        img_rgb: Any,
        metadata: Any = None,
        scale: float = 1.0,
        instance_mode: ColorMode = ColorMode.IMAGE,
    ) -> None:
        """Start from an image.

        Args:
            img_rgb: (height, width, 3), RGB, 0 to 255; it is not changed.
            metadata: from ``MetadataCatalog``, or anything with such attributes.
            scale: of the picture against the image.
            instance_mode: how instances are coloured.

        Raises:
            ValueError: the image has another shape, or the scale is not above 0.
        """
        super().__init__(img_rgb, scale)
        self.metadata = Metadata() if metadata is None else metadata
        self._instance_mode = ColorMode(instance_mode)

    def draw_instance_predictions(
        self, predictions: Instances, jittering: bool = True, *, colors: Sequence[Any] | None = None
    ) -> VisImage:
        """Draw all instances that a model found: threshold them before, if only some should be seen.

        Args:
            predictions: on any device, with any of ``pred_boxes``, ``scores``, ``pred_classes``, ``pred_masks``,
                ``pred_keypoints``, in pixels of the image.
            jittering: with ``SEGMENTATION``, whether instances of a class differ a little in brightness.
            colors: N colours, instead of those of the mode.
        """
        fields = predictions.to("cpu").get_fields()
        classes = _indices(fields.get("pred_classes"))
        boxes, masks = fields.get("pred_boxes"), fields.get("pred_masks")
        bitmaps = None if masks is None else self._bitmaps(masks)
        by_class = self._instance_mode is ColorMode.SEGMENTATION
        if colors is None and by_class and classes is not None:
            colors = self._class_colors(classes, jittering)
        if self._instance_mode is ColorMode.IMAGE_BW:
            self._grey_outside(bitmaps, boxes)
        return self.overlay_instances(
            boxes=boxes,
            masks=bitmaps,
            labels=text_labels(classes, fields.get("scores"), self._known("thing_classes")),
            keypoints=fields.get("pred_keypoints"),
            assigned_colors=colors,
            alpha=0.8 if by_class else 0.5,
        )

    def draw_dataset_dict(self, dic: Mapping[str, Any]) -> VisImage:
        """Draw the annotations of a dataset record, and its semantic or panoptic label map if it has one.

        Raises:
            DatasetError: a mask cannot be read.
            UnreadableImageError: a label map cannot be read.
        """
        annotations: Sequence[Mapping[str, Any]] = dic.get("annotations") or ()
        if annotations:
            self._draw_annotations(annotations)
        if dic.get("sem_seg") is not None:
            self.draw_sem_seg(dic["sem_seg"], area_threshold=0, alpha=0.5)
        elif dic.get("sem_seg_file_name"):
            self.draw_sem_seg(read_label_map(dic["sem_seg_file_name"]), area_threshold=0, alpha=0.5)
        if dic.get("pan_seg") is not None:
            self.draw_panoptic_seg(dic["pan_seg"], dic["segments_info"], area_threshold=0, alpha=0.5)
        elif dic.get("pan_seg_file_name"):
            ids = read_panoptic_map(dic["pan_seg_file_name"])
            self.draw_panoptic_seg(ids, dic["segments_info"], area_threshold=0, alpha=0.5)
        return self.output

    def draw_sem_seg(self, sem_seg: Any, area_threshold: int | None = None, alpha: float = 0.8) -> VisImage:
        """Draw the class of each pixel; pixels of no class in ``stuff_classes`` stay as they are.

        Args:
            sem_seg: whole numbers (height, width), array or tensor.
            area_threshold: classes with fewer pixels are left out.
            alpha: how thickly, 0 to 1.
        """
        labels = as_array(sem_seg)
        names = list(self._known("stuff_classes") or self._known("thing_classes") or ())
        found, counts = np.unique(labels, return_counts=True)
        chosen = [
            int(found[i])
            for i in np.argsort(-counts, kind="stable")
            if counts[i] >= (area_threshold or 0) and 0 <= found[i] < (len(names) or 255)
        ]
        return self._draw_regions(
            [labels == label for label in chosen],
            [names[label] if names else f"class {label}" for label in chosen],
            [self._color("stuff_colors", label) for label in chosen],
            alpha,
        )

    def draw_panoptic_seg(
        self,
        panoptic_seg: Any,
        segments_info: Sequence[Mapping[str, Any]] | None,
        area_threshold: int | None = None,
        alpha: float = 0.7,
        *,
        colors: Mapping[int, Any] | None = None,
    ) -> VisImage:
        """Draw the segments of a panoptic segmentation.

        Args:
            panoptic_seg: the segment of each pixel, whole numbers (height, width), array or tensor.
            segments_info: dicts with ``id``, ``category_id`` and ``isthing``, maybe ``score``. None: ids are
                ``category * label_divisor + number``, and ``thing_dataset_id_to_contiguous_id`` of the metadata says
                which categories are things.
            area_threshold: segments with fewer pixels are left out.
            alpha: how thickly, 0 to 1.
            colors: segment id -> colour, for segments that shall have another than that of the mode.
        """
        ids = as_array(panoptic_seg)
        segments = self._segments_of(ids) if segments_info is None else segments_info
        masks = [ids == segment["id"] for segment in segments]
        areas = np.array([mask.sum() for mask in masks], dtype=int)
        order = [i for i in np.argsort(-areas, kind="stable").tolist() if areas[i] >= max(area_threshold or 0, 1)]
        if self._instance_mode is ColorMode.IMAGE_BW:
            self._grey_outside(masks, None)
        own = {} if colors is None else {i: as_rgb(color) for i, color in colors.items()}
        return self._draw_regions(
            [masks[i] for i in order],
            [self._segment_text(segments[i]) for i in order],
            [own.get(segments[i]["id"]) or self._segment_color(segments[i], i) for i in order],
            alpha,
        )

    draw_panoptic_seg_predictions = draw_panoptic_seg

    def overlay_instances(
        self,
        *,
        boxes: Any = None,
        labels: Sequence[str] | None = None,
        masks: Any = None,
        keypoints: Any = None,
        assigned_colors: Sequence[Any] | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw N instances.

        Args:
            boxes: ``Boxes``, an array or tensor (N, 4), XYXY; or turned ones, see :meth:`overlay_rotated_instances`.
            labels: N texts.
            masks: N masks: ``BitMasks``, ``PolygonMasks``, ``RoiMasks``, bool (N, height, width), or a list of
                bitmaps, lists of polygons or run lengths.
            keypoints: ``Keypoints``, an array or tensor (N, K, 3): X, Y and a score or visibility.
            assigned_colors: N colours.
            alpha: how thickly masks are filled, 0 to 1.

        Raises:
            ValueError: the numbers of these differ, or something has another shape.
        """
        given = None if boxes is None else as_boxes(boxes)
        if given is not None and given.shape[1] == 5:
            return self.overlay_rotated_instances(given, labels, assigned_colors)
        bitmaps = None if masks is None else self._bitmaps(masks)
        points = None if keypoints is None or not len(keypoints) else as_points(keypoints, _KEYPOINT_THRESHOLD)
        count = _count(boxes=given, masks=bitmaps, keypoints=points, labels=labels, assigned_colors=assigned_colors)
        colors = (
            [class_color(i) for i in range(count)] if assigned_colors is None else list(map(as_rgb, assigned_colors))
        )
        anchors = given if given is not None else _anchors(bitmaps, points)
        if not count or anchors is None:
            return self.output
        sizes = (anchors[:, 2] - anchors[:, 0]) * (anchors[:, 3] - anchors[:, 1])
        for i in np.argsort(-sizes, kind="stable") if bitmaps is not None else ():
            self.output.fill(bitmaps[i], colors[i], colors[i], alpha)  # type: ignore[index]
        for person in points if points is not None else ():
            self._connect(person)
        texts = [""] * count if labels is None else [str(label) for label in labels]
        self.output.instances(anchors, texts, colors, keypoints=points, frames=given is not None)
        return self.output

    def overlay_rotated_instances(
        self, boxes: Any, labels: Sequence[str] | None = None, assigned_colors: Sequence[Any] | None = None
    ) -> VisImage:
        """Draw N turned boxes (N, 5): centre X, Y, width, height, and degrees counterclockwise."""
        given = as_boxes(boxes)
        count = _count(boxes=given, labels=labels, assigned_colors=assigned_colors)
        for i in np.argsort(-given[:, 2] * given[:, 3], kind="stable") if count else ():
            color = class_color(int(i)) if assigned_colors is None else assigned_colors[i]
            self.draw_rotated_box_with_label(given[i], edge_color=color, label=labels[i] if labels else None)
        return self.output

    def draw_and_connect_keypoints(self, keypoints: Any) -> VisImage:
        """Draw the keypoints (K, 3) of one instance, joined as ``keypoint_connection_rules`` of the metadata say."""
        return self.overlay_instances(keypoints=as_array(keypoints)[None])

    def _draw_annotations(self, annotations: Sequence[Mapping[str, Any]]) -> None:
        classes = [int(annotation["category_id"]) for annotation in annotations]
        crowds = [annotation.get("iscrowd") for annotation in annotations]
        has_masks = any(annotation.get("segmentation") for annotation in annotations)
        by_class = self._instance_mode is ColorMode.SEGMENTATION
        self.overlay_instances(
            boxes=[_xyxy(annotation) for annotation in annotations] if "bbox" in annotations[0] else None,
            masks=[annotation.get("segmentation") or [] for annotation in annotations] if has_masks else None,
            labels=text_labels(classes, None, self._known("thing_classes"), crowds),
            keypoints=_annotated_points(annotations),
            assigned_colors=self._class_colors(classes) if by_class else None,
            alpha=0.8 if by_class else 0.5,
        )

    def _draw_regions(
        self, masks: Sequence[Array], texts: Sequence[str], colors: Sequence[Color], alpha: float
    ) -> VisImage:
        for mask, color in zip(masks, colors, strict=True):
            self.output.fill(mask, color, color, alpha)
        self._write_inside(masks, texts, colors)
        return self.output

    def _segments_of(self, ids: Array) -> list[dict[str, Any]]:
        """The segments that a map of panoptic ids speaks of by itself."""
        divisor = int(self._known("label_divisor") or 1000)
        things = set((self._known("thing_dataset_id_to_contiguous_id") or {}).values())
        found = [int(i) for i in np.unique(ids) if i >= 0]
        return [{"id": i, "category_id": i // divisor, "isthing": i // divisor in things} for i in found]

    def _segment_text(self, segment: Mapping[str, Any]) -> str:
        score = None if segment.get("score") is None else [segment["score"]]
        names = self._known(f"{_kind(segment)}_classes")
        return " ".join(text_labels([int(segment["category_id"])], score, names) or [])

    def _segment_color(self, segment: Mapping[str, Any], place: int) -> Color:
        """Of its class, but one of its own for a thing, unless things have the colours of their classes."""
        if _kind(segment) == "thing" and self._instance_mode is not ColorMode.SEGMENTATION:
            return class_color(place)
        return self._color(f"{_kind(segment)}_colors", int(segment["category_id"]))

    def _connect(self, points: Array) -> None:
        """The lines between one instance's keypoints (K, 3), each in the colour of its rule."""
        names = list(self._known("keypoint_names") or ())
        places = {name: i for i, name in enumerate(names) if i < len(points) and points[i, 2] > 0}
        for first, second, color in self._known("keypoint_connection_rules") or ():
            if first in places and second in places:
                ends = [(float(points[places[n], 0]), float(points[places[n], 1])) for n in (first, second)]
                self.output.line(ends, as_rgb(color))

    def _grey_outside(self, masks: Sequence[Array] | None, boxes: Any) -> None:
        """Start anew from the image with grey where there is no mask, or without masks, no box."""
        kept = np.zeros(self.img.shape[:2], dtype=bool)
        if masks is not None:
            for mask in masks:
                kept |= mask
        elif boxes is not None and (upright := as_boxes(boxes)).shape[1] == 4:
            for x0, y0, x1, y1 in np.nan_to_num(upright).clip(0, max(kept.shape)).round().astype(int):
                kept[y0:y1, x0:x1] = True
        grey = (self.img @ np.array(_GREY)).round().astype(np.uint8)
        self.output.reset_image(np.where(kept[..., None], self.img, grey[..., None]))

    def _class_colors(self, classes: Sequence[int], vary: bool = True) -> list[tuple[float, ...]]:
        """A colour for each, 0 to 1; those of one class differ by some steps of brightness if they may ``vary``."""
        colors = []
        for place, index in enumerate(classes):
            shade = _SHADES[classes[:place].count(index) % len(_SHADES)] if vary else 1.0
            colors.append(tuple(min(1.0, part * shade / 255) for part in self._color("thing_colors", index)))
        return colors

    def _color(self, key: str, index: int) -> Color:
        """Of a class, 0 to 255: that of the metadata, else a fixed one."""
        known = self._known(key)
        if known is None or not 0 <= index < len(known):
            return class_color(index)
        red, green, blue = (int(part) for part in known[index])
        return (red, green, blue)

    def _known(self, key: str) -> Any:
        return getattr(self.metadata, key, None)


def _kind(segment: Mapping[str, Any]) -> str:
    return "thing" if segment.get("isthing", True) else "stuff"


def _xyxy(annotation: Mapping[str, Any]) -> list[float]:
    box = [float(v) for v in annotation["bbox"]]
    mode = annotation.get("bbox_mode", BoxMode.XYWH_ABS)
    return box if len(box) == 5 else BoxMode.convert(box, mode, BoxMode.XYXY_ABS)


def _annotated_points(annotations: Sequence[Mapping[str, Any]]) -> Array | None:
    """(N, K, 3), zeros for annotations without keypoints; None when there are none at all."""
    flat = [np.asarray(annotation.get("keypoints") or (), dtype=float).ravel() for annotation in annotations]
    most = max(len(points) for points in flat)
    if not most:
        return None
    return np.stack([np.pad(points, (0, most - len(points))) for points in flat]).reshape(len(flat), -1, 3)


def _indices(classes: Any) -> list[int] | None:
    return None if classes is None else [int(c) for c in classes]


def _anchors(masks: list[Array] | None, points: Array | None) -> Array | None:
    """Where labels go when there are no boxes: around the masks, else around the keypoints that are seen."""
    if masks is not None:
        return bounding_boxes(masks)
    if points is None:
        return None
    boxes = np.zeros((len(points), 4))
    for box, person in zip(boxes, points, strict=True):
        seen = person[person[:, 2] > 0, :2]
        if len(seen):
            box[:] = *seen.min(axis=0), *seen.max(axis=0)
    return boxes


def _count(**given: Any) -> int:
    """How many instances there are.

    Raises:
        ValueError: these sequences differ in length.
    """
    lengths = {name: len(values) for name, values in given.items() if values is not None}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"give one of each for every instance; received were {listed}")
    return next(iter(lengths.values()), 0)
