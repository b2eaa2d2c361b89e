"""The keys under MODEL."""

# ruff: noqa: RUF009 - option() and section() make dataclass fields, as dataclasses.field() does
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from drivetrain.config import option, section

from .checks import below_one, positive, targets

__all__ = [
    "AnchorGenerator",
    "Backbone",
    "Classifier",
    "Head",
    "KeypointHead",
    "MaskHead",
    "Model",
    "Pyramid",
    "SemanticHead",
    "Transformers",
]


@dataclass(frozen=True)
class Backbone:
    """The network that turns an image into feature maps."""

    NAME: str = option("", 'Backbone name; "" is the model\'s own, "timm/NAME" any timm feature extractor.')
    FREEZE_AT: int = option(0, "How many of the first stages are not trained; 0 trains all.", min=0)
    NORM: Literal["", "BN", "FrozenBN"] = option("", 'Normalisation layers; "" keeps the backbone\'s own.')


@dataclass(frozen=True)
class Pyramid:
    """The feature pyramid between backbone and head."""

    OUT_CHANNELS: int = option(0, "Channels of every pyramid level; 0 is the model's own number.", min=0)


@dataclass(frozen=True)
class Head:
    """The layers that predict boxes and classes."""

    NUM_CONVS: int = option(0, "Convolutions before each prediction; 0 is the model's own number.", min=0)
    NORM: Literal["", "GN"] = option("", "Norm between the convolutions of RetinaNet's head; GN is group norm.")
    BATCH_SIZE_PER_IMAGE: int = option(
        0, "Boxes per image that a two-stage detector's second stage learns from; 0 is the model's own.", min=0
    )
    NUM_PROPOSALS: int = option(
        0, "Boxes per image that a two-stage detector's first stage hands on; 0 is the model's own.", min=0
    )


@dataclass(frozen=True)
class AnchorGenerator:
    """The reference boxes of anchor-based models."""

    SIZES: list[list[float]] = option([], "Anchor sizes in pixels, one list per level; [] is the model's own.")
    ASPECT_RATIOS: list[list[float]] = option(
        [], "Anchor height over width, one list per level; [] is the model's own."
    )


@dataclass(frozen=True)
class MaskHead:
    """The mask branch of Mask R-CNN."""

    NUM_CONV: int = option(0, "Convolutions of the mask branch; 0 is the model's own number.", min=0)
    CONV_DIM: int = option(0, "Their channels; 0 is the model's own number.", min=0)


@dataclass(frozen=True)
class KeypointHead:
    """The keypoint branch of Keypoint R-CNN."""

    CONV_DIMS: tuple[int, ...] = option((), "Channels of the keypoint branch's convolutions; () is the model's own.")


@dataclass(frozen=True)
class SemanticHead:
    """The head of a semantic segmentation."""

    NAME: str = option("", "torchvision's head: fcn, deeplabv3 or lraspp; none is the model's own.")
    CONVS_DIM: int = option(0, "Channels of LR-ASPP's head; 0 is its own number.", min=0)
    AUX_WEIGHT: float = option(0.0, "Weight of a second head's loss; 0 builds none, torchvision's is 0.5.", min=0)
    IGNORE_VALUE: int = option(255, "The label of pixels that do not count.", min=0)


@dataclass(frozen=True)
class Classifier:
    """Image classifiers of timm and torchvision."""

    LABEL_SMOOTHING: float = option(0.0, "How much of the target is spread over all classes.", check=below_one)
    OPTIONS: dict[str, Any] = option({}, "Further arguments of the library's constructor.")


@dataclass(frozen=True)
class Transformers:
    """Models of the transformers library."""

    BASE: str = option("", 'A folder, a preset or a model type; "" is what MODEL.NAME says.')
    TASK: Literal["", "detection", "instance", "semantic", "panoptic", "classification"] = option(
        "", 'What the model is for; "" is what MODEL.NAME says.'
    )
    CONFIG: dict[str, Any] = option({}, "Fields of the library's config class.")
    STUFF_CLASSES: list[int] = option([], "Panoptic: classes that are not counted one by one; [] asks the dataset.")
    SEGMENT_SCORE: float = option(0.8, "Panoptic: queries scored no higher are left out.", min=0, max=1)
    SEGMENT_VISIBLE: float = option(
        0.8, "Panoptic: segments of whose mask a smaller share is visible are left out.", min=0, max=1
    )


@dataclass(frozen=True)
class Model:
    """What is trained."""

    NAME: str = option("fcos_tiny", "A registered model or preset.")
    NUM_CLASSES: int = option(0, "Number of classes; 0 takes it from the training dataset.", min=0)
    TARGETS: tuple[str, ...] = option(
        (),
        "What is learned from, of boxes, masks, keypoints, sem_seg, panoptic and classes; () is what the model named "
        "learns from.",
        check=targets,
    )
    NUM_KEYPOINTS: int = option(0, "Keypoints of an object; 0 takes their number from the training dataset.", min=0)
    WEIGHTS: str = option("", 'Checkpoint to start from; "" starts from random weights.')
    DEVICE: str = option("auto", '"auto", "cpu", "cuda", "cuda:1", "mps"...')
    PIXEL_MEAN: list[float] = option(
        [123.675, 116.28, 103.53], "Mean per channel on the 0..255 scale, in the order of INPUT.FORMAT."
    )
    PIXEL_STD: list[float] = option(
        [58.395, 57.12, 57.375], "Standard deviation per channel, like PIXEL_MEAN.", check=positive
    )
    SCORE_THRESH_TEST: float = option(0.05, "Predictions scored lower are dropped.", min=0, max=1)
    NMS_THRESH_TEST: float = option(0.6, "Of two boxes overlapping more (IoU), one is dropped.", min=0, max=1)
    FREEZE: tuple[str, ...] = option(
        (), 'Patterns of the names of parameters that are not trained, such as "backbone.*".'
    )
    FREEZE_BATCH_NORM: bool = option(False, "Batch norms whose parameters are all frozen keep their statistics.")
    CHANNELS_LAST: bool = option(
        False, "Keep weights, and with them feature maps, in channels-last memory order; a given object stays as it is."
    )
    COMPILE: bool = option(
        False, "Compile the model's backbone and head with torch.compile; a model given as an object stays as it is."
    )
    COMPILE_BACKEND: str = option("inductor", "What compiles it: a backend of torch.compile.")
    BACKBONE: Backbone = section(Backbone)
    FPN: Pyramid = section(Pyramid)
    HEAD: Head = section(Head)
    ANCHOR_GENERATOR: AnchorGenerator = section(AnchorGenerator)
    ROI_MASK_HEAD: MaskHead = section(MaskHead)
    ROI_KEYPOINT_HEAD: KeypointHead = section(KeypointHead)
    SEM_SEG_HEAD: SemanticHead = section(SemanticHead)
    CLASSIFIER: Classifier = section(Classifier)
    TRANSFORMERS: Transformers = section(Transformers)
