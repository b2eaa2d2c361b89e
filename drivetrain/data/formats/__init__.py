"""Dataset formats: COCO annotation files, the drawn shapes of the demo, and registration from a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .coco import inspect_coco as inspect_coco
    from .coco import load_coco_json as load_coco_json
    from .coco import register_coco_instances as register_coco_instances
    from .defects import Defect as Defect
    from .defects import DefectReport as DefectReport
    from .defects import Severity as Severity
    from .registration import register_from_config as register_from_config
    from .synthetic import SyntheticDataset as SyntheticDataset
    from .synthetic import make_synthetic as make_synthetic

__all__ = [
    "Defect",
    "DefectReport",
    "Severity",
    "SyntheticDataset",
    "inspect_coco",
    "load_coco_json",
    "make_synthetic",
    "register_coco_instances",
    "register_from_config",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Defect": "defects",
        "DefectReport": "defects",
        "Severity": "defects",
        "SyntheticDataset": "synthetic",
        "inspect_coco": "coco",
        "load_coco_json": "coco",
        "make_synthetic": "synthetic",
        "register_coco_instances": "coco",
        "register_from_config": "registration",
    },
)
