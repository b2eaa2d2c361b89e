"""Measuring a model on a dataset: the evaluator contract, the loop that feeds it, and an evaluator for each task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .build import build_evaluator as build_evaluator
    from .classification import ClassificationEvaluator as ClassificationEvaluator
    from .coco import COCOEvaluator as COCOEvaluator
    from .coco_ground_truth import CocoGroundTruth as CocoGroundTruth
    from .coco_ground_truth import load_ground_truth as load_ground_truth
    from .coco_results import instances_to_coco_json as instances_to_coco_json
    from .evaluator import DatasetEvaluator as DatasetEvaluator
    from .evaluator import DatasetEvaluators as DatasetEvaluators
    from .inference import inference_context as inference_context
    from .inference import inference_on_dataset as inference_on_dataset
    from .lvis import LVISEvaluator as LVISEvaluator
    from .panoptic import COCOPanopticEvaluator as COCOPanopticEvaluator
    from .pascal_voc import PascalVOCDetectionEvaluator as PascalVOCDetectionEvaluator
    from .semantic_segmentation import SemSegEvaluator as SemSegEvaluator
    from .tables import ClassRow as ClassRow
    from .tables import ResultTable as ResultTable
    from .tables import results_table as results_table
    from .testing import flatten_results_dict as flatten_results_dict
    from .testing import print_csv_format as print_csv_format
    from .testing import verify_results as verify_results

__all__ = [
    "COCOEvaluator",
    "COCOPanopticEvaluator",
    "ClassRow",
    "ClassificationEvaluator",
    "CocoGroundTruth",
    "DatasetEvaluator",
    "DatasetEvaluators",
    "LVISEvaluator",
    "PascalVOCDetectionEvaluator",
    "ResultTable",
    "SemSegEvaluator",
    "build_evaluator",
    "flatten_results_dict",
    "inference_context",
    "inference_on_dataset",
    "instances_to_coco_json",
    "load_ground_truth",
    "print_csv_format",
    "results_table",
    "verify_results",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "COCOEvaluator": "coco",
        "COCOPanopticEvaluator": "panoptic",
        "ClassRow": "tables",
        "ClassificationEvaluator": "classification",
        "CocoGroundTruth": "coco_ground_truth",
        "DatasetEvaluator": "evaluator",
        "DatasetEvaluators": "evaluator",
        "LVISEvaluator": "lvis",
        "PascalVOCDetectionEvaluator": "pascal_voc",
        "ResultTable": "tables",
        "SemSegEvaluator": "semantic_segmentation",
        "build_evaluator": "build",
        "flatten_results_dict": "testing",
        "inference_context": "inference",
        "inference_on_dataset": "inference",
        "instances_to_coco_json": "coco_results",
        "load_ground_truth": "coco_ground_truth",
        "print_csv_format": "testing",
        "results_table": "tables",
        "verify_results": "testing",
    },
)
