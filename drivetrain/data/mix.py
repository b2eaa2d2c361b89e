"""Augmentations that make one training sample of several: mosaic, mixup, copy-paste.

They work on mapped samples (``image`` uint8 (C, H, W), ``instances``, ``sem_seg``), so that each image has gone through
its own augmentations before. `MixMapper` draws the other records by the generator of the sample, which keeps a sample a
function of (seed, position) as every other.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from drivetrain.errors import ConfigError, DatasetError
from drivetrain.structures import BitMasks, Instances

from .images import UnreadableImageError
from .moved import moved_sample
from .transforms.pad import GREY, FixedSizeCrop, PadTransform, as_size

__all__ = ["CopyPaste", "Mix", "MixMapper", "MixUp", "Mosaic", "build_mixes"]

Sample = dict[str, Any]
_ATTEMPTS = 100
_VISIBLE = 0.1  # of an object's pixels: with fewer left beneath what was pasted, it is dropped


class Mix(ABC):
    """Makes one sample of several.

    Attributes:
        probability: how often it does.
        partners: how many samples it needs beside the one at hand.
    """

    partners: int = 1

    def __init__(self, probability: float) -> None:
        """Define how often, from 0 to 1.

        Raises:
            ConfigError: the probability is not in this range.
        """
        if not 0 <= probability <= 1:
            raise ConfigError(
                f"the probability of {type(self).__name__} (INPUT.{type(self).__name__.upper()}) must be from 0 to 1, "
                f"not {probability!r}"
            )
        self.probability = probability

    @abstractmethod
    def combine(self, rng: np.random.Generator, samples: Sequence[Sample]) -> Sample:
        """The sample made of ``samples``, whose first one gives what belongs to no pixel (its ``image_id``, ...)."""


class Mosaic(Mix):
    """Four images around a random point: random parts of them fill the four corners of a new image.

    Bochkovskiy et al., "YOLOv4: optimal speed and accuracy of object detection" (2020), section 3.3. What is smaller
    than its corner is padded.
    """

    partners = 3

    def __init__(self, size: int | Sequence[int], probability: float = 1.0, pad_value: int = GREY) -> None:
        """Define the size of the new image in pixels, how often, and the value of padding.

        Raises:
            ConfigError: one of these is unusable.
        """
        super().__init__(probability)
        self.size, self.pad_value = as_size(size, "the size of a mosaic (INPUT.SIZE)"), pad_value
        if min(self.size) < 4:
            raise ConfigError(f"the size of a mosaic (INPUT.SIZE) must be 4 or more each way, not {size!r}")

    def combine(self, rng: np.random.Generator, samples: Sequence[Sample]) -> Sample:
        """The mosaic of four samples; their meeting point is in the middle half of the image."""
        height, width = self.size
        y, x = (int(rng.integers(edge // 4, edge - edge // 4 + 1)) for edge in self.size)
        corners = [(0, 0, y, x), (0, x, y, width - x), (y, 0, height - y, x), (y, x, height - y, width - x)]
        parts = []
        for sample, (top, left, rows, columns) in zip(samples, corners, strict=True):
            size = sample["image"].shape[-2:]
            crop = FixedSizeCrop((rows, columns), pad_value=self.pad_value).draw(rng, *map(int, size))
            part = moved_sample(sample, crop)
            parts.append(moved_sample(part, PadTransform((rows, columns), self.size, top, left, self.pad_value)))
        image = torch.empty_like(parts[0]["image"])
        labels = torch.empty_like(parts[0]["sem_seg"]) if "sem_seg" in parts[0] else None
        for part, (top, left, rows, columns) in zip(parts, corners, strict=True):
            place = (..., slice(top, top + rows), slice(left, left + columns))
            image[place] = part["image"][place]
            if labels is not None:
                labels[place] = part["sem_seg"][place]
        return _joined(parts, image, labels)


class MixUp(Mix):
    """Two images blended, with the objects of both.

    Zhang et al., "Bag of freebies for training object detection neural networks" (2019), section 3.1: the objects of
    both count in full. The weight of the first is drawn from Beta(alpha, alpha).
    """

    def __init__(self, probability: float = 1.0, alpha: float = 8.0) -> None:
        """Define how often, and the shape of the distribution: the larger ``alpha``, the nearer to half and half.

        Raises:
            ConfigError: one of these is unusable.
        """
        super().__init__(probability)
        if not 0 < alpha < float("inf"):
            raise ConfigError(f"alpha of MixUp must be above 0, not {alpha!r}")
        self.alpha = float(alpha)

    def combine(self, rng: np.random.Generator, samples: Sequence[Sample]) -> Sample:
        """The blend, as large as both together; beside an image, grey is blended in.

        Raises:
            ConfigError: the samples have label maps, which do not blend.
        """
        if "sem_seg" in samples[0]:
            raise ConfigError("MixUp (INPUT.MIXUP) blends images, and label maps do not blend: leave it out")
        weight = float(rng.beta(self.alpha, self.alpha))
        first, second = _on_one_canvas(samples)
        blend = first["image"].float().mul_(weight).add_(second["image"].float(), alpha=1 - weight)
        return _joined((first, second), blend.round_().to(torch.uint8))


class CopyPaste(Mix):
    """Objects of another image, cut out along their masks and pasted at the place where they were.

    Ghiasi et al., "Simple copy-paste is a strong data augmentation method for instance segmentation" (CVPR 2021): a
    random subset of the objects; masks beneath are cut, and objects with under a tenth of their pixels left dropped.
    """

    def combine(self, rng: np.random.Generator, samples: Sequence[Sample]) -> Sample:
        """The first sample with objects of the second.

        Raises:
            ConfigError: there are no bitmaps as masks, or there are label maps, or keypoints, which it would not cut.
        """
        for sample in samples:
            instances = sample["instances"]
            if not isinstance(instances.get_fields().get("gt_masks"), BitMasks):
                raise ConfigError(
                    "CopyPaste (INPUT.COPYPASTE) needs masks as bitmaps: set INPUT.MASK_FORMAT to bitmask"
                )
            if "sem_seg" in sample or instances.has("gt_keypoints"):
                raise ConfigError("CopyPaste (INPUT.COPYPASTE) takes no label maps and no keypoints: leave it out")
        first, second = _on_one_canvas(samples)
        chosen = second["instances"][torch.from_numpy(rng.random(len(second["instances"])) < 0.5)]
        if not len(chosen):
            return dict(samples[0])
        pasted = chosen.gt_masks.tensor.any(dim=0)
        image = torch.where(pasted, second["image"], first["image"])
        below = first["instances"]
        before = below.gt_masks.area()
        below.gt_masks = BitMasks(below.gt_masks.tensor & ~pasted)
        below.gt_boxes = below.gt_masks.get_bounding_boxes()
        first["instances"] = below[below.gt_masks.area() > _VISIBLE * before]
        return _joined((first, {**second, "instances": chosen}), image)


class MixMapper:
    """A mapper that gives its samples to `Mix` augmentations, with others of the same dataset.

    Where the image of one of these others cannot be read, another is drawn in its place: it is told, or ends the
    training, when its own turn comes.

    Attributes:
        mapper: makes one sample of a record.
        mixes: applied in order, each with its probability.
    """

    def __init__(self, mapper: Callable[..., Sample | None], records: Sequence[Any], mixes: Sequence[Mix]) -> None:
        """Use ``mapper``, which takes a record and ``rng``, and draw partners from ``records``."""
        self.mapper, self.mixes = mapper, tuple(mixes)
        self._records = records
        # Records of a list are the user's own objects, and mappers are known to change what they are given.
        self._copies = isinstance(records, (list, tuple)) and not self.pure

    @property
    def pure(self) -> bool:
        """Whether the mapper is: all chance is from the generator given."""
        return bool(getattr(self.mapper, "pure", False))

    def __call__(self, record: Any, rng: np.random.Generator) -> Sample | None:
        """The sample of a record, mixed with others; None if the mapper returns None for it.

        Raises:
            UnreadableImageError: the record's image does not open.
            DatasetError: there is no usable image to mix it with.
        """
        sample = self.mapper(record, rng=rng)
        if sample is None:
            return None
        for mix in self.mixes:
            if rng.random() < mix.probability:
                places = rng.integers(len(self._records), size=mix.partners).tolist()
                sample = mix.combine(rng, [sample, *(self._partner(place, rng) for place in places)])
        return sample

    def _partner(self, place: int, rng: np.random.Generator) -> Sample:
        """The sample of the record at ``place``, or of another one if that gives none."""
        for _ in range(_ATTEMPTS):
            record = self._records[place]
            with suppress(UnreadableImageError):
                sample = self.mapper(copy.deepcopy(record) if self._copies else record, rng=rng)
                if sample is not None:
                    return sample
            place = int(rng.integers(len(self._records)))
        raise DatasetError(f"{_ATTEMPTS} images were drawn to be mixed with another, and none of them can be used")


def _on_one_canvas(samples: Sequence[Sample]) -> list[Sample]:
    """The samples, padded below and to the right to the size of all together."""
    sizes = [tuple(map(int, sample["image"].shape[-2:])) for sample in samples]
    size = max(s[0] for s in sizes), max(s[1] for s in sizes)
    return [moved_sample(s, PadTransform((h, w), size)) for s, (h, w) in zip(samples, sizes, strict=True)]


def _joined(parts: Sequence[Sample], image: torch.Tensor, labels: torch.Tensor | None = None) -> Sample:
    """The first part with this image, and the objects of all parts."""
    joined = {**parts[0], "image": image}
    if labels is not None:
        joined["sem_seg"] = labels
    with_objects = [part["instances"] for part in parts if "instances" in part]
    if with_objects and len(with_objects) < len(parts):
        raise DatasetError("of the images to be mixed, some have annotations and some have none: leave mixing out")
    if with_objects:
        joined["instances"] = Instances.cat(with_objects)
    return joined


def build_mixes(cfg: Any) -> list[Mix]:
    """The multi-image augmentations that ``INPUT`` asks for: those with a probability above 0, mosaic first.

    Raises:
        ConfigError: a value is unusable.
    """
    section = cfg.INPUT
    mixes: list[Mix] = []
    if section.get("MOSAIC", 0.0) > 0:
        mixes.append(Mosaic(section.SIZE, section.MOSAIC))
    if section.get("COPYPASTE", 0.0) > 0:
        mixes.append(CopyPaste(section.COPYPASTE))
    if section.get("MIXUP", 0.0) > 0:
        mixes.append(MixUp(section.MIXUP))
    return mixes
