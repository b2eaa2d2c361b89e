"""The datasets of COCO that detectron2 registers by itself; importing this module does so.

Their files are looked for when the records are asked for, below the folder ``datasets`` or that of the environment
variable ``DETECTRON2_DATASETS``. Class names are known without them.
"""

from __future__ import annotations

import os
from types import MappingProxyType

from drivetrain.data.catalog import DatasetCatalog, Metadata, MetadataCatalog
from drivetrain.data.formats.coco import register_coco_instances

from .coco_categories import instances_metadata, keypoints_metadata

__all__ = ["DatasetCatalog", "Metadata", "MetadataCatalog", "register_builtin"]

_SPLITS = MappingProxyType(
    {
        # end of the dataset's name -> folder of its images below coco/, end of its annotation file
        "2014_train": ("train2014", "train2014"),
        "2014_val": ("val2014", "val2014"),
        "2014_minival": ("val2014", "minival2014"),
        "2014_valminusminival": ("val2014", "valminusminival2014"),
        "2017_train": ("train2017", "train2017"),
        "2017_val": ("val2017", "val2017"),
        "2017_val_100": ("val2017", "val2017_100"),
    }
)
_TEST_SPLITS = MappingProxyType({"2017_test": "test2017", "2017_test-dev": "test-dev2017"})


def register_builtin(root: str | os.PathLike[str] | None = None) -> None:
    """Register COCO's instances and keypoints, except for names that are taken.

    Args:
        root: the folder that has ``coco``; by default that of ``DETECTRON2_DATASETS``, else ``datasets``.
    """
    folder = os.path.expanduser(os.environ.get("DETECTRON2_DATASETS", "datasets") if root is None else root)
    coco = os.path.join(folder, "coco")
    for split, (images, file) in _SPLITS.items():
        _register(f"coco_{split}", coco, f"instances_{file}", images, keypoints=False)
        _register(f"keypoints_coco_{split}", coco, f"person_keypoints_{file}", images, keypoints=True)
    for split, file in _TEST_SPLITS.items():
        _register(f"coco_{split}", coco, f"image_info_{file}", "test2017", keypoints=False)


def _register(name: str, coco: str, file: str, images: str, *, keypoints: bool) -> None:
    if name in DatasetCatalog or name in MetadataCatalog:
        return
    metadata = keypoints_metadata() if keypoints else instances_metadata()
    annotations = os.path.join(coco, "annotations", f"{file}.json")
    register_coco_instances(name, metadata, annotations, os.path.join(coco, images))


register_builtin()
