"""Boxes, labels, masks and keypoints on an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from drivetrain.structures import rle_to_bitmask

from .labels import Label, draw_label, load_font, place_label, printable, writable
from .palette import class_color

__all__ = ["draw_instances", "mask_outline"]

Array = np.ndarray[Any, Any]
Color = tuple[int, int, int]


def draw_instances(
    image: Array,
    *,
    boxes: Any,
    classes: Any = None,
    labels: Sequence[str] | None = None,
    class_names: Sequence[str] = (),
    scores: Any = None,
    masks: Any = None,
    keypoints: Any = None,
    skeleton: Sequence[tuple[int, int]] = (),
    colors: Sequence[Color] | None = None,
    line_width: float | None = None,
    font_size: float | None = None,
    min_side: int = 0,
    frames: bool = True,
) -> Array:
    """Draw N instances on a copy of an image; boxes partly outside of it are fine.

    A class has the same colour in every picture. Line width and font size follow the picture's size.

    Args:
        image: uint8 array (height, width, 3), RGB; it is not changed.
        boxes: XYXY in pixels of ``image``, (N, 4), as an array, tensor, list or anything with an attribute
            ``tensor``.
        classes: class indices, (N,); they choose the colours, and the names from ``class_names``.
        labels: N texts, instead of class name and score.
        class_names: class index -> name.
        scores: (N,), shown as percentages after the names.
        masks: bool, (N, height, width), or anything that gives N masks one by one, each bool (height, width) or
            COCO's run lengths (``{"size": [height, width], "counts": ...}``), of which a bitmap is made when its
            turn comes; filled half transparent.
        keypoints: (N, K, 3): x, y in pixels and a visibility or score, those at 0 or below are not drawn; or
        (N, K, 2).
        skeleton: pairs of keypoint indices to join by a line.
        colors: N colours (R, G, B), instead of those of the classes.
        line_width: of boxes, in pixels of the result.
        font_size: of labels, in pixels of the result.
        min_side: an image whose shorter side has fewer pixels is enlarged to that, so that small ones can be
            read; 0 keeps the size.
        frames: whether the boxes are drawn; without, they are only where the labels go.

    Returns:
        uint8 array (H, W, 3), of the image's size unless it was enlarged.

    Raises:
        ValueError: an array has another shape than described.
        DatasetError: run lengths that cannot be decoded.
    """
    image = _check_image(image)
    things = _Things.collect((image.shape[0], image.shape[1]), boxes, classes, scores, masks, keypoints, colors)
    texts = _texts(things, labels, class_names)
    image, scale = _enlarged(image, min_side)
    things.boxes = things.boxes * scale
    things.keypoints[..., :2] *= scale
    base = (image.shape[0] * image.shape[1]) ** 0.5
    line = line_width if line_width is not None else max(1.5, base * 0.004)
    size = font_size if font_size is not None else max(11.0, base * 0.023)
    return _paint(image, things, texts, skeleton, line, size, frames)


@dataclass
class _Things:
    """What is drawn, as arrays of checked shapes; masks are checked as they are drawn."""

    size: tuple[int, int]  # (H, W) of the image before it is enlarged
    boxes: Array  # (N, 4)
    classes: Array  # (N,)
    scores: Array | None  # (N,)
    masks: Iterable[Any] | None  # N
    keypoints: Array  # (N, K, 3)
    colors: list[Color]

    @classmethod
    def collect(
        cls,
        size: tuple[int, int],
        boxes: Any,
        classes: Any,
        scores: Any,
        masks: Any,
        keypoints: Any,
        colors: Sequence[Color] | None,
    ) -> _Things:
        """Convert and check everything; a box with a number that is not finite is moved out of sight."""
        box_array = _array(boxes, float).reshape(-1, 4) if len(boxes) else np.zeros((0, 4))
        count = len(box_array)
        box_array = np.where(np.isfinite(box_array).all(axis=1, keepdims=True), box_array, -1e6)
        class_array = np.full(count, -1) if classes is None else _array(classes, int)
        _check_shape("classes", class_array, (count,))
        score_array = None if scores is None else _array(scores, float)
        if score_array is not None:
            _check_shape("scores", score_array, (count,))
        if hasattr(masks, "__len__") and len(masks) != count:
            raise ValueError(f"{len(masks)} masks were given for {count} boxes: give one each")
        if colors is None:
            colors = [class_color(int(c)) for c in class_array]
        elif len(colors) != count:
            raise ValueError(f"{len(colors)} colors were given for {count} boxes: give one each")
        points = _keypoints(keypoints, count)
        return cls(size, box_array, class_array, score_array, masks, points, list(colors))


def _array(values: Any, dtype: type) -> Array:
    """An own array of ``values``: a tensor on any device, something that holds one, or anything numpy takes."""
    values = getattr(values, "tensor", values)
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.array(values, dtype=dtype)


def _keypoints(keypoints: Any, count: int) -> Array:
    """(N, K, 3), K 0 without keypoints; points without a third number get 1."""
    if keypoints is None or not len(keypoints):
        return np.zeros((count, 0, 3))
    points = _array(keypoints, float)
    if points.ndim == 3 and points.shape[2] == 2:
        points = np.concatenate((points, np.ones((*points.shape[:2], 1))), axis=2)
    _check_shape("keypoints", points, (count, points.shape[1] if points.ndim > 1 else -1, 3))
    return np.where(np.isfinite(points).all(axis=2, keepdims=True), points, 0.0)


def _check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape} here, but {array.shape} was received")


def _check_image(image: Any) -> Array:
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or array.size == 0:
        raise ValueError(f"an image is a uint8 array (height, width, 3), but {array.dtype} {array.shape} was received")
    return array


def _texts(things: _Things, labels: Sequence[str] | None, class_names: Sequence[str]) -> list[str]:
    """One line of text for each instance, empty where there is nothing to say."""
    count = len(things.boxes)
    if labels is not None:
        if len(labels) != count:
            raise ValueError(f"{len(labels)} labels were given for {count} boxes: give one each")
        return [printable(str(label)) for label in labels]
    texts = []
    for i, index in enumerate(things.classes.tolist()):
        known = 0 <= index < len(class_names)
        name = printable(class_names[index], 28) if known else (f"class {index}" if index >= 0 else "")
        score = "" if things.scores is None else f"{things.scores[i]:.0%}"
        texts.append(" ".join(part for part in (name, score) if part))
    return texts


def _enlarged(image: Array, min_side: int) -> tuple[Array, float]:
    """The image with its shorter side at least ``min_side``, and the factor."""
    shorter = min(image.shape[:2])
    if shorter >= min_side:
        return image, 1.0
    scale = min_side / shorter
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)), scale


def _paint(
    image: Array,
    things: _Things,
    texts: list[str],
    skeleton: Sequence[tuple[int, int]],
    line: float,
    font_size: float,
    frames: bool,
) -> Array:
    """Masks, then boxes, keypoints and labels; of each the large instances first, so that small ones lie on top."""
    picture = Image.fromarray(_blend_masks(image, things)).convert("RGB")
    draw = ImageDraw.Draw(picture, "RGBA")
    order = np.argsort(-_areas(things.boxes), kind="stable").tolist()
    for i in order if frames else ():
        _draw_box(draw, things.boxes[i].tolist(), things.colors[i], line)
    for i in order:
        _draw_keypoints(picture, things.keypoints[i], skeleton, things.colors[i], line)
    font = load_font(font_size, texts)
    placed: list[Label] = []
    for i in order:
        if texts[i] and _is_visible(things.boxes[i], *picture.size):
            x0, y0, x1, y1 = things.boxes[i].tolist()
            frame = (x0 - line / 2, y0 - line / 2, x1 + line / 2, y1 + line / 2)
            text, taken = writable(texts[i], font), [label.rect for label in placed]
            placed.append(place_label(text, frame, things.colors[i], font=font, size=picture.size, taken=taken))
    for label in placed:
        draw_label(draw, label, font)
    return np.array(picture)


def _blend_masks(image: Array, things: _Things) -> Array:
    """The image with every mask filled at 45 % and outlined."""
    if things.masks is None or not things.colors:
        return np.ascontiguousarray(image)
    blended: Array = image.astype(np.float32)
    size = (image.shape[1], image.shape[0])
    for number, (given, color) in enumerate(zip(things.masks, things.colors, strict=True)):
        mask = _bitmap(given)
        _check_shape(f"mask {number}", mask, things.size)
        if mask.shape != image.shape[:2]:
            enlarged = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
            smooth = enlarged.filter(ImageFilter.GaussianBlur(0.6 * size[0] / mask.shape[1]))
            mask = np.asarray(smooth) >= 128
        tint = np.array(color, dtype=np.float32)
        blended[mask] = 0.55 * blended[mask] + 0.45 * tint
        blended[mask_outline(mask)] = tint
    return np.asarray(blended.round(), dtype=np.uint8)


def _bitmap(mask: Any) -> Array:
    """A mask, given as run lengths or as what numpy or torch has, as a bool array (height, width)."""
    return rle_to_bitmask(mask) if isinstance(mask, Mapping) else _array(mask, bool)


def mask_outline(mask: Array) -> Array:
    """The border of a mask, which lies within it: pixels that have a neighbour (of four) outside of the mask.

    Args:
        mask: bool (height, width). The picture's own border counts as mask.
    """
    padded = np.pad(mask, 1, constant_values=True)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    outline: Array = mask & ~inner
    return outline


def _areas(boxes: Array) -> Array:
    return np.asarray((boxes[:, 2] - boxes[:, 0]).clip(0) * (boxes[:, 3] - boxes[:, 1]).clip(0))


def _is_visible(box: Array, width: int, height: int) -> bool:
    return bool(box[0] < width and box[1] < height and box[2] > 0 and box[3] > 0)


def _draw_box(draw: ImageDraw.ImageDraw, box: list[float], color: Color, line: float) -> None:
    """A frame centred on the box's edge, with a faint dark rim that keeps it visible on its own colour."""
    x0, y0, x1, y1 = (min(max(v, -1e5), 1e5) for v in box)
    if x1 < x0 or y1 < y0:
        return
    half = line / 2
    outer = (round(x0 - half), round(y0 - half), round(x1 + half) - 1, round(y1 + half) - 1)
    outer = (outer[0], outer[1], max(outer[2], outer[0]), max(outer[3], outer[1]))
    side = min(outer[2] - outer[0], outer[3] - outer[1])
    radius = min(line * 1.5, side / 4) if side >= 6 else 0  # PIL fails on round corners of the smallest frames
    rim = (outer[0] - 1, outer[1] - 1, outer[2] + 1, outer[3] + 1)
    draw.rounded_rectangle(rim, radius=radius, outline=(0, 0, 0, 90), width=1)
    draw.rounded_rectangle(outer, radius=radius, outline=(*color, 255), width=max(1, round(line)))


def _draw_keypoints(
    picture: Image.Image, points: Array, skeleton: Sequence[tuple[int, int]], color: Color, line: float
) -> None:
    """Lines of the skeleton, then a ringed dot at each keypoint whose third number is above 0."""
    draw = ImageDraw.Draw(picture)
    shown = [(x, y) if v > 0 else None for x, y, v in points.tolist()]
    for a, b in skeleton:
        if a < len(shown) and b < len(shown):
            start, end = shown[a], shown[b]
            if start is not None and end is not None:
                draw.line((start, end), fill=color, width=max(1, round(line)))
    radius = max(2.0, line * 1.4)
    for point in shown:
        if point is not None:
            draw.circle(point, radius + max(1.0, line * 0.4), fill=(255, 255, 255))
            draw.circle(point, radius, fill=color)
