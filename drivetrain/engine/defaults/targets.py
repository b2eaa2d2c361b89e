"""What a model learns from, and whether the datasets have it: found out before a training starts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from drivetrain.config import CfgNode
from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.defects import DefectReport
from drivetrain.data.formats.sem_seg import IGNORE_LABEL, check_label_maps
from drivetrain.errors import ConfigError, DatasetError
from drivetrain.modeling.build import class_count, class_count_key
from drivetrain.modeling.registry import MODELS

from .data import as_names, class_names

__all__ = ["check_targets", "check_test_sets", "with_targets"]

logger = logging.getLogger(__name__)

_NEEDS = {
    "boxes": ("annotations",),
    "masks": ("annotations",),
    "keypoints": ("annotations",),
    "sem_seg": ("sem_seg_file_name", "pan_seg_file_name"),
    "panoptic": ("pan_seg_file_name",),
    "classes": ("class_id",),
}
_HINTS = {
    "boxes": "an object detector is trained on COCO, Pascal VOC or YOLO data",
    "masks": "an instance segmentation is trained on COCO data with masks",
    "keypoints": "a keypoint detector is trained on COCO data with keypoints",
    "sem_seg": "a semantic segmentation is trained on images with label maps (DATASETS.REGISTER, format sem_seg)",
    "panoptic": "a panoptic segmentation is trained on COCO panoptic data (DATASETS.REGISTER, format coco_panoptic)",
    "classes": "a classifier is trained on a folder of images for each class (DATASETS.REGISTER, format folder)",
}
_OBJECTS = ("boxes", "masks", "keypoints")
_EVALUATED = {
    "coco": _OBJECTS,
    "lvis": _OBJECTS,
    "pascal_voc": _OBJECTS,
    "sem_seg": ("sem_seg",),
    "coco_panoptic_seg": ("panoptic", "sem_seg"),
    "classification": ("classes",),
}
"""A dataset's ``evaluator_type`` -> of what a model learns, what it evaluates."""
_COCO_KEYPOINTS = 17
_MOST_MAPS = 200  # whose pixels are looked at
_ENTRY_KEYS = {"masks": "segmentation", "keypoints": "keypoints"}  # what each annotation needs


def with_targets(cfg: CfgNode) -> CfgNode:
    """A copy of a config in which ``MODEL.TARGETS`` says what the model named learns from.

    A config that sets it already, or describes its model by ``MASK_ON`` and ``KEYPOINT_ON``, keeps what it says. The
    number of keypoints, where it is 0, becomes that of the training dataset, and so do the classes of stuff.
    """
    resolved = cfg.clone()
    frozen = resolved.is_frozen()
    resolved.defrost()
    model = resolved.MODEL
    if "TARGETS" in model and not model.TARGETS and model.NAME in MODELS:
        model.TARGETS = MODELS.entry(model.NAME).targets
    if "keypoints" in model.get("TARGETS", ()) and not model.get("NUM_KEYPOINTS", 0):
        model.NUM_KEYPOINTS = len(_keypoint_names(resolved))
    if "panoptic" in model.get("TARGETS", ()) and not model.TRANSFORMERS.STUFF_CLASSES:
        model.TRANSFORMERS.STUFF_CLASSES = _stuff_classes(resolved)
    if frozen:
        resolved.freeze()
    return resolved


def check_targets(cfg: CfgNode) -> None:
    """Check that the training datasets have what the model learns from.

    Raises:
        DatasetError: one has not, its keypoints are of another number than the model's, or a label map (of up to 200
            that are read, where the dataset has no class names to compare them with) has a label that is no class of
            the model; names an image.
        ConfigError: the evaluation of keypoints has not a tolerance for each.
    """
    targets = cfg.MODEL.get("TARGETS", ())
    if "keypoints" in targets and as_names(cfg.DATASETS.TEST):
        _check_sigmas(cfg)
    for name in as_names(cfg.DATASETS.TRAIN):
        records = DatasetCatalog.store(name)
        if not len(records):
            continue
        for target in targets:
            if not any(key in records[0] for key in _NEEDS[target]):
                raise DatasetError(
                    f"model {cfg.MODEL.NAME!r} learns from {target}, and dataset {name!r} has none: {_HINTS[target]}"
                )
            if target in _ENTRY_KEYS:
                _check_annotations(name, records, target, cfg.MODEL.get("NUM_KEYPOINTS", 0))
            if target == "sem_seg":
                _check_labels(name, records, cfg.MODEL.NUM_CLASSES)


def check_test_sets(cfg: CfgNode) -> None:
    """Check that what the model predicts can be evaluated on the test datasets, by the evaluators they ask for.

    Raises:
        DatasetError: one is evaluated on something else, on another number of keypoints, or has the classes of the
            training in another order.
        ConfigError: one has another number of classes than the model.
    """
    targets, count = cfg.MODEL.get("TARGETS", ()), class_count(cfg)
    for name in as_names(cfg.DATASETS.TEST):
        if name in DatasetCatalog:
            DatasetCatalog.store(name)  # names in a file are known once it is read
        metadata = MetadataCatalog.get(name).as_dict()
        kind = metadata.get("evaluator_type")
        if targets and kind in _EVALUATED and not set(targets) & set(_EVALUATED[kind]):
            raise DatasetError(
                f"model {cfg.MODEL.NAME!r} predicts {', '.join(targets)}, but test dataset {name!r} evaluates "
                f"{' or '.join(_EVALUATED[kind])} (its evaluator_type is {kind!r}): test on another dataset "
                "(DATASETS.TEST)"
            )
        classes = metadata.get("thing_classes") or metadata.get("stuff_classes") or ()
        if classes and count and len(classes) != count:
            raise ConfigError(
                f"{class_count_key(cfg)} is {count}, but test dataset {name!r} has {len(classes)} classes, and "
                "predictions of others cannot be evaluated: set it to their number, or test on another dataset "
                "(DATASETS.TEST)"
            )
        _compare_classes(name, classes, class_names(cfg))
        points, wanted = metadata.get("keypoint_names") or (), cfg.MODEL.get("NUM_KEYPOINTS", 0)
        if "keypoints" in targets and points and wanted and len(points) != wanted:
            raise DatasetError(
                f"test dataset {name!r} has {len(points)} keypoints, and the model has {wanted} (MODEL.NUM_KEYPOINTS): "
                "test on another dataset (DATASETS.TEST)"
            )


def _compare_classes(name: str, classes: Sequence[str], learned: Sequence[str]) -> None:
    """DatasetError for classes in another order; a warning for other names, which may mean the same."""
    pairs = enumerate(zip(classes, learned, strict=False))
    first = next(((number, *pair) for number, pair in pairs if pair[0] != pair[1]), None)
    if first is None:
        return
    told = f"class {first[0]} of test dataset {name!r} is {first[1]!r}, and of the training {first[2]!r}"
    if sorted(classes) == sorted(learned):
        raise DatasetError(f"{told}, so that predictions would count for another class: number them alike in both")
    logger.warning("%s; classes are compared by their number", told)


def _check_labels(name: str, records: Any, num_classes: int) -> None:
    """DatasetError for labels that are no class of the model; with class names, loading has compared them already."""
    metadata = MetadataCatalog.get(name)
    if not num_classes or metadata.get("stuff_classes") or "sem_seg_file_name" not in records[0]:
        return
    report = DefectReport(f"dataset {name!r}")
    check_label_maps(records, num_classes, metadata.get("ignore_label", IGNORE_LABEL), report, _MOST_MAPS)
    report.raise_if_errors()


def _check_sigmas(cfg: CfgNode) -> None:
    count, given = cfg.MODEL.get("NUM_KEYPOINTS", 0), len(cfg.TEST.get("KEYPOINT_OKS_SIGMAS", ()))
    if count and (given or _COCO_KEYPOINTS) != count:
        raise ConfigError(
            f"TEST.KEYPOINT_OKS_SIGMAS has {given} numbers, and objects have {count} keypoints: give one tolerance for "
            f"each, such as {[0.05] * min(count, 3)}; without any, those of COCO's {_COCO_KEYPOINTS} are taken"
        )


def _check_annotations(name: str, records: Any, target: str, num_keypoints: int) -> None:
    key = _ENTRY_KEYS[target]
    for record in records:
        for annotation in record["annotations"]:
            if annotation.get("iscrowd", 0):
                continue
            if not annotation.get(key):
                raise DatasetError(
                    f"dataset {name!r}: an object in {record['file_name']!r} has no {key!r}, which a model that learns "
                    f"from {target} needs for every object: {_HINTS[target]}"
                )
            if target == "keypoints" and num_keypoints and len(annotation[key]) != 3 * num_keypoints:
                found = len(annotation[key]) // 3
                raise DatasetError(
                    f"dataset {name!r}: an object in {record['file_name']!r} has {found} keypoints, and the model has "
                    f"{num_keypoints}: set MODEL.NUM_KEYPOINTS to 0 to take the dataset's number"
                )


def _stuff_classes(cfg: CfgNode) -> list[int]:
    """The classes of the first training dataset that are not things; [] if it does not tell."""
    for name in as_names(cfg.DATASETS.TRAIN)[:1]:
        if name in DatasetCatalog:
            DatasetCatalog.store(name)
        metadata = MetadataCatalog.get(name).as_dict()
        things = set(metadata.get("thing_dataset_id_to_contiguous_id", {}).values())
        return sorted(set(metadata.get("stuff_dataset_id_to_contiguous_id", {}).values()) - things)
    return []


def _keypoint_names(cfg: CfgNode) -> list[str]:
    for name in as_names(cfg.DATASETS.TRAIN):
        if name in DatasetCatalog:
            DatasetCatalog.store(name)  # names in a file are known once it is read
        metadata: Mapping[str, Any] = MetadataCatalog.get(name).as_dict()
        if names := metadata.get("keypoint_names"):
            return list(names)
    return []
