"""The picture sheet of ``drivetrain data inspect``: some images of a dataset with what it says about them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from drivetrain.errors import DatasetError

if TYPE_CHECKING:
    from drivetrain.data.formats.entry import ReadDataset

__all__ = ["draw_truth", "sample_sheet"]

Array = np.ndarray[Any, Any]
Record = Mapping[str, Any]

_LONGEST_SIDE = 960  # pixels


def sample_sheet(read: ReadDataset, count: int, seed: int) -> Array:
    """A sheet of images chosen by chance, with boxes, masks, keypoints, label maps or classes drawn on them.

    Images that cannot be read or are of another size than the dataset says are passed over.

    Args:
        read: the dataset.
        count: how many images are shown at most.
        seed: of the choice.

    Returns:
        uint8 array (height, width, 3), RGB.

    Raises:
        DatasetError: no image can be shown.
    """
    from drivetrain.visualization import contact_sheet

    names = list(read.metadata.get("thing_classes") or read.metadata.get("stuff_classes") or ())
    order = np.random.default_rng(seed).permutation(len(read.records)).tolist()
    pictures: list[tuple[int, tuple[str, Array]]] = []
    for place in order:
        if len(pictures) == count:
            break
        record = read.records[place]
        try:
            drawn = _shrunk(draw_truth(record, names, read.metadata))
        except (DatasetError, ValueError):  # the report has it
            continue
        pictures.append((place, (_caption(record, names), drawn)))
    if not pictures:
        raise DatasetError(f"no image of {read.image_root!r} can be shown: none can be read and fits its annotations")
    return contact_sheet([picture for _, picture in sorted(pictures, key=lambda pair: pair[0])])


def draw_truth(record: Record, names: Sequence[str], metadata: Mapping[str, Any]) -> Array:
    """A record's image with what the dataset says about it drawn on it, uint8 RGB array (height, width, 3).

    Args:
        record: of a dataset of any kind.
        names: of the classes.
        metadata: of the dataset; its ``ignore_label`` is read.

    Raises:
        DatasetError: the image or a label map cannot be read.
        ValueError: they are of different sizes.
    """
    from drivetrain.data.formats.label_maps import read_label_map, read_panoptic_map
    from drivetrain.data.images import read_image
    from drivetrain.visualization import captioned, draw_label_map, draw_record, draw_regions

    image = read_image(record["file_name"], "RGB")
    if "pan_seg_file_name" in record:
        classes = {segment["id"]: segment["category_id"] for segment in record["segments_info"]}
        return draw_regions(image, read_panoptic_map(record["pan_seg_file_name"]), classes, names)
    if "sem_seg_file_name" in record:
        labels = read_label_map(record["sem_seg_file_name"])
        return draw_label_map(image, labels, names, ignore_label=metadata.get("ignore_label"))
    if "class_id" in record:
        return captioned(image, _class_name(record, names), min_side=480)
    return draw_record(image, record, names)


def _shrunk(image: Array) -> Array:
    """The picture at no more than twice the size that it has on the sheet."""
    scale = _LONGEST_SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _caption(record: Record, names: Sequence[str]) -> str:
    name = os.path.basename(str(record["file_name"]))
    if "class_id" in record:
        return f"{_class_name(record, names)}: {name}"
    items = record.get("annotations", record.get("segments_info"))
    if items is None:
        return name
    word = "segment" if "segments_info" in record else "object"
    return f"{name}, {len(items)} {word}{'' if len(items) == 1 else 's'}"


def _class_name(record: Record, names: Sequence[str]) -> str:
    label = int(record["class_id"])
    return names[label] if label < len(names) else f"class {label}"
