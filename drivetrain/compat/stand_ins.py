"""Names that training scripts import at their top and seldom use: the import works, and a use says what to do instead.

The sentences are those of ``ABSENT`` in :mod:`drivetrain.compat.table`.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from drivetrain.errors import UserInputError
from drivetrain.evaluation import DatasetEvaluator

__all__ = [
    "CityscapesEvaluator",
    "CityscapesInstanceEvaluator",
    "CityscapesSemSegEvaluator",
    "DataLoaderBenchmark",
    "PanopticDeeplabDatasetMapper",
    "RotatedCOCOEvaluator",
    "add_panoptic_deeplab_config",
    "add_pointrend_config",
]


def _refuse(path: str) -> NoReturn:
    from .importer import sentence  # whose table names this module

    raise UserInputError(sentence(path))


class _StandIn:
    """Raises UserInputError when it is made."""

    path: ClassVar[str]
    """Of what it stands for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        _refuse(self.path)


class CityscapesEvaluator(_StandIn, DatasetEvaluator):
    """Evaluation as the Cityscapes server does it; UserInputError when it is made."""

    path = "detectron2.evaluation.CityscapesEvaluator"


class CityscapesInstanceEvaluator(CityscapesEvaluator):
    """That of instances."""

    path = "detectron2.evaluation.CityscapesInstanceEvaluator"


class CityscapesSemSegEvaluator(CityscapesEvaluator):
    """That of semantic segmentation."""

    path = "detectron2.evaluation.CityscapesSemSegEvaluator"


class RotatedCOCOEvaluator(_StandIn, DatasetEvaluator):
    """Evaluation of rotated boxes; UserInputError when it is made."""

    path = "detectron2.evaluation.RotatedCOCOEvaluator"


class DataLoaderBenchmark(_StandIn):
    """Timing of a data loader's parts; UserInputError when it is made."""

    path = "detectron2.data.benchmark.DataLoaderBenchmark"


class PanopticDeeplabDatasetMapper(_StandIn):
    """The mapper of Panoptic-DeepLab; UserInputError when it is made."""

    path = "detectron2.projects.panoptic_deeplab.PanopticDeeplabDatasetMapper"


def add_panoptic_deeplab_config(cfg: Any) -> NoReturn:
    """The keys of Panoptic-DeepLab; raises UserInputError."""
    _refuse("detectron2.projects.panoptic_deeplab.add_panoptic_deeplab_config")


def add_pointrend_config(cfg: Any) -> NoReturn:
    """The keys of PointRend; raises UserInputError."""
    _refuse("detectron2.projects.point_rend.add_pointrend_config")
