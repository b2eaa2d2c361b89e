"""detectron2's augmentations in general: what they are given, and lists of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from drivetrain.data import transforms as native
from drivetrain.errors import ConfigError

from .transforms_base import Array, NoOpTransform, Sized, Transform, TransformList
from .transforms_geometry import from_native

__all__ = [
    "AugInput",
    "Augmentation",
    "AugmentationList",
    "DrawnAugmentation",
    "RandomApply",
    "always",
    "apply_augmentations",
]


class AugInput:
    """An image with what lies on it, changed in place by augmentations.

    Attributes:
        image: array (H, W, C) or (H, W).
        boxes: (N, 4), x0, y0, x1, y1, or None.
        sem_seg: label map (H, W), or None.
    """

    def __init__(self, image: Array, *, boxes: Array | None = None, sem_seg: Array | None = None) -> None:
        """Hold the attributes; more may be added by name, for augmentations that ask for them."""
        self.image, self.boxes, self.sem_seg = image, boxes, sem_seg

    def transform(self, tfm: Transform) -> None:
        """Apply ``tfm`` to image, boxes and label map."""
        self.image = tfm.apply_image(self.image)
        if self.boxes is not None:
            self.boxes = tfm.apply_box(self.boxes)
        if self.sem_seg is not None:
            self.sem_seg = tfm.apply_segmentation(self.sem_seg)

    def apply_augmentations(self, augmentations: Iterable[Any]) -> TransformList:
        """Apply a list of augmentations and transforms; returns what was done."""
        return AugmentationList(augmentations)(self)


class Augmentation(native.Augmentation):
    """A random change of images: subclass it and define ``get_transform(self, image)``.

    ``get_transform`` may ask for any attribute of its `AugInput` by the name of a parameter: ``boxes``, ``sem_seg``,
    or one that was added. Called with an `AugInput`, the augmentation changes it and returns the transform.

    In a `drivetrain.data.DatasetMapper`, ``image`` and ``boxes`` are known.
    """

    needs_image = True

    def _init(self, params: Mapping[str, Any] | None = None) -> None:
        """Keep the arguments of a constructor, ``self._init(locals())``, as attributes."""
        for name, value in (params or {}).items():
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    def _rand_range(self, low: float = 1.0, high: float | None = None, size: Any = None) -> Any:
        """An even draw from [low, high), or [0, low) with one argument, by NumPy's global generator."""
        return np.random.uniform(0, low, size) if high is None else np.random.uniform(low, high, size)

    def get_transform(self, *args: Any) -> Transform:  # type: ignore[override]
        """Decide what to do; a subclass defines it.

        Raises:
            NotImplementedError: it does not.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define get_transform(self, image)")

    def __call__(self, aug_input: AugInput) -> Transform:
        """Change ``aug_input`` and return the transform that did it.

        Raises:
            AttributeError: ``get_transform`` asks for something that the input has not.
            TypeError: ``get_transform`` returned no transform.
        """
        transform = self.get_transform(**self._asked(aug_input))
        if isinstance(transform, native.Transform):
            transform = from_native(transform)
        if not isinstance(transform, Transform):
            raise TypeError(f"{type(self).__name__}.get_transform returned {transform!r}, which is no transform")
        aug_input.transform(transform)
        return transform

    def _asked(self, aug_input: AugInput) -> dict[str, Any]:
        """The attributes of the input that ``get_transform`` has parameters for."""
        parameters = inspect.signature(self.get_transform).parameters.values()
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        found = {p.name: getattr(aug_input, p.name, None) for p in named}
        missing = [p.name for p in named if found[p.name] is None and p.default is p.empty]
        if missing:
            raise AttributeError(
                f"{type(self).__name__}.get_transform asks for {', '.join(missing)}, which the augmentation's input "
                "does not have; give it to T.AugInput"
            )
        return {name: value for name, value in found.items() if value is not None}

    def draw_in(self, rng: np.random.Generator, image: Array, boxes: Array) -> native.Transform:
        """What `get_transform` decides for this image and these boxes (N, 4), as a transform of this package."""
        given = AugInput(image, boxes=boxes)
        transform = self(given)
        return Sized(transform, _size(image), _size(given.image))

    def draw(self, rng: np.random.Generator, height: int, width: int) -> native.Transform:
        """Not possible: `get_transform` takes an image.

        Raises:
            ConfigError: always; `draw_in` is to be called.
        """
        raise ConfigError(
            f"{type(self).__name__} decides by the pixels of an image, which are not known here; use it in a "
            "DatasetMapper, or call T.AugmentationList"
        )

    def __repr__(self) -> str:
        """The class and its public attributes."""
        shown = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({shown})"


def _size(image: Array) -> tuple[int, int]:
    return int(image.shape[0]), int(image.shape[1])


class _Always(Augmentation):
    """An augmentation without chance."""

    def __init__(self, transform: Transform) -> None:
        self.transform = transform

    def get_transform(self, image: Array) -> Transform:  # type: ignore[override]
        """The transform."""
        return self.transform


class DrawnAugmentation(Augmentation):
    """An augmentation that has to know no pixels, so that `draw` or `draw_around` does without the image.

    A subclass of the user's that has its own ``get_transform`` gets the image all the same.
    """

    @property
    def needs_image(self) -> bool:  # type: ignore[override]
        """Whether a subclass has its own `get_transform`."""
        return type(self).get_transform is not DrawnAugmentation.get_transform

    def get_transform(self, image: Array, boxes: Array | None = None) -> Transform:  # type: ignore[override]
        """Draw by NumPy's global generator, for an image (H, W, C) and boxes (N, 4)."""
        objects = np.zeros((0, 4)) if boxes is None else np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        return from_native(self.draw_around(_generator(), *_size(image), objects))

    def draw_in(self, rng: np.random.Generator, image: Array, boxes: Array) -> native.Transform:
        """Draw for the image's size and the boxes."""
        if self.needs_image:
            return super().draw_in(rng, image, boxes)
        return self.draw_around(rng, *_size(image), boxes)


def _generator() -> np.random.Generator:
    """A generator seeded by NumPy's global one."""
    return np.random.default_rng(np.random.randint(0, 2**31 - 1))


class _Native(Augmentation):
    """An augmentation of this package."""

    def __init__(self, augmentation: native.Augmentation) -> None:
        self.augmentation = augmentation

    def __call__(self, aug_input: AugInput) -> Transform:
        """Draw by NumPy's global generator, and apply."""
        boxes = np.zeros((0, 4)) if aug_input.boxes is None else aug_input.boxes
        transform = from_native(self.augmentation.draw_in(_generator(), aug_input.image, boxes))
        aug_input.transform(transform)
        return transform


def always(transform: Transform) -> Augmentation:
    """The augmentation that always does ``transform``."""
    return _Always(transform)


def _as_augmentation(item: Any) -> Augmentation:
    if isinstance(item, Augmentation):
        return item
    if isinstance(item, Transform):
        return _Always(item)
    return _Native(native.Compose([item]))


class AugmentationList(Augmentation):
    """Several augmentations, one after the other.

    Attributes:
        augs: the list.
    """

    def __init__(self, augs: Iterable[Any]) -> None:
        """Chain ``augs``: augmentations and transforms, detectron2's kind or this package's.

        Raises:
            ConfigError: one of them is none of these.
        """
        self.augs = [_as_augmentation(a) for a in augs]

    def __call__(self, aug_input: AugInput) -> TransformList:
        """Apply each to what its predecessors leave; returns all that was done."""
        return TransformList([aug(aug_input) for aug in self.augs])


class RandomApply(Augmentation):
    """Applies an augmentation or a transform with a probability."""

    def __init__(self, tfm_or_aug: Any, prob: float = 0.5) -> None:
        """``prob`` is in [0, 1].

        Raises:
            ConfigError: it is not, or there is nothing to apply.
        """
        if not 0 <= prob <= 1:
            raise ConfigError(f"the probability of RandomApply must be in [0, 1], not {prob!r}")
        self.aug, self.prob = _as_augmentation(tfm_or_aug), float(prob)

    def __call__(self, aug_input: AugInput) -> Transform:
        """Decide whether to apply it."""
        return self.aug(aug_input) if self._rand_range() < self.prob else NoOpTransform()


def apply_augmentations(augmentations: Iterable[Any], inputs: Array | AugInput) -> tuple[Any, TransformList]:
    """Apply a list of augmentations and transforms.

    Args:
        augmentations: the list.
        inputs: an image (H, W, C) or (H, W), or an `AugInput`, which is changed.

    Returns:
        The transformed image, or the input, and what was done.
    """
    given = inputs if isinstance(inputs, AugInput) else AugInput(inputs)
    done = given.apply_augmentations(augmentations)
    return (given if given is inputs else given.image), done
