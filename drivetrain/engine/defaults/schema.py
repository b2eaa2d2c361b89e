"""The keys of a training's config, with their types, defaults, meanings and limits.

Keys that detectron2 has too mean the same here. ``drivetrain.engine.defaults.config.get_cfg()`` makes the config.
"""

# ruff: noqa: RUF009 - option() and section() make dataclass fields, as dataclasses.field() does
from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

from drivetrain.config import option, section
from drivetrain.solver.length import check_length

__all__ = [
    "Amp",
    "AnchorGenerator",
    "Backbone",
    "ClipGradients",
    "Color",
    "Crop",
    "DataLoader",
    "Datasets",
    "Ema",
    "Evaluation",
    "Head",
    "Input",
    "LayerDecay",
    "Model",
    "Plateau",
    "PreciseBn",
    "Pyramid",
    "Root",
    "Solver",
]


def _positive(value: Any) -> None:
    """Check that a number, or each of several, is above zero."""
    numbers = value if isinstance(value, (tuple, list)) else (value,)
    if not all(number > 0 for number in numbers):
        raise ValueError(f"must be above 0, received {value!r}")


def _increasing(value: tuple[int, ...]) -> None:
    """Check that iterations come in order."""
    if any(later <= earlier for earlier, later in pairwise(value)):
        raise ValueError(f"must be increasing iterations, received {value!r}")


def _below_one(value: Any) -> None:
    """Check decay rates, which must not be 1."""
    numbers = value if isinstance(value, (tuple, list)) else (value,)
    if not all(0 <= number < 1 for number in numbers):
        raise ValueError(f"must be at least 0 and below 1, received {value!r}")


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
class Model:
    """What is trained."""

    NAME: str = option("fcos_tiny", "A registered model or preset.")
    NUM_CLASSES: int = option(0, "Number of classes; 0 takes it from the training dataset.", min=0)
    WEIGHTS: str = option("", 'Checkpoint to start from; "" starts from random weights.')
    DEVICE: str = option("auto", '"auto", "cpu", "cuda", "cuda:1", "mps"...')
    PIXEL_MEAN: list[float] = option(
        [123.675, 116.28, 103.53], "Mean per channel on the 0..255 scale, in the order of INPUT.FORMAT."
    )
    PIXEL_STD: list[float] = option(
        [58.395, 57.12, 57.375], "Standard deviation per channel, like PIXEL_MEAN.", check=_positive
    )
    SCORE_THRESH_TEST: float = option(0.05, "Predictions scored lower are dropped.", min=0, max=1)
    NMS_THRESH_TEST: float = option(0.6, "Of two boxes overlapping more (IoU), one is dropped.", min=0, max=1)
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


@dataclass(frozen=True)
class Crop:
    """Random cropping of training images."""

    ENABLED: bool = option(False, "Whether to crop.")
    TYPE: Literal["relative_range", "relative", "absolute", "absolute_range"] = option(
        "relative_range", "Whether SIZE is a fraction of the image or pixels, fixed or the end of a range."
    )
    SIZE: tuple[float, float] = option((0.9, 0.9), "Height and width of the crop.", check=_positive)


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
    COLOR: Color = section(Color)
    MASK_FORMAT: Literal["polygon", "bitmask"] = option("polygon", "How training masks are held.")


@dataclass(frozen=True)
class Datasets:
    """Which datasets."""

    TRAIN: tuple[str, ...] = option((), "Names of the datasets to train on.")
    TEST: tuple[str, ...] = option((), "Names of the datasets to evaluate on.")
    REGISTER: dict[str, Any] = option(
        {}, "Datasets to register before use: name -> {format: coco, json: path, images: folder}."
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


@dataclass(frozen=True)
class Amp:
    """Mixed precision, under detectron2's name."""

    ENABLED: bool = option(False, 'Train in mixed precision; PRECISION chooses which if it is not "fp32".')


@dataclass(frozen=True)
class ClipGradients:
    """Limits on gradients before each step."""

    ENABLED: bool = option(False, "Whether to clip.")
    CLIP_TYPE: Literal["value", "norm", "group", "full_model"] = option(
        "value",
        "Limit each element, each parameter's norm, the norm over each parameter group of the optimizer, or the norm "
        "over all parameters.",
    )
    CLIP_VALUE: float = option(1.0, "The limit.", check=_positive)
    NORM_TYPE: float = option(2.0, "Order of the norm; inf is the largest element.", check=_positive)


@dataclass(frozen=True)
class LayerDecay:
    """Lower learning rates for the early layers of a pretrained backbone."""

    RATE: float = option(
        1.0, "Factor on the learning rate from each layer to the one before it; 1 is off.", max=1, check=_positive
    )
    LAYERS: tuple[str, ...] = option(
        (), "Names of modules from input to output, of which a list stands for what is in it; () is the backbone's."
    )


@dataclass(frozen=True)
class Plateau:
    """When LR_SCHEDULER_NAME is ReduceLROnPlateau: what counts as no progress."""

    METRIC: str = option(
        "", 'The evaluation result that is watched; "" is the box AP, or validation_loss if MODE is min.'
    )
    MODE: Literal["max", "min"] = option("max", "Whether more or less of it is better.")
    PATIENCE: int = option(5, "Evaluations without progress before the rate is multiplied by GAMMA.", min=0)


@dataclass(frozen=True)
class Ema:
    """A moving average of the weights."""

    ENABLED: bool = option(False, "Whether to keep one; it is then what is evaluated.")
    DECAY: float = option(0.9998, "How much of the average stays at each iteration.", check=_below_one)


@dataclass(frozen=True)
class Solver:
    """How the weights are updated, and for how long."""

    IMS_PER_BATCH: int = option(16, "Images per batch over all processes.", min=1)
    MAX_ITER: int | str = option(
        40000, 'Length of the training: iterations, or epochs as "12ep".', check=partial(check_length, least=1)
    )
    OPTIMIZER: Literal["SGD", "AdamW"] = option("SGD", "The optimizer.")
    BASE_LR: float = option(0.001, "Learning rate after the warm-up.", min=0)
    BASE_LR_END: float = option(0.0, "Learning rate at the end of a cosine or one-cycle schedule.", min=0)
    MOMENTUM: float = option(0.9, "Momentum of SGD.", check=_below_one)
    NESTEROV: bool = option(False, "Nesterov's form of momentum.")
    BETAS: tuple[float, float] = option((0.9, 0.999), "Decay rates of AdamW's averages.", check=_below_one)
    WEIGHT_DECAY: float = option(1e-4, "Weight decay.", min=0)
    WEIGHT_DECAY_NORM: float | None = option(0.0, "Weight decay of normalisation layers; None is WEIGHT_DECAY.", min=0)
    WEIGHT_DECAY_BIAS: float | None = option(None, "Weight decay of biases; None is WEIGHT_DECAY.", min=0)
    BIAS_LR_FACTOR: float = option(1.0, "Learning rate of biases over BASE_LR.", min=0)
    LAYER_DECAY: LayerDecay = section(LayerDecay)
    LR_SCHEDULER_NAME: Literal[
        "WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR", "OneCycleLR", "ReduceLROnPlateau"
    ] = option("WarmupMultiStepLR", "How the learning rate changes.")
    STEPS: tuple[int, ...] = option(
        (30000,), "Iterations at which WarmupMultiStepLR multiplies the rate by GAMMA.", min=0, check=_increasing
    )
    GAMMA: float = option(0.1, "Factor of each decay.", check=_positive)
    NUM_DECAYS: int = option(3, "Equally spaced decays of WarmupStepWithFixedGammaLR.", min=0)
    RESCALE_INTERVAL: bool = option(
        False, "Fit the whole schedule into the time after the warm-up instead of cutting off its start."
    )
    WARMUP_FACTOR: float = option(0.001, "The warm-up starts at this fraction of the rate.", min=0)
    WARMUP_ITERS: int | str = option(1000, 'Length of the warm-up: iterations, or epochs as "1ep".', check=check_length)
    WARMUP_METHOD: Literal["linear", "constant"] = option("linear", "Rise linearly, or stay and jump.")
    CHECKPOINT_PERIOD: int | str = option(
        5000, 'A checkpoint every so many iterations, or epochs as "1ep".', check=partial(check_length, least=1)
    )
    CHECKPOINT_KEEP: int = option(0, "How many of the latest checkpoints are kept; 0 keeps all.", min=0)
    BEST_METRIC: str = option(
        "", 'Keep the checkpoint with the highest value of this result ("bbox/AP50"); "" keeps none.'
    )
    PRECISION: Literal["fp32", "bf16", "fp16", "auto"] = option(
        "fp32", "Number format of the forward pass; auto takes the best that the device has."
    )
    AMP: Amp = section(Amp)
    ACCUMULATE: int = option(1, "Batches whose gradients are averaged for one iteration.", min=1)
    CLIP_GRADIENTS: ClipGradients = section(ClipGradients)
    PLATEAU: Plateau = section(Plateau)
    REFERENCE_WORLD_SIZE: int = option(
        0, "Number of processes the numbers are meant for; with another number they are scaled. 0 is off.", min=0
    )
    NON_FINITE: Literal["raise", "skip", "rewind"] = option(
        "raise",
        "When loss or gradient is NaN or infinite: end, leave the step out, or go back to the last checkpoint and on "
        "with the data after it.",
    )
    OOM_RETRY: bool = option(False, "Make a batch that runs out of memory again in parts, with the same gradients.")
    EMA: Ema = section(Ema)


@dataclass(frozen=True)
class PreciseBn:
    """Exact batch-norm statistics before each evaluation."""

    ENABLED: bool = option(False, "Whether to compute them.")
    NUM_ITER: int = option(200, "Batches they are computed from.", min=1)


@dataclass(frozen=True)
class Evaluation:
    """Evaluation."""

    EVAL_PERIOD: int | str = option(
        0, 'Evaluate every so many iterations, or epochs as "1ep"; 0 is only at the end.', check=check_length
    )
    DETECTIONS_PER_IMAGE: int = option(100, "Most predictions kept per image.", min=1)
    EXPECTED_RESULTS: list[Any] = option([], "[task, metric, value, tolerance] entries that results must meet.")
    PRECISE_BN: PreciseBn = section(PreciseBn)
    KEYPOINT_OKS_SIGMAS: list[float] = option(
        [], "Tolerance of each keypoint in the evaluation's similarity; [] is COCO's, for 17 keypoints of persons."
    )
    IMS_PER_BATCH: int = option(1, "Images per batch over all processes.", min=1)


@dataclass(frozen=True)
class Root:
    """The config of a training."""

    VERSION: int = option(2, "Version of the config format.", choices=(2,))
    OUTPUT_DIR: str = option("./output", "Folder that everything is written to.")
    SEED: int = option(-1, "Seed of all randomness; negative draws one and logs it.")
    CUDNN_BENCHMARK: bool = option(False, "Let cuDNN try its algorithms; good for images of one size.")
    FLOAT32_PRECISION: Literal["", "highest", "high", "medium"] = option(
        "", 'Precision of float32 matrix products (torch.set_float32_matmul_precision); "" leaves it.'
    )
    REHEARSE: bool = option(
        True, "Before the first iteration, try a step, an evaluation batch, a checkpoint and the writers; undo it all."
    )
    WATCHDOG: float = option(
        0.0, "Seconds that a step may take before the run tells where every rank is, and ends; 0 is off.", min=0
    )
    VIS_PERIOD: int = option(0, "Draw training samples every so many iterations; 0 never.", min=0)
    MODEL: Model = section(Model)
    INPUT: Input = section(Input)
    DATASETS: Datasets = section(Datasets)
    DATALOADER: DataLoader = section(DataLoader)
    SOLVER: Solver = section(Solver)
    TEST: Evaluation = section(Evaluation)
