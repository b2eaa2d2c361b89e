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
    "read_image",
    "register_coco_instances",
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
        "read_image": "images",
        "register_coco_instances": "formats.coco",
        "transforms": "transforms",
    },
)
