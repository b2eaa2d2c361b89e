"""The keys under SOLVER."""

# ruff: noqa: RUF009 - option() and section() make dataclass fields, as dataclasses.field() does
from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from drivetrain.config import option, section
from drivetrain.solver.length import check_length

from .checks import below_one, increasing, positive

__all__ = ["Amp", "ClipGradients", "Ema", "LayerDecay", "Plateau", "Solver"]


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
    CLIP_VALUE: float = option(1.0, "The limit.", check=positive)
    NORM_TYPE: float = option(2.0, "Order of the norm; inf is the largest element.", check=positive)


@dataclass(frozen=True)
class LayerDecay:
    """Lower learning rates for the early layers of a pretrained backbone."""

    RATE: float = option(
        1.0, "Factor on the learning rate from each layer to the one before it; 1 is off.", max=1, check=positive
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
    DECAY: float = option(0.9998, "How much of the average stays at each iteration.", check=below_one)


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
    MOMENTUM: float = option(0.9, "Momentum of SGD.", check=below_one)
    NESTEROV: bool = option(False, "Nesterov's form of momentum.")
    BETAS: tuple[float, float] = option((0.9, 0.999), "Decay rates of AdamW's averages.", check=below_one)
    WEIGHT_DECAY: float = option(1e-4, "Weight decay.", min=0)
    WEIGHT_DECAY_NORM: float | None = option(0.0, "Weight decay of normalisation layers; None is WEIGHT_DECAY.", min=0)
    WEIGHT_DECAY_BIAS: float | None = option(None, "Weight decay of biases; None is WEIGHT_DECAY.", min=0)
    BIAS_LR_FACTOR: float = option(1.0, "Learning rate of biases over BASE_LR.", min=0)
    LAYER_DECAY: LayerDecay = section(LayerDecay)
    LR_SCHEDULER_NAME: Literal[
        "WarmupMultiStepLR",
        "WarmupCosineLR",
        "WarmupStepWithFixedGammaLR",
        "WarmupPolyLR",
        "OneCycleLR",
        "ReduceLROnPlateau",
    ] = option("WarmupMultiStepLR", "How the learning rate changes.")
    STEPS: tuple[int, ...] = option(
        (30000,), "Iterations at which WarmupMultiStepLR multiplies the rate by GAMMA.", min=0, check=increasing
    )
    GAMMA: float = option(0.1, "Factor of each decay.", check=positive)
    NUM_DECAYS: int = option(3, "Equally spaced decays of WarmupStepWithFixedGammaLR.", min=0)
    POLY_LR_POWER: float = option(0.9, "Exponent of WarmupPolyLR.", check=positive)
    POLY_LR_CONSTANT_ENDING: float = option(0.0, "Least factor of WarmupPolyLR after the warm-up.", min=0, max=1)
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
