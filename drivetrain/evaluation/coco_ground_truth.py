"""What is true about a dataset, as the COCO evaluation takes it: from its annotation file or from its records."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.errors import DatasetError

from .coco_annotations import clean_annotations, plain_id, records_to_coco

__all__ = ["CocoGroundTruth", "load_ground_truth"]

_logger = logging.getLogger(__name__)

_OF_LVIS = ("neg_category_ids", "not_exhaustive_category_ids")  # what images have there


@dataclass(frozen=True)
class CocoGroundTruth:
    """The ground truth of one dataset.

    Attributes:
        source: the file, or the dataset's name, for messages.
        api: a ``faster_coco_eval.COCO`` with the images, annotations and categories.
        image_ids: the dataset's image id -> the integer id inside ``api``. The same number, except where the dataset
            has ids that are not integers.
        class_names: by contiguous class index.
        class_ids: by contiguous class index, the category id inside ``api`` and in result files.
        kinds: what there is to compare with, of ``"bbox"``, ``"segm"`` and ``"keypoints"``.
        num_keypoints: keypoints of an instance; 0 without keypoints.
        annotated: False for a file without annotations (a test set whose answers are kept back).
    """

    source: str
    api: Any
    image_ids: Mapping[int | str, int]
    class_names: Sequence[str]
    class_ids: Sequence[int]
    kinds: frozenset[str]
    num_keypoints: int
    annotated: bool

    def image_size(self, image_id: int | str) -> tuple[int, int]:
        """(height, width) of an image in pixels; (0, 0) where it is not told."""
        image = self.api.imgs[self.image_ids[image_id]]
        return image.get("height", 0), image.get("width", 0)


def load_ground_truth(dataset_name: str) -> CocoGroundTruth:
    """Load the ground truth of a registered dataset: its metadata's ``json_file``, or else its records.

    Annotations that cannot be evaluated (of unknown images or categories, without a box) are left out and counted in
    the log; a missing area is computed.

    Raises:
        DatasetError: the name is not registered, the file cannot be read or is not a COCO file, an image id
            is there twice, or the classes in the metadata do not fit it.
    """
    metadata = MetadataCatalog.get(dataset_name)
    json_file = metadata.get("json_file")
    names = [str(name) for name in metadata.get("thing_classes") or ()]
    mapping = metadata.get("thing_dataset_id_to_contiguous_id")
    if json_file:
        content, source = _read(Path(json_file)), str(json_file)
        names, to_class = _classes_of_file(content, names, mapping, source)
        class_ids = _class_ids(to_class, len(names), source)
    else:
        source = f"dataset {dataset_name!r}"
        records = DatasetCatalog.get(dataset_name)
        # the metadata may have been filled in by loading
        names = [str(name) for name in metadata.get("thing_classes") or names] or _numbered_classes(records)
        mapping = metadata.get("thing_dataset_id_to_contiguous_id")
        to_class = _int_keys(mapping, source) if mapping else {i: i for i in range(len(names))}
        class_ids = _class_ids(to_class, len(names), source)
        content = records_to_coco(records, class_ids)
    return _ground_truth(content, names, class_ids, to_class, source)


def _read(path: Path) -> dict[str, Any]:
    """The content of a COCO file, its outer form checked."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"the annotation file {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DatasetError(f"the annotation file {path} is not valid JSON: {error}") from error
    for key in ("images", "categories"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) and "id" in e for e in entries):
            raise DatasetError(
                f"the annotation file {path} is not a COCO file: it has no list {key!r} of objects with an 'id'"
            )
    annotations = content.get("annotations", [])
    if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
        raise DatasetError(f"the annotation file {path} is not a COCO file: 'annotations' is no list of objects")
    return {str(key): value for key, value in content.items()}


def _classes_of_file(
    content: Mapping[str, Any], names: list[str], mapping: Mapping[Any, int] | None, source: str
) -> tuple[list[str], dict[int, int]]:
    """Class names, and category id -> contiguous class index; the file's own where the metadata has none."""
    categories = {_category_id(c["id"], source): str(c.get("name", c["id"])) for c in content["categories"]}
    ordered = sorted(categories)
    if mapping:
        to_class = _int_keys(mapping, source)
    elif names and len(names) != len(ordered):
        raise DatasetError(
            f"{source} has {len(ordered)} categories, but its dataset's metadata names {len(names)} classes: "
            "set thing_dataset_id_to_contiguous_id, or leave thing_classes out"
        )
    elif sorted(names) == sorted(categories.values()) and len(set(names)) == len(names):
        to_class = {category: names.index(name) for category, name in categories.items()}
    else:
        to_class = {category: index for index, category in enumerate(ordered)}
    if not names:
        by_class = {index: categories.get(category, str(category)) for category, index in to_class.items()}
        names = [by_class.get(index, str(index)) for index in range(max(by_class, default=-1) + 1)]
    return names, to_class


def _class_ids(to_class: Mapping[int, int], count: int, source: str) -> list[int]:
    """For each class index its category id, the smallest where several share the class."""
    found: dict[int, int] = {}
    for category in sorted(to_class, reverse=True):
        found[to_class[category]] = category
    if sorted(found) != list(range(count)):
        raise DatasetError(
            f"the metadata of {source} names {count} classes, but thing_dataset_id_to_contiguous_id leads to the "
            f"class indices {sorted(found)}: they have to be 0 to {count - 1}"
        )
    return [found[index] for index in range(count)]


def _int_keys(mapping: Mapping[Any, int], source: str) -> dict[int, int]:
    return {_category_id(category, source): int(index) for category, index in mapping.items()}


def _category_id(value: Any, source: str) -> int:
    """A category id as an int (JSON keys are strings)."""
    try:
        return int(value)
    except (TypeError, ValueError):
        raise DatasetError(f"{source}: a category id is an integer, not {value!r}") from None


def _numbered_classes(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names ``0``, ``1``, ... for records whose dataset names no classes."""
    used = [int(a.get("category_id", -1)) for record in records for a in record.get("annotations", ())]
    return [str(index) for index in range(max(used, default=-1) + 1)]


def _ground_truth(
    content: Mapping[str, Any],
    names: list[str],
    class_ids: list[int],
    to_class: Mapping[int, int],
    source: str,
) -> CocoGroundTruth:
    """Put the content of a COCO file in order and index it."""
    image_ids = _image_ids([plain_id(image["id"], source) for image in content["images"]], source)
    images = [_image(image, image_ids[plain_id(image["id"], source)]) for image in content["images"]]
    sizes = {image["id"]: (image["height"], image["width"]) if "height" in image else None for image in images}
    category_ids = {category: class_ids[index] for category, index in to_class.items()}
    annotations, dropped = clean_annotations(content.get("annotations", ()), image_ids, sizes, category_ids)
    for reason, count in dropped.items():
        _logger.warning(f"{source}: {count} annotations with {reason} are left out of the evaluation")
    kinds, num_keypoints = _complete(annotations, sizes, source)
    from faster_coco_eval import COCO

    # a category of each class, also of those without an annotation
    categories: list[dict[str, Any]] = [{"id": i, "name": name} for i, name in zip(class_ids, names, strict=True)]
    frequencies = {c["id"]: c["frequency"] for c in content.get("categories", ()) if "frequency" in c}  # of LVIS
    for category in categories:
        if category["id"] in frequencies:
            category["frequency"] = frequencies[category["id"]]
    dataset = {"images": images, "annotations": annotations, "categories": categories}
    return CocoGroundTruth(
        source=source,
        api=COCO(dataset),
        image_ids=image_ids,
        class_names=names,
        class_ids=class_ids,
        kinds=kinds,
        num_keypoints=num_keypoints,
        annotated="annotations" in content,
    )


def _image_ids(given: list[int | str], source: str) -> dict[int | str, int]:
    """The dataset's image id -> integer id. Order is kept, since it decides between detections of equal score."""
    twice = [key for key, count in Counter(given).items() if count > 1]
    if twice:
        raise DatasetError(
            f"{source}: {len(twice)} image ids belong to several images (the first is {twice[0]!r}): "
            "give each image an id of its own"
        )
    # the C++ code keeps ids as doubles
    if all(isinstance(i, int) and abs(i) <= 2**53 for i in given):
        return {i: int(i) for i in given}
    ordered = sorted(given, key=lambda i: (isinstance(i, str), i if isinstance(i, int) else 0, str(i)))
    return {key: number for number, key in enumerate(ordered, start=1)}


def _image(image: Mapping[str, Any], image_id: int) -> dict[str, Any]:
    """The fields of an image that evaluation reads."""
    result: dict[str, Any] = {"id": image_id, "file_name": image.get("file_name", "")}
    sides = [_pixels(image.get(side)) for side in ("height", "width")]
    if all(sides):
        result.update(height=sides[0], width=sides[1])
    result.update({key: image[key] for key in _OF_LVIS if key in image})
    return result


def _pixels(side: Any) -> int:
    """The length of an image's side; 0 for what is none."""
    length = float(side) if isinstance(side, Real) else 0.0
    return int(length) if length > 0 and length.is_integer() else 0


def _complete(
    annotations: list[dict[str, Any]], sizes: Mapping[int, tuple[int, int] | None], source: str
) -> tuple[frozenset[str], int]:
    """Find out what the annotations have, and give those that lack it a stand-in that the C++ code can read."""
    kinds = {"bbox"}
    masks = sum("segmentation" in annotation for annotation in annotations)
    if masks and all(sizes[annotation["image_id"]] is not None for annotation in annotations):
        kinds.add("segm")
        if masks < len(annotations):
            _logger.warning(
                f"{source}: {len(annotations) - masks} of {len(annotations)} annotations have no usable mask; their "
                "boxes stand in for it"
            )
        for annotation in annotations:
            annotation.setdefault("segmentation", [_corners(annotation["bbox"])])
    counts = {len(annotation["keypoints"]) // 3 for annotation in annotations if "keypoints" in annotation}
    if len(counts) > 1:
        _logger.warning(f"{source}: instances have {sorted(counts)} keypoints, so keypoints are not evaluated")
    if len(counts) != 1:
        return frozenset(kinds), 0
    (num_keypoints,) = counts
    for annotation in annotations:  # without labelled keypoints an instance is ignored
        annotation.setdefault("num_keypoints", 0)
        annotation.setdefault("keypoints", [0.0] * (3 * num_keypoints))
    return frozenset({*kinds, "keypoints"}), num_keypoints


def _corners(box: Sequence[float]) -> list[float]:
    """An XYWH box as a polygon."""
    x, y, width, height = box
    return [x, y, x, y + height, x + width, y + height, x + width, y]
