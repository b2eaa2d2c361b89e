"""Dataset formats: COCO, Pascal VOC, YOLO, label maps, image folders; drawn datasets; registration from a config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .coco import inspect_coco as inspect_coco
    from .coco import load_coco_json as load_coco_json
    from .coco import register_coco_instances as register_coco_instances
    from .coco_panoptic import load_coco_panoptic_json as load_coco_panoptic_json
    from .coco_panoptic import register_coco_panoptic as register_coco_panoptic
    from .defects import Defect as Defect
    from .defects import DefectReport as DefectReport
    from .defects import Severity as Severity
    from .image_folder import load_image_folder as load_image_folder
    from .image_folder import register_image_folder as register_image_folder
    from .label_maps import read_label_map as read_label_map
    from .label_maps import read_panoptic_map as read_panoptic_map
    from .label_maps import write_label_map as write_label_map
    from .label_maps import write_panoptic_map as write_panoptic_map
    from .registration import register_from_config as register_from_config
    from .sem_seg import load_sem_seg as load_sem_seg
    from .sem_seg import register_sem_seg as register_sem_seg
    from .sources import Source as Source
    from .sources import find_source as find_source
    from .sources import read_source as read_source
    from .synthetic import SyntheticClassification as SyntheticClassification
    from .synthetic import SyntheticDataset as SyntheticDataset
    from .synthetic import SyntheticPanoptic as SyntheticPanoptic
    from .synthetic import SyntheticSegmentation as SyntheticSegmentation
    from .synthetic import make_synthetic as make_synthetic
    from .synthetic import make_synthetic_classification as make_synthetic_classification
    from .synthetic import make_synthetic_panoptic as make_synthetic_panoptic
    from .synthetic import make_synthetic_segmentation as make_synthetic_segmentation
    from .voc import load_voc_instances as load_voc_instances
    from .voc import register_pascal_voc as register_pascal_voc
    from .yolo import load_yolo as load_yolo
    from .yolo import register_yolo as register_yolo

__all__ = [
    "Defect",
    "DefectReport",
    "Severity",
    "Source",
    "SyntheticClassification",
    "SyntheticDataset",
    "SyntheticPanoptic",
    "SyntheticSegmentation",
    "find_source",
    "inspect_coco",
    "load_coco_json",
    "load_coco_panoptic_json",
    "load_image_folder",
    "load_sem_seg",
    "load_voc_instances",
    "load_yolo",
    "make_synthetic",
    "make_synthetic_classification",
    "make_synthetic_panoptic",
    "make_synthetic_segmentation",
    "read_label_map",
    "read_panoptic_map",
    "read_source",
    "register_coco_instances",
    "register_coco_panoptic",
    "register_from_config",
    "register_image_folder",
    "register_pascal_voc",
    "register_sem_seg",
    "register_yolo",
    "write_label_map",
    "write_panoptic_map",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Defect": "defects",
        "DefectReport": "defects",
        "Severity": "defects",
        "Source": "sources",
        "SyntheticClassification": "synthetic",
        "SyntheticDataset": "synthetic",
        "SyntheticPanoptic": "synthetic",
        "SyntheticSegmentation": "synthetic",
        "find_source": "sources",
        "inspect_coco": "coco",
        "load_coco_json": "coco",
        "load_coco_panoptic_json": "coco_panoptic",
        "load_image_folder": "image_folder",
        "load_sem_seg": "sem_seg",
        "load_voc_instances": "voc",
        "load_yolo": "yolo",
        "make_synthetic": "synthetic",
        "make_synthetic_classification": "synthetic",
        "make_synthetic_panoptic": "synthetic",
        "make_synthetic_segmentation": "synthetic",
        "read_label_map": "label_maps",
        "read_panoptic_map": "label_maps",
        "read_source": "sources",
        "register_coco_instances": "coco",
        "register_coco_panoptic": "coco_panoptic",
        "register_from_config": "registration",
        "register_image_folder": "image_folder",
        "register_pascal_voc": "voc",
        "register_sem_seg": "sem_seg",
        "register_yolo": "yolo",
        "write_label_map": "label_maps",
        "write_panoptic_map": "label_maps",
    },
)
