"""The keys under TEST, those at the top, and all of them as one."""

# ruff: noqa: RUF009 - option() and section() make dataclass fields, as dataclasses.field() does
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from drivetrain.config import option, section
from drivetrain.solver.length import check_length

from .checks import seconds_or_auto
from .data import DataLoader, Datasets, Input
from .model import Model
from .solver import Solver

__all__ = ["Evaluation", "PreciseBn", "Root"]


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
    MASK_FORMAT: Literal["bitmask", "rle"] = option(
        "bitmask", "How predicted masks are held: as bitmaps, or run-length encoded."
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
    WATCHDOG: float | str = option(
        "auto",
        "Seconds that a step may take before the run tells where every rank is, and ends; 0 is off. "
        '"auto" tells it after minutes that fit the steps so far, and ends nothing.',
        check=seconds_or_auto,
    )
    VIS_PERIOD: int = option(0, "Draw training samples every so many iterations; 0 never.", min=0)
    MODEL: Model = section(Model)
    INPUT: Input = section(Input)
    DATASETS: Datasets = section(Datasets)
    DATALOADER: DataLoader = section(DataLoader)
    SOLVER: Solver = section(Solver)
    TEST: Evaluation = section(Evaluation)
