"""The evaluator that a dataset asks for."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.errors import DatasetError, did_you_mean

from .coco import COCOEvaluator
from .evaluator import DatasetEvaluator

__all__ = ["build_evaluator"]

_KNOWN = ("coco",)


def build_evaluator(
    cfg: Any, dataset_name: str, output_folder: str | os.PathLike[str] | None = None
) -> DatasetEvaluator:
    """The evaluator for a dataset, chosen by ``evaluator_type`` in its metadata.

    A dataset that says nothing but has class names or an annotation file is evaluated as COCO data.

    Args:
        cfg: read are ``OUTPUT_DIR``, ``DATASETS.TEST`` and, if it is there, ``TEST.KEYPOINT_OKS_SIGMAS``.
        dataset_name: a name in the catalog.
        output_folder: where to write results; by default ``OUTPUT_DIR/inference``, with a folder in it for each
            dataset when several are tested.

    Raises:
        DatasetError: the dataset is not registered, or its evaluator type is missing or unknown.
    """
    if dataset_name not in DatasetCatalog and dataset_name not in MetadataCatalog:
        DatasetCatalog.get(dataset_name)  # raises, naming close names
    metadata = MetadataCatalog.get(dataset_name)
    kind = metadata.get("evaluator_type")
    if kind is None and (metadata.get("thing_classes") or metadata.get("json_file")):
        kind = "coco"
    if kind not in _KNOWN:
        raise DatasetError(
            f"the metadata of dataset {dataset_name!r} has the evaluator_type {kind!r}"
            f"{did_you_mean(str(kind), _KNOWN)} (known: {', '.join(_KNOWN)}): set "
            f"MetadataCatalog.get({dataset_name!r}).evaluator_type, or override build_evaluator"
        )
    folder = _default_folder(cfg, dataset_name) if output_folder is None else output_folder
    sigmas = cfg.TEST.get("KEYPOINT_OKS_SIGMAS", ())
    return COCOEvaluator(dataset_name, output_dir=folder, kpt_oks_sigmas=sigmas)


def _default_folder(cfg: Any, dataset_name: str) -> str:
    """``OUTPUT_DIR/inference``, or a folder in it named after the dataset."""
    folder = os.path.join(cfg.OUTPUT_DIR, "inference")
    tested = cfg.DATASETS.TEST
    if isinstance(tested, str) or not isinstance(tested, Sequence) or len(tested) < 2:
        return folder
    return os.path.join(folder, re.sub(r"[^\w.-]|^\.+", "_", dataset_name))
