"""detectron2's geometric transforms, and the change of this package's into them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from drivetrain.data import transforms as native
from drivetrain.data.transforms.crop import visible_polygons

from .transforms_base import Array, NoOpTransform, Sized, Transform, TransformList

__all__ = [
    "CropTransform",
    "ExtentTransform",
    "HFlipTransform",
    "PadTransform",
    "ResizeTransform",
    "RotationTransform",
    "VFlipTransform",
    "from_native",
]

_TORCH_MODES = {Image.Resampling.NEAREST: "nearest", Image.Resampling.BICUBIC: "bicubic"}


class HFlipTransform(Transform):
    """Mirrors left and right."""

    mirrored = True

    def __init__(self, width: int) -> None:
        """For images ``width`` pixels wide."""
        self.width = width

    def apply_image(self, img: Array) -> Array:
        """The image (H, W, C) or (H, W), mirrored."""
        return np.ascontiguousarray(img[:, ::-1])

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2): x becomes width - x."""
        return np.stack((self.width - coords[:, 0], coords[:, 1]), axis=1)

    def inverse(self) -> Transform:
        """The same."""
        return self


class VFlipTransform(Transform):
    """Mirrors top and bottom."""

    def __init__(self, height: int) -> None:
        """For images ``height`` pixels high."""
        self.height = height

    def apply_image(self, img: Array) -> Array:
        """The image (H, W, C) or (H, W), mirrored."""
        return np.ascontiguousarray(img[::-1])

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2): y becomes height - y."""
        return np.stack((coords[:, 0], self.height - coords[:, 1]), axis=1)

    def inverse(self) -> Transform:
        """The same."""
        return self


class CropTransform(Transform):
    """Cuts out a rectangle; polygons are cut too, boxes and points only shifted."""

    def __init__(self, x0: int, y0: int, w: int, h: int, orig_w: int | None = None, orig_h: int | None = None) -> None:
        """The rectangle of ``w`` x ``h`` pixels at column ``x0``, row ``y0``; the image's size is for `inverse`."""
        self.x0, self.y0, self.w, self.h = x0, y0, w, h
        self.orig_w, self.orig_h = orig_w, orig_h

    def apply_image(self, img: Array) -> Array:
        """The part of the image (H, W, C) or (H, W) in the rectangle."""
        return img[self.y0 : self.y0 + self.h, self.x0 : self.x0 + self.w]

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2), counted from the rectangle's top left corner."""
        return np.asarray(coords - np.array([self.x0, self.y0], dtype=coords.dtype))

    def apply_polygons(self, polygons: Iterable[Any]) -> list[Array]:
        """The parts of one instance's polygons (N, 2) in the rectangle; those without area drop out."""
        moved = [self.apply_coords(np.asarray(p, dtype=np.float64).reshape(-1, 2)) for p in polygons]
        return [p.reshape(-1, 2) for p in visible_polygons(moved, (self.h, self.w))]

    def inverse(self) -> Transform:
        """Padding to the size before.

        Raises:
            ValueError: that size was not given.
        """
        if self.orig_w is None or self.orig_h is None:
            raise ValueError("a CropTransform needs orig_w and orig_h to be inverted")
        right, below = self.orig_w - self.x0 - self.w, self.orig_h - self.y0 - self.h
        return PadTransform(self.x0, self.y0, right, below, self.w, self.h)


class PadTransform(Transform):
    """Adds pixels around an image."""

    def __init__(
        self,
        x0: int,
        y0: int,
        x1: int,
        y1: int,
        orig_w: int | None = None,
        orig_h: int | None = None,
        pad_value: float = 0,
        seg_pad_value: int = 0,
    ) -> None:
        """Add ``x0`` columns on the left, ``y0`` rows above, ``x1`` on the right, ``y1`` below.

        Args:
            x0: columns on the left.
            y0: rows above.
            x1: columns on the right.
            y1: rows below.
            orig_w: the image's width, for `inverse`.
            orig_h: the image's height.
            pad_value: of the new pixels of images.
            seg_pad_value: of the new pixels of label maps.
        """
        self.x0, self.y0, self.x1, self.y1 = x0, y0, x1, y1
        self.orig_w, self.orig_h = orig_w, orig_h
        self.pad_value, self.seg_pad_value = pad_value, seg_pad_value

    def _padded(self, img: Array, value: float) -> Array:
        around = [(self.y0, self.y1), (self.x0, self.x1), (0, 0)][: img.ndim]
        return np.pad(img, around, constant_values=value)

    def apply_image(self, img: Array) -> Array:
        """The image (H, W, C) or (H, W) on the larger canvas."""
        return self._padded(img, self.pad_value)

    def apply_segmentation(self, segmentation: Array) -> Array:
        """The label map (H, W) on the larger canvas."""
        return self._padded(segmentation, self.seg_pad_value)

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2), counted from the canvas's top left corner."""
        return np.asarray(coords + np.array([self.x0, self.y0], dtype=coords.dtype))

    def inverse(self) -> Transform:
        """Cropping to the size before.

        Raises:
            ValueError: that size was not given.
        """
        if self.orig_w is None or self.orig_h is None:
            raise ValueError("a PadTransform needs orig_w and orig_h to be inverted")
        width, height = self.orig_w + self.x0 + self.x1, self.orig_h + self.y0 + self.y1
        return CropTransform(self.x0, self.y0, self.orig_w, self.orig_h, width, height)


class ResizeTransform(Transform):
    """Stretches an image to another size: as Pillow does for uint8, by interpolation without smoothing for others."""

    def __init__(self, h: int, w: int, new_h: int, new_w: int, interp: int | None = None) -> None:
        """From ``h`` x ``w`` pixels to ``new_h`` x ``new_w``; ``interp`` is one of Pillow's filters (None: bilinear).

        Label maps take the nearest pixel.
        """
        self.h, self.w, self.new_h, self.new_w = h, w, new_h, new_w
        self.interp = Image.Resampling.BILINEAR if interp is None else Image.Resampling(interp)

    def apply_image(self, img: Array, interp: int | None = None) -> Array:
        """The stretched image (H, W, C) or (H, W).

        Raises:
            ValueError: the image has another size than the transform was made for.
        """
        if img.shape[:2] != (self.h, self.w):
            raise ValueError(
                f"this ResizeTransform was made for images of height x width {self.h} x {self.w}, not "
                f"{img.shape[0]} x {img.shape[1]}"
            )
        chosen = self.interp if interp is None else Image.Resampling(interp)
        return self._by_pillow(img, chosen) if img.dtype == np.uint8 else self._by_torch(img, chosen)

    def _by_pillow(self, img: Array, interp: Image.Resampling) -> Array:
        if img.ndim == 3 and img.shape[2] not in (3, 4):
            planes = [self._by_pillow(img[:, :, channel], interp) for channel in range(img.shape[2])]
            return np.stack(planes, axis=2)
        return np.array(Image.fromarray(np.ascontiguousarray(img)).resize((self.new_w, self.new_h), interp))

    def _by_torch(self, img: Array, interp: Image.Resampling) -> Array:
        planes = torch.from_numpy(np.ascontiguousarray(img if img.ndim == 3 else img[:, :, np.newaxis]))
        numbers = planes.permute(2, 0, 1)[None]
        mode = _TORCH_MODES.get(interp, "bilinear")
        smooth = {} if mode == "nearest" else {"align_corners": False}
        exact = numbers if numbers.is_floating_point() else numbers.to(torch.float64)
        moved = torch.nn.functional.interpolate(exact, (self.new_h, self.new_w), mode=mode, **smooth)
        out: Array = moved[0].permute(1, 2, 0).contiguous().numpy().astype(img.dtype)
        return out if img.ndim == 3 else out[:, :, 0]

    def apply_segmentation(self, segmentation: Array) -> Array:
        """The stretched label map (H, W)."""
        return self.apply_image(segmentation, Image.Resampling.NEAREST)

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2), scaled."""
        kind = coords.dtype if np.issubdtype(coords.dtype, np.floating) else np.dtype(np.float64)
        return np.asarray(coords * np.array([self.new_w / self.w, self.new_h / self.h], dtype=kind))

    def inverse(self) -> Transform:
        """Stretching back."""
        return ResizeTransform(self.new_h, self.new_w, self.h, self.w, self.interp)


class RotationTransform(Transform):
    """Turns an image about a point, counter-clockwise to the eye."""

    def __init__(
        self,
        h: int,
        w: int,
        angle: float,
        expand: bool = True,
        center: tuple[float, float] | None = None,
        interp: int | None = None,
    ) -> None:
        """For images of ``h`` x ``w`` pixels.

        Args:
            h: height.
            w: width.
            angle: degrees.
            expand: make the canvas as large as the turned image.
            center: x and y of the point to turn about, in pixels; None is the centre. Without effect with ``expand``.
            interp: accepted; images are interpolated bilinearly, label maps take the nearest pixel.
        """
        self.h, self.w, self.angle, self.expand, self.center, self.interp = h, w, angle, expand, center, interp
        self._turn = native.RotationTransform((h, w), angle, expand=expand, center=center)
        self.bound_h, self.bound_w = self._turn.output_size

    def apply_image(self, img: Array) -> Array:
        """The turned image, uint8 (H, W, C) or (H, W); pixels that were not in the image are 0.

        Raises:
            ValueError: the image is not uint8 or has another size.
        """
        if img.dtype != np.uint8:
            raise ValueError(f"a RotationTransform takes uint8 images, not {img.dtype}")
        return self._turn.apply_image(img)

    def apply_segmentation(self, segmentation: Array) -> Array:
        """The turned label map (H, W), of any dtype; 0 outside of the image."""
        labels = np.ascontiguousarray(segmentation)
        height, width = labels.shape
        planes = labels.view(np.uint8).reshape(height, width, -1)  # the bytes of each label go to the same place
        turned = [self._turn.apply_segmentation(planes[:, :, i].copy(), 0) for i in range(labels.itemsize)]
        return np.stack(turned, axis=2).view(labels.dtype)[:, :, 0]

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2), turned; floating point."""
        points = np.asarray(coords)
        return self._turn.apply_coords(points if np.issubdtype(points.dtype, np.floating) else points.astype(float))

    def inverse(self) -> Transform:
        """The turn back, and with ``expand`` the crop to the size before, to half a pixel."""
        if not self.expand:
            return RotationTransform(self.h, self.w, -self.angle, expand=False, center=self.center)
        back = RotationTransform(self.bound_h, self.bound_w, -self.angle)
        left, above = (back.bound_w - self.w) // 2, (back.bound_h - self.h) // 2
        return TransformList([back, CropTransform(left, above, self.w, self.h, back.bound_w, back.bound_h)])


class ExtentTransform(Transform):
    """Stretches a rectangle of the image, which may reach over its edges, to a size."""

    def __init__(
        self,
        src_rect: Sequence[float],
        output_size: tuple[int, int],
        interp: int = Image.Resampling.BILINEAR,
        fill: int = 0,
    ) -> None:
        """The rectangle x0, y0, x1, y1 in pixels, the (height, width) made of it, a filter of Pillow, and the filling.

        Raises:
            ValueError: the rectangle is not four numbers or has no width or height.
        """
        x0, y0, x1, y1 = src_rect
        if x0 == x1 or y0 == y1:
            raise ValueError(f"the rectangle of an ExtentTransform needs a width and a height, not {src_rect!r}")
        self.src_rect, self.output_size = (x0, y0, x1, y1), output_size
        self.interp, self.fill = Image.Resampling(interp), fill

    def apply_image(self, img: Array, interp: int | None = None) -> Array:
        """The stretched part of the image, uint8 (H, W, C) or (H, W)."""
        if img.ndim == 3 and img.shape[2] not in (3, 4):
            planes = [self.apply_image(img[:, :, channel], interp) for channel in range(img.shape[2])]
            return np.stack(planes, axis=2)
        picture = Image.fromarray(np.ascontiguousarray(img))
        height, width = self.output_size
        chosen = self.interp if interp is None else Image.Resampling(interp)
        fill = self.fill if img.ndim == 2 else (self.fill,) * img.shape[2]
        moved = picture.transform(
            (width, height), Image.Transform.EXTENT, self.src_rect, chosen, fill=1, fillcolor=fill
        )
        return np.array(moved)

    def apply_segmentation(self, segmentation: Array) -> Array:
        """The stretched part of the label map (H, W)."""
        return self.apply_image(segmentation, Image.Resampling.NEAREST)

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2), counted from the rectangle's corner and scaled."""
        x0, y0, x1, y1 = self.src_rect
        height, width = self.output_size
        return np.asarray((coords - np.array([x0, y0])) * np.array([width / (x1 - x0), height / (y1 - y0)]))


def from_native(transform: native.Transform | Transform) -> Transform:
    """detectron2's counterpart of a transform of this package; one that is of detectron2's kind stays as it is."""
    if isinstance(transform, Transform):
        return transform
    if isinstance(transform, Sized):
        return transform.transform
    if isinstance(transform, native.NoOpTransform):
        return NoOpTransform()
    if isinstance(transform, native.TransformList):
        return TransformList([from_native(part) for part in transform.transforms])
    (height, width), (new_height, new_width) = transform.input_size, transform.output_size
    if isinstance(transform, native.FlipTransform):
        return HFlipTransform(width) if transform.horizontal else VFlipTransform(height)
    if isinstance(transform, native.CropTransform):
        return CropTransform(transform.left, transform.top, new_width, new_height, width, height)
    if isinstance(transform, native.PadTransform):
        right, below = new_width - width - transform.left, new_height - height - transform.top
        value = transform.value
        return PadTransform(transform.left, transform.top, right, below, width, height, value, seg_pad_value=255)
    if isinstance(transform, native.ResizeTransform):
        return ResizeTransform(height, width, new_height, new_width)
    if isinstance(transform, native.RotationTransform):
        return RotationTransform(height, width, transform.angle, transform.expand, transform.center)
    return _Wrapped(transform)


class _Wrapped(Transform):
    """A transform of this package that detectron2 has no counterpart of."""

    def __init__(self, transform: native.Transform) -> None:
        self.transform, self.mirrored = transform, transform.mirrored

    def apply_image(self, img: Array) -> Array:
        """The transformed image."""
        return self.transform.apply_image(img)

    def apply_segmentation(self, segmentation: Array) -> Array:
        """The transformed label map."""
        return self.transform.apply_segmentation(segmentation)

    def apply_coords(self, coords: Array) -> Array:
        """The transformed points (N, 2)."""
        return self.transform.apply_coords(coords)

    def apply_box(self, box: Any) -> Array:
        """The transformed boxes (N, 4)."""
        return self.transform.apply_boxes(np.asarray(box).reshape(-1, 4))

    def apply_polygons(self, polygons: Iterable[Any]) -> list[Array]:
        """One instance's polygons (N, 2) after the transform."""
        return [p.reshape(-1, 2) for p in self.transform.apply_polygons([np.asarray(p).reshape(-1) for p in polygons])]
