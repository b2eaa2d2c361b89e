"""Datasets: names and metadata, file formats, the record store, the order of samples, mapping and loading."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from . import transforms as transforms
    from .build import build_detection_test_loader as build_detection_test_loader
    from .build import build_detection_train_loader as build_detection_train_loader
    from .build import get_detection_dataset_dicts as get_detection_dataset_dicts
    from .catalog import DatasetCatalog as DatasetCatalog
    from .catalog import Metadata as Metadata
    from .catalog import MetadataCatalog as MetadataCatalog
    from .formats.coco import load_coco_json as load_coco_json
    from .formats.coco import register_coco_instances as register_coco_instances
    from .formats.coco_panoptic import register_coco_panoptic as register_coco_panoptic
    from .formats.image_folder import register_image_folder as register_image_folder
    from .formats.sem_seg import load_sem_seg as load_sem_seg
    from .formats.sem_seg import register_sem_seg as register_sem_seg
    from .formats.voc import load_voc_instances as load_voc_instances
    from .formats.voc import register_pascal_voc as register_pascal_voc
    from .formats.yolo import load_yolo as load_yolo
    from .formats.yolo import register_yolo as register_yolo
    from .images import read_image as read_image
    from .loader import TrainLoader as TrainLoader
    from .mapper import DatasetMapper as DatasetMapper
    from .order import GlobalOrder as GlobalOrder
    from .store import RecordStore as RecordStore

__all__ = [
    "DatasetCatalog",
    "DatasetMapper",
    "GlobalOrder",
    "Metadata",
    "MetadataCatalog",
    "RecordStore",
    "TrainLoader",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "get_detection_dataset_dicts",
    "load_coco_json",
    "load_sem_seg",
    "load_voc_instances",
    "load_yolo",
    "read_image",
    "register_coco_instances",
    "register_coco_panoptic",
    "register_image_folder",
    "register_pascal_voc",
    "register_sem_seg",
    "register_yolo",
    "transforms",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "DatasetCatalog": "catalog",
        "DatasetMapper": "mapper",
        "GlobalOrder": "order",
        "Metadata": "catalog",
        "MetadataCatalog": "catalog",
        "RecordStore": "store",
        "TrainLoader": "loader",
        "build_detection_test_loader": "build",
        "build_detection_train_loader": "build",
        "get_detection_dataset_dicts": "build",
        "load_coco_json": "formats.coco",
        "load_sem_seg": "formats.sem_seg",
        "load_voc_instances": "formats.voc",
        "load_yolo": "formats.yolo",
        "read_image": "images",
        "register_coco_instances": "formats.coco",
        "register_coco_panoptic": "formats.coco_panoptic",
        "register_image_folder": "formats.image_folder",
        "register_pascal_voc": "formats.voc",
        "register_sem_seg": "formats.sem_seg",
        "register_yolo": "formats.yolo",
        "transforms": "transforms",
    },
)
