"""detectron2's ``data.detection_utils``: the steps of a mapper of one's own."""

from __future__ import annotations

import os
from collections.abc import MutableMapping, Sequence
from typing import Any

import numpy as np
import torch

from drivetrain.data import MetadataCatalog
from drivetrain.data import transforms as native
from drivetrain.data.images import UnreadableImageError, convert_PIL_to_numpy
from drivetrain.data.images import check_image_size as _check_image_size
from drivetrain.data.images import read_image as _read_image
from drivetrain.errors import ConfigError, DatasetError
from drivetrain.structures import (
    BitMasks,
    Boxes,
    BoxMode,
    Instances,
    Keypoints,
    PolygonMasks,
    polygons_to_bitmask,
    rle_to_bitmask,
)

from . import transforms as T
from .transforms_base import is_mirrored
from .transforms_geometry import from_native

__all__ = [
    "SizeMismatchError",
    "annotations_to_instances",
    "build_augmentation",
    "build_transform_gen",
    "check_image_size",
    "convert_PIL_to_numpy",
    "convert_image_to_rgb",
    "create_keypoint_hflip_indices",
    "filter_empty_instances",
    "gen_crop_transform_with_instance",
    "read_image",
    "transform_instance_annotations",
    "transform_keypoint_annotations",
]

Array = np.ndarray[Any, Any]
Annotation = MutableMapping[str, Any]
Size = tuple[int, int]


class SizeMismatchError(UnreadableImageError):
    """An image has another size than its dataset record says."""


def read_image(file_name: str | os.PathLike[str], format: str | None = None) -> Array:
    """Read an image file, turned upright by its EXIF orientation.

    Args:
        file_name: the file.
        format: "RGB", "BGR" or "L"; None: RGB for colour, L for grey.

    Returns:
        uint8 (height, width, channels).

    Raises:
        UnreadableImageError: the file is missing, damaged or not an image.
        DatasetError: ``format`` is unknown.
    """
    return _read_image(file_name, format)


def convert_image_to_rgb(image: Any, format: str) -> Array:
    """An image that a model was given, as one to be drawn on.

    Args:
        image: array or tensor (H, W, C), 0 to 255.
        format: "RGB", "BGR" or "L".

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        ConfigError: ``format`` is another.
    """
    if format not in ("RGB", "BGR", "L"):
        raise ConfigError(f"the format of an image is 'RGB', 'BGR' or 'L', not {format!r}")
    array = np.asarray(image.detach().cpu() if isinstance(image, torch.Tensor) else image)
    channels = [0, 0, 0] if format == "L" else [2, 1, 0] if format == "BGR" else [0, 1, 2]
    return np.atleast_3d(array)[:, :, channels].clip(0, 255).astype(np.uint8)


def check_image_size(dataset_dict: MutableMapping[str, Any], image: Array) -> None:
    """Check that ``image``, (H, W, C), has the size its record says; note it in a record that has none.

    Raises:
        SizeMismatchError: another size; names the file and both sizes.
    """
    try:
        _check_image_size(dataset_dict, image)
    except UnreadableImageError as error:
        raise SizeMismatchError(str(error)) from error
    dataset_dict.setdefault("width", int(image.shape[1]))
    dataset_dict.setdefault("height", int(image.shape[0]))


def _one(transforms: Any) -> T.Transform:
    """A transform of detectron2's kind, of a list of such or one of this package's."""
    if isinstance(transforms, (list, tuple)):
        return T.TransformList([from_native(t) for t in transforms])
    return from_native(transforms)


def transform_instance_annotations(
    annotation: Annotation,
    transforms: Any,
    image_size: Size,
    *,
    keypoint_hflip_indices: Sequence[int] | None = None,
) -> Annotation:
    """Move box, segmentation and keypoints of one annotation with its image, in place.

    Args:
        annotation: with ``bbox`` and ``bbox_mode``, perhaps ``segmentation`` (polygons or run-length encoded) and
            ``keypoints``.
        transforms: what was done to the image, or a list of it.
        image_size: (height, width) of the transformed image.
        keypoint_hflip_indices: for each keypoint, the index of its counterpart on the other side.

    Returns:
        The annotation: ``bbox`` a float64 array x0, y0, x1, y1 cut to the image, ``bbox_mode`` XYXY_ABS, polygons flat
        float64 arrays, a run-length encoded mask a uint8 array (H, W), keypoints (N, 3).

    Raises:
        DatasetError: the segmentation is neither polygons nor run-length encoded, or has another size than the image.
        ValueError: keypoints are mirrored and there are no indices.
    """
    transform = _one(transforms)
    box = BoxMode.convert(list(map(float, annotation["bbox"])), annotation["bbox_mode"], BoxMode.XYXY_ABS)
    moved = transform.apply_box(np.array([box], dtype=np.float64))[0].clip(min=0)
    annotation["bbox"] = np.minimum(moved, np.array([*image_size[::-1], *image_size[::-1]], dtype=np.float64))
    annotation["bbox_mode"] = BoxMode.XYXY_ABS
    if "segmentation" in annotation:
        annotation["segmentation"] = _moved_shape(annotation["segmentation"], transform, image_size)
    if "keypoints" in annotation:
        annotation["keypoints"] = transform_keypoint_annotations(
            annotation["keypoints"], transform, image_size, keypoint_hflip_indices
        )
    return annotation


def _moved_shape(shape: Any, transform: T.Transform, image_size: Size) -> Any:
    if isinstance(shape, list):
        polygons = [np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in shape]
        return [np.asarray(p).reshape(-1) for p in transform.apply_polygons(polygons)]
    if not isinstance(shape, dict):
        raise DatasetError(
            "a 'segmentation' is a list of polygons [x0, y0, x1, y1, ...] or a dict of run-length encoding, not "
            f"{type(shape).__name__}"
        )
    mask = transform.apply_segmentation(rle_to_bitmask(shape).astype(np.uint8))
    if tuple(mask.shape[:2]) != tuple(image_size):
        raise DatasetError(
            f"a mask has {mask.shape[0]} x {mask.shape[1]} pixels (height x width) after the transform, its image "
            f"{image_size[0]} x {image_size[1]}"
        )
    return mask


def transform_keypoint_annotations(
    keypoints: Any, transforms: Any, image_size: Size, keypoint_hflip_indices: Sequence[int] | None = None
) -> Array:
    """Move the keypoints of one instance with its image.

    Args:
        keypoints: 3 numbers each: x, y and visibility.
        transforms: what was done to the image.
        image_size: (height, width) of the transformed image.
        keypoint_hflip_indices: for each keypoint, the index of its counterpart on the other side.

    Returns:
        float64 (N, 3); a keypoint that is not labelled or not in the image is 0, 0, 0.

    Raises:
        ValueError: the image is mirrored and there are no indices, or not as many as keypoints.
    """
    transform = _one(transforms)
    points = np.array(keypoints, dtype=np.float64).reshape(-1, 3)
    points[:, :2] = transform.apply_coords(points[:, :2])
    inside = ((points[:, :2] >= 0) & (points[:, :2] <= np.array(image_size[::-1]))).all(axis=1)
    points[~inside | (points[:, 2] == 0)] = 0
    if not is_mirrored(transform):
        return points
    if keypoint_hflip_indices is None or len(keypoint_hflip_indices) != len(points):
        given = "none" if keypoint_hflip_indices is None else len(keypoint_hflip_indices)
        raise ValueError(
            f"the image is mirrored, so the left and right of {len(points)} keypoints have to be exchanged, which "
            f"needs as many keypoint_hflip_indices: {given} given; see create_keypoint_hflip_indices"
        )
    return points[np.asarray(keypoint_hflip_indices, dtype=np.int64)]


def annotations_to_instances(annos: Sequence[Any], image_size: Size, mask_format: str = "polygon") -> Instances:
    """The targets of a model from transformed annotations.

    Args:
        annos: as `transform_instance_annotations` returns them.
        image_size: (height, width).
        mask_format: "polygon" (``gt_masks`` is a `PolygonMasks`) or "bitmask" (`BitMasks`).

    Returns:
        ``gt_boxes`` (XYXY), ``gt_classes`` (int64), and ``gt_masks`` and ``gt_keypoints`` where the first annotation
        has them.

    Raises:
        ConfigError: the mask format is unknown.
        DatasetError: a mask does not fit it.
    """
    boxes = [BoxMode.convert(list(map(float, a["bbox"])), a["bbox_mode"], BoxMode.XYXY_ABS) for a in annos]
    target = Instances((int(image_size[0]), int(image_size[1])))
    target.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    target.gt_classes = torch.tensor([int(a["category_id"]) for a in annos], dtype=torch.int64)
    if annos and "segmentation" in annos[0]:
        target.gt_masks = _masks([a["segmentation"] for a in annos], image_size, mask_format)
    if annos and "keypoints" in annos[0]:
        points = np.stack([np.asarray(a["keypoints"], dtype=np.float32).reshape(-1, 3) for a in annos])
        target.gt_keypoints = Keypoints(points)
    return target


def _masks(shapes: list[Any], image_size: Size, mask_format: str) -> PolygonMasks | BitMasks:
    if mask_format == "bitmask":
        return BitMasks(np.stack([_bitmap(shape, image_size) for shape in shapes]))
    if mask_format != "polygon":
        raise ConfigError(f"the mask format must be 'polygon' or 'bitmask', not {mask_format!r}")
    if not all(isinstance(shape, list) for shape in shapes):
        raise DatasetError(
            "an annotation's 'segmentation' is a bitmap or run-length encoded, which mask format 'polygon' cannot "
            "hold; pass mask_format='bitmask' (INPUT.MASK_FORMAT)"
        )
    return PolygonMasks(shapes)


def _bitmap(shape: Any, image_size: Size) -> Array:
    if isinstance(shape, list):
        return polygons_to_bitmask([np.asarray(p, dtype=np.float64) for p in shape], *image_size)
    if isinstance(shape, dict):
        return rle_to_bitmask(shape)
    if not isinstance(shape, np.ndarray) or shape.ndim != 2:
        raise DatasetError(f"a mask is polygons, run-length encoded or an array (H, W), not {type(shape).__name__}")
    return shape.astype(bool)


def filter_empty_instances(
    instances: Instances,
    by_box: bool = True,
    by_mask: bool = True,
    box_threshold: float = 1e-5,
    return_mask: bool = False,
) -> Any:
    """The instances that have something left after a crop.

    Args:
        instances: with ``gt_boxes``, perhaps ``gt_masks``.
        by_box: leave out those whose box has an edge of ``box_threshold`` or less.
        by_mask: leave out those whose mask is empty.
        box_threshold: in pixels.
        return_mask: return which were kept, too: bool (N,).

    Raises:
        ValueError: neither ``by_box`` nor ``by_mask``.
    """
    if not by_box and not by_mask:
        raise ValueError("filter_empty_instances needs by_box or by_mask")
    kept = torch.ones(len(instances), dtype=torch.bool)
    if by_box:
        kept &= instances.gt_boxes.nonempty(threshold=box_threshold)
    if by_mask and instances.has("gt_masks"):
        kept &= instances.gt_masks.nonempty()
    return (instances[kept], kept) if return_mask else instances[kept]


def create_keypoint_hflip_indices(dataset_names: str | Sequence[str]) -> list[int]:
    """For each keypoint, the index of its counterpart on the other side, by the metadata of datasets.

    Args:
        dataset_names: registered names, whose ``keypoint_names`` and ``keypoint_flip_map`` agree.

    Raises:
        DatasetError: they do not agree, are missing, or the map names a keypoint that there is not.
    """
    names = [dataset_names] if isinstance(dataset_names, str) else list(dataset_names)
    found = [MetadataCatalog.get(name).as_dict() for name in names]
    described = [(list(m.get("keypoint_names") or ()), list(m.get("keypoint_flip_map") or ())) for m in found]
    if not described or not described[0][0]:
        raise DatasetError(f"the metadata of {names!r} has no keypoint_names and keypoint_flip_map")
    if any(one != described[0] for one in described):
        raise DatasetError(f"the datasets {names!r} do not have the same keypoint_names and keypoint_flip_map")
    keypoints, pairs = described[0]
    other = {a: b for first, second in pairs for a, b in ((first, second), (second, first))}
    unknown = sorted(set(other) - set(keypoints))
    if unknown:
        raise DatasetError(f"the keypoint_flip_map of {names[0]!r} names {unknown}, not among its keypoint_names")
    return [keypoints.index(other.get(name, name)) for name in keypoints]


def gen_crop_transform_with_instance(crop_size: Size, image_size: Size, instance: Any) -> T.CropTransform:
    """A crop that holds the centre of an instance.

    Args:
        crop_size: (height, width) in pixels, cut to the image's.
        image_size: (height, width).
        instance: an annotation with ``bbox`` and ``bbox_mode``.
    """
    height, width = (min(int(c), int(s)) for c, s in zip(crop_size, image_size, strict=True))
    box = BoxMode.convert(list(map(float, instance["bbox"])), instance["bbox_mode"], BoxMode.XYXY_ABS)
    recipe = native.RandomCrop("absolute", (height, width), keep_object=True)
    rng = np.random.default_rng(np.random.randint(0, 2**31 - 1))
    crop = recipe.draw_around(rng, int(image_size[0]), int(image_size[1]), np.array([box]))
    return T.CropTransform(crop.left, crop.top, width, height, int(image_size[1]), int(image_size[0]))


def build_augmentation(cfg: Any, is_train: bool) -> list[T.Augmentation]:
    """The default augmentations of detectron2's config keys: resize by the shorter edge, and flip in training.

    A crop (``INPUT.CROP``) is not among them: mappers put ``T.RandomCrop`` before them.

    Raises:
        ConfigError: a value is unusable; the message names the key.
    """
    section = cfg.INPUT
    if not is_train:
        return [T.ResizeShortestEdge(section.MIN_SIZE_TEST, section.MAX_SIZE_TEST, "choice")]
    resize = T.ResizeShortestEdge(section.MIN_SIZE_TRAIN, section.MAX_SIZE_TRAIN, section.MIN_SIZE_TRAIN_SAMPLING)
    if section.RANDOM_FLIP == "none":
        return [resize]
    if section.RANDOM_FLIP not in ("horizontal", "vertical"):
        raise ConfigError(f"INPUT.RANDOM_FLIP must be 'horizontal', 'vertical' or 'none', not {section.RANDOM_FLIP!r}")
    horizontal = section.RANDOM_FLIP == "horizontal"
    return [resize, T.RandomFlip(horizontal=horizontal, vertical=not horizontal)]


build_transform_gen = build_augmentation
