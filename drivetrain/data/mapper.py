"""From a dataset record to what a model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drivetrain.errors import ConfigError, DatasetError

from .annotations import MASK_FORMATS, Targets
from .images import MAX_PIXELS, check_image_size, read_image
from .transforms import Compose, build_augmentation

__all__ = ["DatasetMapper", "image_to_tensor"]

Array = np.ndarray[Any, Any]
_OWN = "drivetrain.data.transforms."


def image_to_tensor(image: Array | Tensor) -> Tensor:
    """A contiguous uint8 tensor (C, H, W) of an image: array (H, W, C) or (H, W), or tensor (C, H, W) in any layout.

    Copied channel by channel, which is several times faster than the copy of a transposed array.
    """
    if isinstance(image, np.ndarray):
        if any(stride < 0 for stride in image.strides):
            image = np.ascontiguousarray(image)
        view = torch.from_numpy(image)
        image = view[None] if view.ndim == 2 else view.permute(2, 0, 1)
    if image.is_contiguous():
        return image
    out = torch.empty(image.shape, dtype=image.dtype)
    source, target = image.numpy(), out.numpy()
    for channel in range(len(target)):
        target[channel] = source[channel]
    return out


class DatasetMapper:
    """Reads the image of a record, augments it, and makes the targets.

    The output is a dict with ``image`` (uint8 tensor (C, H, W), channels in the order of ``image_format``), in
    training ``instances`` (`Instances` in the pixels of that image), and what the record held besides its
    annotations: ``height`` and ``width`` (of the original image), ``image_id``, ``file_name`` and any other key. The
    record is not changed.

    Attributes:
        is_train: whether to make targets.
        augmentations: a `Compose` of the augmentations.
        image_format: order of the channels.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """``DatasetMapper(cfg, is_train=True)``, or the parts by themselves.

        Args:
            args: a config and, optionally, ``is_train``; or ``is_train`` alone.
            kwargs: for the second form: ``is_train``, ``augmentations`` (a list for `Compose`), ``image_format``
                ("RGB", "BGR" or "L"), ``use_instance_mask=False``, ``use_keypoint=False``,
                ``instance_mask_format="polygon"``, ``keypoint_flip_indices=None``,
                ``recompute_boxes=False`` (take the boxes around the masks), ``max_pixels`` (of an image).

        Raises:
            ConfigError: a value is unusable.
        """
        given = args[0] if args else kwargs.get("cfg")
        if isinstance(given, Mapping):
            kwargs.pop("cfg", None)
            kwargs = type(self).from_config(given, *args[1:], **kwargs)
            args = ()
        self._configure(*args, **kwargs)

    @classmethod
    def from_config(cls, cfg: Any, is_train: bool = True) -> dict[str, Any]:
        """The keyword arguments of the second form of the constructor, taken from a config.

        Masks are made where ``MODEL.MASK_ON`` is set, keypoints where ``MODEL.KEYPOINT_ON`` is; left and right
        keypoints are known from the metadata of the first training dataset.
        """
        masks = bool(cfg.MODEL.get("MASK_ON", False))
        keypoints = bool(cfg.MODEL.get("KEYPOINT_ON", False))
        return {
            "is_train": is_train,
            "augmentations": build_augmentation(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": masks,
            "use_keypoint": keypoints,
            "instance_mask_format": cfg.INPUT.MASK_FORMAT,
            "keypoint_flip_indices": _flip_indices(cfg.DATASETS.TRAIN) if keypoints and is_train else None,
            "recompute_boxes": masks and is_train and bool(cfg.INPUT.CROP.ENABLED),
            "max_pixels": cfg.DATALOADER.get("MAX_PIXELS", MAX_PIXELS),
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
        keypoint_flip_indices: Sequence[int] | None = None,
        recompute_boxes: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if instance_mask_format not in MASK_FORMATS:
            raise ConfigError(f"INPUT.MASK_FORMAT must be 'polygon' or 'bitmask', not {instance_mask_format!r}")
        if recompute_boxes and not use_instance_mask:
            raise ConfigError("recompute_boxes takes boxes around masks, so it needs use_instance_mask=True")
        self.is_train = is_train
        self.augmentations = Compose(augmentations)
        self.image_format = image_format
        self._max_pixels = max_pixels
        self.use_instance_mask, self.use_keypoint = use_instance_mask, use_keypoint
        self.instance_mask_format = instance_mask_format
        self.keypoint_flip_indices = keypoint_flip_indices
        self._targets = Targets(
            mask_format=instance_mask_format if use_instance_mask else None,
            keypoints=use_keypoint,
            flip_indices=keypoint_flip_indices,
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
        image = read_image(record["file_name"], format=self.image_format, max_pixels=self._max_pixels)
        check_image_size(record, image)
        view = torch.from_numpy(np.ascontiguousarray(image))
        tensor = view[None] if view.ndim == 2 else view.permute(2, 0, 1)
        transform = self.augmentations.draw(rng, *tensor.shape[-2:])
        tensor = image_to_tensor(transform.apply_image(tensor))
        if tensor.dtype != torch.uint8:
            raise ConfigError(
                f"the augmentations made a {tensor.dtype} image; they must keep uint8, as models normalise on their "
                "device (leave out ToDtype and Normalize)"
            )
        sample = {key: value for key, value in record.items() if key != "annotations"}
        sample.setdefault("height", image.shape[0])
        sample.setdefault("width", image.shape[1])
        sample["image"] = tensor
        if self.is_train and "annotations" in record:
            sample["instances"] = self._make_targets(record, transform)
        return sample

    def _make_targets(self, record: Mapping[str, Any], transform: Any) -> Any:
        try:
            return self._targets(record["annotations"], transform)
        except DatasetError as error:
            raise DatasetError(f"{record['file_name']}: {error}") from error


def _is_own(augmentation: Any) -> bool:
    """Whether an augmentation, and every one that it holds, comes from this package."""
    parts = getattr(augmentation, "augmentations", ())
    return type(augmentation).__module__.startswith(_OWN) and all(_is_own(part) for part in parts)


def _flip_indices(names: str | Sequence[str]) -> list[int] | None:
    """Keypoint counterparts by the metadata (``keypoint_names``, ``keypoint_flip_map``) of the first dataset named."""
    from .catalog import MetadataCatalog

    first = [names] if isinstance(names, str) else list(names)
    metadata = MetadataCatalog.get(first[0]) if first else None
    keypoints = list(metadata.get("keypoint_names") or []) if metadata is not None else []
    if metadata is None or not keypoints:
        return None
    other = {a: b for pair in metadata.get("keypoint_flip_map") or () for a, b in (pair, pair[::-1])}
    try:
        return [keypoints.index(other.get(name, name)) for name in keypoints]
    except ValueError as error:
        raise DatasetError(
            f"the keypoint_flip_map of dataset {first[0]!r} names a keypoint that is not among its keypoint_names "
            f"{keypoints}: {error}"
        ) from error
