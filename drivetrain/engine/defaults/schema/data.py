"""The keys under INPUT, DATASETS and DATALOADER."""

# ruff: noqa: RUF009 - option() and section() make dataclass fields, as dataclasses.field() does
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from drivetrain.config import option, section

from .checks import positive

__all__ = ["Color", "Crop", "DataLoader", "Datasets", "Input"]


@dataclass(frozen=True)
class Crop:
    """Random cropping of training images."""

    ENABLED: bool = option(False, "Whether to crop.")
    TYPE: Literal["relative_range", "relative", "absolute", "absolute_range", "iou"] = option(
        "relative_range",
        "Whether SIZE is a fraction of the image or pixels, fixed or the end of a range; iou is SSD's crop, which "
        "keeps part of an object in view and takes no SIZE.",
    )
    SIZE: tuple[float, float] = option((0.9, 0.9), "Height and width of the crop.", check=positive)
    KEEP_OBJECT: bool = option(False, "Place the crop such that the centre of an object is in it.")


@dataclass(frozen=True)
class Color:
    """Random colour changes of training images, each a strength with 0 for none."""

    BRIGHTNESS: float = option(0.0, "Brightness is multiplied by 1 - x to 1 + x.", min=0)
    CONTRAST: float = option(0.0, "Contrast is multiplied by 1 - x to 1 + x.", min=0)
    SATURATION: float = option(0.0, "Saturation is multiplied by 1 - x to 1 + x.", min=0)
    HUE: float = option(0.0, "Hue is turned by -x to x of a full circle.", min=0, max=0.5)


@dataclass(frozen=True)
class Input:
    """How images are read, resized and varied."""

    FORMAT: Literal["RGB", "BGR"] = option("RGB", "Channel order that the model takes.")
    RESIZE: Literal["shortest_edge", "fixed", "letterbox", "scale_jitter"] = option(
        "shortest_edge",
        "How images are resized: by MIN_SIZE and MAX_SIZE; stretched to SIZE; to fit into SIZE, padded; or to fit into "
        "SIZE times a factor from SCALE_RANGE, then cropped or padded to SIZE.",
    )
    SCALED_DECODE: bool = option(
        False,
        "Let the decoder scale large JPEGs down, to nine tenths of the size wanted at the least, before they are "
        "resized: faster, and pixels differ slightly.",
    )
    SIZE: tuple[int, int] = option((640, 640), "Height and width for RESIZE and MOSAIC, pixels.", min=1)
    SCALE_RANGE: tuple[float, float] = option(
        (0.1, 2.0), "Smallest and largest factor of scale_jitter.", check=positive
    )
    MIN_SIZE_TRAIN: tuple[int, ...] = option((800,), "Lengths of the shorter side in training, pixels.", min=1)
    MIN_SIZE_TRAIN_SAMPLING: Literal["choice", "range"] = option(
        "choice", "Draw one of MIN_SIZE_TRAIN, or a length between its two numbers."
    )
    MAX_SIZE_TRAIN: int = option(1333, "The longer side is at most this in training, pixels.", min=1)
    MIN_SIZE_TEST: int = option(800, "Length of the shorter side in testing; 0 leaves the size alone.", min=0)
    MAX_SIZE_TEST: int = option(1333, "The longer side is at most this in testing, pixels.", min=1)
    RANDOM_FLIP: Literal["horizontal", "vertical", "both", "none"] = option(
        "horizontal", "Flip half of the images; both flips each way on its own."
    )
    CROP: Crop = section(Crop)
    ROTATION: tuple[float, ...] = option(
        (), "Turn images by an angle between these two, degrees counter-clockwise; () turns none."
    )
    MOSAIC: float = option(0.0, "How often a sample is a mosaic of four images, of SIZE.", min=0, max=1)
    MIXUP: float = option(0.0, "How often a sample is two images blended.", min=0, max=1)
    COPYPASTE: float = option(
        0.0, "How often objects of another image are pasted into a sample; needs masks as bitmaps.", min=0, max=1
    )
    COLOR: Color = section(Color)
    MASK_FORMAT: Literal["polygon", "bitmask"] = option("polygon", "How training masks are held.")


@dataclass(frozen=True)
class Datasets:
    """Which datasets."""

    TRAIN: tuple[str, ...] = option((), "Names of the datasets to train on.")
    TEST: tuple[str, ...] = option((), "Names of the datasets to evaluate on.")
    REGISTER: dict[str, Any] = option(
        {},
        "Datasets to register before use: name -> {format: coco, json: path, images: folder}, or the keys of format "
        "coco_panoptic, voc, yolo, sem_seg or folder. Paths begin where the command is run; made_by is the command "
        "that makes the files.",
    )


@dataclass(frozen=True)
class DataLoader:
    """How samples are brought to the model."""

    NUM_WORKERS: int = option(4, "Processes that load images; 0 loads in the training process.", min=0)
    ASPECT_RATIO_GROUPING: bool = option(True, "Keep wide and tall images in separate batches.")
    FILTER_EMPTY_ANNOTATIONS: bool = option(True, "Leave out training images without an object.")
    SAMPLER_TRAIN: Literal["TrainingSampler", "RepeatFactorTrainingSampler"] = option(
        "TrainingSampler", "Show all images equally, or those of rare classes more often."
    )
    REPEAT_THRESHOLD: float = option(0.0, "Classes in a smaller fraction of images are shown more often.", min=0, max=1)
    MAX_BAD_IMAGES: float = option(
        0.001,
        "Training images that may be unreadable, as a fraction; others take their place. Of fewer than 1 / fraction "
        "images none may be.",
        min=0,
        max=1,
    )
    MAX_PIXELS: int = option(64_000_000, "Images of more pixels (width times height) are not decoded.", min=1)
