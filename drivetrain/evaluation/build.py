"""The evaluator that a dataset asks for."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from drivetrain.data.catalog import DatasetCatalog, Metadata, MetadataCatalog
from drivetrain.errors import DatasetError, did_you_mean

from .classification import ClassificationEvaluator
from .coco import COCOEvaluator
from .evaluator import DatasetEvaluator
from .lvis import LVISEvaluator
from .panoptic import COCOPanopticEvaluator
from .pascal_voc import PascalVOCDetectionEvaluator
from .semantic_segmentation import SemSegEvaluator

__all__ = ["build_evaluator"]

_KNOWN = ("coco", "lvis", "pascal_voc", "sem_seg", "coco_panoptic_seg", "classification")


def build_evaluator(
    cfg: Any, dataset_name: str, output_folder: str | os.PathLike[str] | None = None
) -> DatasetEvaluator:
    """The evaluator for a dataset, chosen by ``evaluator_type`` in its metadata.

    =====================  ================================  ==========================================================
    ``evaluator_type``     evaluator                         chosen also without the type, by the first in this order
    =====================  ================================  ==========================================================
    ``coco_panoptic_seg``  ``COCOPanopticEvaluator``         the metadata has ``panoptic_root`` or ``panoptic_json``
    ``coco``               ``COCOEvaluator``                 it has ``json_file`` or ``thing_classes``
    ``sem_seg``            ``SemSegEvaluator``               it has ``stuff_classes``
    ``classification``     ``ClassificationEvaluator``       it has ``classes``
    ``pascal_voc``         ``PascalVOCDetectionEvaluator``   never
    ``lvis``               ``LVISEvaluator``                 never
    =====================  ================================  ==========================================================

    A model that predicts ``sem_seg`` and nothing panoptic (``MODEL.TARGETS``) is evaluated by ``SemSegEvaluator`` on
    panoptic data too: their segments tell the class of each pixel.

    Args:
        cfg: read are ``OUTPUT_DIR``, ``DATASETS.TEST`` and, if they are there, ``TEST.KEYPOINT_OKS_SIGMAS`` and
            ``MODEL.TARGETS``.
        dataset_name: a name in the catalog.
        output_folder: where to write results; by default ``OUTPUT_DIR/inference``, with a folder in it for each
            dataset when several are tested.

    Raises:
        DatasetError: the dataset is not registered, or its evaluator type is missing or unknown.
    """
    if dataset_name not in DatasetCatalog and dataset_name not in MetadataCatalog:
        DatasetCatalog.get(dataset_name)  # raises, naming close names
    metadata = MetadataCatalog.get(dataset_name)
    kind = metadata.get("evaluator_type") or _likely(metadata)
    if kind not in _KNOWN:
        raise DatasetError(
            f"the metadata of dataset {dataset_name!r} has the evaluator_type {kind!r}"
            f"{did_you_mean(str(kind), _KNOWN)} (known: {', '.join(_KNOWN)}): set "
            f"MetadataCatalog.get({dataset_name!r}).evaluator_type, or override build_evaluator"
        )
    targets = getattr(cfg, "MODEL", {}).get("TARGETS", ())
    if kind == "coco_panoptic_seg" and "sem_seg" in targets and "panoptic" not in targets:
        kind = "sem_seg"
    folder = _default_folder(cfg, dataset_name) if output_folder is None else output_folder
    return _make(kind, cfg, dataset_name, folder)


def _likely(metadata: Metadata) -> str | None:
    """The evaluator type of a dataset that names none, by what its metadata has."""
    signs = {
        "coco_panoptic_seg": ("panoptic_root", "panoptic_json"),
        "coco": ("json_file", "thing_classes"),
        "sem_seg": ("stuff_classes",),
        "classification": ("classes",),
    }
    return next((kind for kind, keys in signs.items() if any(metadata.get(key) for key in keys)), None)


def _make(kind: str, cfg: Any, dataset_name: str, folder: str | os.PathLike[str]) -> DatasetEvaluator:
    """An evaluator by its type."""
    if kind == "coco":
        sigmas = cfg.TEST.get("KEYPOINT_OKS_SIGMAS", ())
        return COCOEvaluator(dataset_name, output_dir=folder, kpt_oks_sigmas=sigmas)
    if kind == "classification":
        return ClassificationEvaluator(dataset_name)
    if kind == "coco_panoptic_seg":
        return COCOPanopticEvaluator(dataset_name, output_dir=folder)
    if kind == "lvis":
        return LVISEvaluator(dataset_name, output_dir=folder)
    if kind == "pascal_voc":
        return PascalVOCDetectionEvaluator(dataset_name, output_dir=folder)
    return SemSegEvaluator(dataset_name, output_dir=folder)


def _default_folder(cfg: Any, dataset_name: str) -> str:
    """``OUTPUT_DIR/inference``, or a folder in it named after the dataset."""
    folder = os.path.join(cfg.OUTPUT_DIR, "inference")
    tested = cfg.DATASETS.TEST
    if isinstance(tested, str) or not isinstance(tested, Sequence) or len(tested) < 2:
        return folder
    return os.path.join(folder, re.sub(r"[^\w.-]|^\.+", "_", dataset_name))
