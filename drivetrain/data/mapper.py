"""From a dataset record to what a model takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drivetrain.errors import ConfigError, DatasetError

from .annotations import MASK_FORMATS, Targets, boxes_xyxy
from .catalog import MetadataCatalog
from .images import MAX_PIXELS, ImageFile, check_image_size
from .segmentation import panoptic_targets, sem_seg_target
from .transforms import Compose, TransformList, build_augmentation
from .transforms.resize import for_decoded, scaled_size

__all__ = ["DatasetMapper"]

SEGMENTATIONS = ("sem_seg", "panoptic")
_OWN = "drivetrain.data.transforms."
_IGNORED = 255  # the label of pixels that no model learns from
_NEARLY = 0.9  # of the size wanted is enough to decode where approximate pixels were asked for


class DatasetMapper:
    """Reads the image of a record, augments it, and makes the targets.

    The output is a dict with ``image`` (uint8 tensor (C, H, W), channels in the order of ``image_format``, which lie
    side by side in memory as they were decoded: ``.contiguous()`` makes planes of them), in training ``instances``
    (`Instances` in the pixels of that image), and what the record held besides its annotations: ``height`` and
    ``width`` (of the original image), ``image_id``, ``file_name`` and any other key. The record is not changed.

    A subclass that needs more targets than `Instances` adds them in `make_targets`.

    Attributes:
        is_train: whether to make targets.
        augmentations: a `Compose` of the augmentations.
        image_format: order of the channels.
        scaled_decode: whether the decoder of a JPEG may scale it down before it is resized, to nine tenths of the size
            wanted at the least.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """``DatasetMapper(cfg, is_train=True)``, or the parts by themselves.

        Args:
            args: a config and, optionally, ``is_train``; or ``is_train`` alone.
            kwargs: for the second form: ``is_train``, ``augmentations`` (a list for `Compose`), ``image_format``
                ("RGB", "BGR" or "L"), ``use_instance_mask=False``, ``use_keypoint=False``,
                ``instance_mask_format="polygon"``, ``keypoint_hflip_indices=None``,
                ``recompute_boxes=False`` (take the boxes around the masks), ``segmentation=None`` (or "sem_seg" or
                "panoptic": what to make of label maps), ``ignore_label=255`` (of the label maps, 255 in what is made),
                ``max_pixels`` (of an image), ``scaled_decode=False`` (see `ImageFile.tensor`).

        Raises:
            ConfigError: a value is unusable.
        """
        given = args[0] if args else kwargs.get("cfg")
        if isinstance(given, Mapping):
            kwargs.pop("cfg", None)
            known = inspect.signature(type(self).from_config).parameters
            taken = {name: kwargs.pop(name) for name in known if name in kwargs}
            kwargs = {**type(self).from_config(given, *args[1:], **taken), **kwargs}
            args = ()
        self._configure(*args, **kwargs)

    @classmethod
    def from_config(cls, cfg: Any, is_train: bool = True) -> dict[str, Any]:
        """The keyword arguments of the second form of the constructor, taken from a config.

        Masks and keypoints are made where ``MODEL.TARGETS`` names them, or ``MODEL.MASK_ON`` and ``MODEL.KEYPOINT_ON``
        are set; left and right keypoints are known from the metadata of the first training dataset. Boxes are those
        around the masks where images are cropped, rotated or scaled by chance.
        """
        targets = cfg.MODEL.get("TARGETS", ())
        masks = "masks" in targets or bool(cfg.MODEL.get("MASK_ON", False))
        keypoints = "keypoints" in targets or bool(cfg.MODEL.get("KEYPOINT_ON", False))
        cut = cfg.INPUT.CROP.ENABLED or cfg.INPUT.get("ROTATION") or cfg.INPUT.get("RESIZE") == "scale_jitter"
        return {
            "is_train": is_train,
            "augmentations": build_augmentation(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": masks,
            "use_keypoint": keypoints,
            "instance_mask_format": cfg.INPUT.MASK_FORMAT,
            "keypoint_hflip_indices": _flip_indices(cfg.DATASETS.TRAIN) if keypoints and is_train else None,
            "recompute_boxes": masks and is_train and bool(cut),
            "segmentation": next((kind for kind in SEGMENTATIONS if kind in targets), None),
            "ignore_label": _metadata_of_first(cfg.DATASETS.TRAIN).get("ignore_label", _IGNORED),
            "max_pixels": cfg.DATALOADER.get("MAX_PIXELS", MAX_PIXELS),
            "scaled_decode": bool(cfg.INPUT.get("SCALED_DECODE", False)),
        }

    def _configure(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[Any],
        image_format: str,
        use_instance_mask: bool = False,
        use_keypoint: bool = False,
        instance_mask_format: str = "polygon",
        keypoint_hflip_indices: Sequence[int] | None = None,
        recompute_boxes: bool = False,
        segmentation: str | None = None,
        ignore_label: int = _IGNORED,
        max_pixels: int = MAX_PIXELS,
        scaled_decode: bool = False,
    ) -> None:
        if segmentation not in (None, *SEGMENTATIONS):
            raise ConfigError(f"segmentation must be None or one of {', '.join(SEGMENTATIONS)}, not {segmentation!r}")
        if instance_mask_format not in MASK_FORMATS:
            raise ConfigError(f"INPUT.MASK_FORMAT must be 'polygon' or 'bitmask', not {instance_mask_format!r}")
        if recompute_boxes and not use_instance_mask:
            raise ConfigError("recompute_boxes takes boxes around masks, so it needs use_instance_mask=True")
        self.is_train = is_train
        self.augmentations = Compose(augmentations)
        self.image_format = image_format
        self.segmentation, self._ignore_label = segmentation, ignore_label
        self.scaled_decode, self._max_pixels = scaled_decode, max_pixels
        self.use_instance_mask, self.use_keypoint = use_instance_mask, use_keypoint
        self.instance_mask_format = instance_mask_format
        self.keypoint_hflip_indices = keypoint_hflip_indices
        self._targets = Targets(
            mask_format=instance_mask_format if use_instance_mask else None,
            keypoints=use_keypoint,
            flip_indices=keypoint_hflip_indices,
            boxes_from_masks=recompute_boxes,
        )

    @property
    def pure(self) -> bool:
        """Whether all chance comes from the generator given: true of this class with this package's augmentations."""
        return type(self) is DatasetMapper and _is_own(self.augmentations)

    def __call__(self, record: Mapping[str, Any], rng: np.random.Generator | None = None) -> dict[str, Any]:
        """Map one record.

        Args:
            record: a dataset record; not changed.
            rng: where the augmentations' chance comes from; None draws from NumPy's global generator.

        Raises:
            UnreadableImageError: the image does not open or has another size than the record says.
            DatasetError: an annotation is malformed. Both messages name the file.
        """
        if rng is None:
            rng = np.random.default_rng(np.random.randint(0, 2**31 - 1))
        file = ImageFile(record["file_name"], self.image_format, max_pixels=self._max_pixels)
        check_image_size(record, file)
        transform = self._draw(record, rng, file)
        sample = {key: value for key, value in record.items() if key != "annotations"}
        sample.setdefault("height", file.size[0])
        sample.setdefault("width", file.size[1])
        if self.is_train:
            sample.update(self.make_targets(record, transform))
        sample["image"] = self._make_image(file, transform)
        return sample

    def make_targets(self, record: Mapping[str, Any], transform: TransformList) -> dict[str, Any]:
        """What training needs beside the image, by the key it has in the sample.

        ``instances`` of the annotations, or of a panoptic label map's segments; ``sem_seg``, int64 (H, W), of a label
        map.

        Args:
            record: the dataset record; not changed.
            transform: what was done to the image. Applied to boxes, points or masks of the original image, it gives
                those of the sample's.

        Raises:
            DatasetError: an annotation is malformed, or there is no label map; names the file.
            UnreadableImageError: a label map cannot be read.
        """
        if self.segmentation == "panoptic":
            return {"instances": panoptic_targets(record, transform, max_pixels=self._max_pixels)}
        made: dict[str, Any] = {}
        if self.segmentation == "sem_seg":
            options = {"ignore_label": self._ignore_label, "max_pixels": self._max_pixels}
            labels = sem_seg_target(record, transform, **options)
            made["sem_seg"] = labels.masked_fill_(labels == self._ignore_label, _IGNORED)
        if "annotations" in record:
            with _naming(record):
                made["instances"] = self._targets(record["annotations"], transform)
        return made

    def _draw(self, record: Mapping[str, Any], rng: np.random.Generator, file: ImageFile) -> TransformList:
        """Decide what to do to the image, before its pixels are known where the augmentations allow it."""
        looks = self.augmentations.needs_image
        if not looks and not self.augmentations.needs_boxes:
            return self.augmentations.draw(rng, *file.size)
        with _naming(record):
            boxes = boxes_xyxy([a for a in record.get("annotations", ()) if not a.get("iscrowd", 0)])
        if looks:
            return self.augmentations.draw_in(rng, file.array(), boxes)
        return self.augmentations.draw_around(rng, *file.size, boxes)

    def _make_image(self, file: ImageFile, transform: TransformList) -> Tensor:
        """The transformed image."""
        wanted = scaled_size(transform) if self.scaled_decode else None
        image = file.tensor(None if wanted is None else (int(_NEARLY * wanted[0]), int(_NEARLY * wanted[1])))
        image = for_decoded(transform, (int(image.shape[1]), int(image.shape[2]))).apply_image(image)
        if image.dtype != torch.uint8:
            raise ConfigError(
                f"the augmentations made a {image.dtype} image; they must keep uint8, as models normalise on their "
                "device (leave out ToDtype and Normalize)"
            )
        return image


@contextmanager
def _naming(record: Mapping[str, Any]) -> Iterator[None]:
    """Put the name of a record's image before the message of a DatasetError from its annotations."""
    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"{record['file_name']}: {error}") from error


def _is_own(augmentation: Any) -> bool:
    """Whether an augmentation, and every one that it holds, comes from this package."""
    parts = getattr(augmentation, "augmentations", ())
    return type(augmentation).__module__.startswith(_OWN) and all(_is_own(part) for part in parts)


def _metadata_of_first(names: str | Sequence[str]) -> dict[str, Any]:
    """The metadata of the first dataset named, as a dict; {} without any."""
    first = [names] if isinstance(names, str) else list(names)[:1]
    return MetadataCatalog.get(first[0]).as_dict() if first else {}


def _flip_indices(names: str | Sequence[str]) -> list[int] | None:
    """Keypoint counterparts by the metadata (``keypoint_names``, ``keypoint_flip_map``) of the first dataset named."""
    metadata = _metadata_of_first(names)
    keypoints = list(metadata.get("keypoint_names") or [])
    if not keypoints:
        return None
    other = {a: b for pair in metadata.get("keypoint_flip_map") or () for a, b in (pair, pair[::-1])}
    try:
        return [keypoints.index(other.get(name, name)) for name in keypoints]
    except ValueError as error:
        raise DatasetError(
            f"the keypoint_flip_map of dataset {names!r} names a keypoint that is not among its keypoint_names "
            f"{keypoints}: {error}"
        ) from error
