"""Panoptic quality on a registered dataset."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from drivetrain.data.catalog import DatasetCatalog
from drivetrain.data.formats.label_maps import read_panoptic_map
from drivetrain.errors import DatasetError, EvaluationError

from .coco_annotations import plain_id
from .files import write_json
from .panoptic_quality import PanopticClasses, Segment, match_segments, panoptic_qualities
from .per_image import PerImageEvaluator, as_tensor, check_images, spread
from .store import MEMORY_LIMIT, PredictionStore, Rows
from .tables import ClassRow, ResultTable

__all__ = ["COCOPanopticEvaluator"]

Array = np.ndarray[Any, Any]

_VOID = 0  # the id of pixels without a segment
_LOOKED_AT = 16  # maps that are read before a training starts
_QUALITIES = ("PQ", "SQ", "RQ")


class COCOPanopticEvaluator(PerImageEvaluator):
    """Panoptic quality on a registered dataset, as the COCO challenge measures it.

    The results are ``{"panoptic_seg": {...}}`` with, in 0..100: ``PQ``, ``SQ``, ``RQ`` over all classes, ``PQ_th`` ...
    over things, ``PQ_st`` ... over stuff, and ``PQ-<class>``; NaN where there is neither truth nor prediction.

    What is true is the catalog's records: ``pan_seg_file_name``, a PNG whose colours are segment ids (R + 256 G + 65536
    B, 0 for void), and ``segments_info``, dicts with ``id``, ``category_id`` (contiguous), ``isthing`` and ``iscrowd``.
    A model gives ``panoptic_seg``: the map of segment ids, of whole numbers (H, W) in the size of the original image,
    and a list of dicts with ``id``, ``category_id`` and ``isthing``; pixels of 0 or -1 that are no segment are void.
    Segments without a pixel count nowhere.
    """

    _input_keys: ClassVar[tuple[str, ...]] = ("image_id",)
    _output_key: ClassVar[str] = "panoptic_seg"

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | os.PathLike[str] | None = None,
        distributed: bool = True,
        *,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        """Prepare an evaluation.

        Args:
            dataset_name: a name in the catalog.
            output_dir: gets ``panoptic_evaluation.json`` with the figures of all classes.
            distributed: bring the predictions of all processes together; otherwise each evaluates its own.
            memory_limit: bytes of counts that a process keeps in memory; what goes beyond lies on disk.
        """
        super().__init__(dataset_name, distributed, output_dir, memory_limit=memory_limit)

    def check(self) -> None:
        """Look at the ground truth now, so that what is wrong is said before a training starts.

        Raises:
            DatasetError: the dataset is not registered, a record lacks something, a class is unknown, or one of up to
                16 PNGs spread over the dataset cannot be read or does not fit its segments.
            OutputError: the output folder cannot be made.
        """
        records = list(self._records.values())
        for record in records:
            self._true_segments(record)
        for record in spread(records, _LOOKED_AT):
            self._truth(record)
        super().check()

    @cached_property
    def _source(self) -> str:
        return f"dataset {self._dataset_name!r}"

    @cached_property
    def _records(self) -> dict[int | str, Mapping[str, Any]]:
        records: dict[int | str, Mapping[str, Any]] = {}
        for number, record in enumerate(DatasetCatalog.get(self._dataset_name)):
            where = f"{self._source}: records[{number}] ({record.get('file_name', 'no file name')})"
            missing = [key for key in ("image_id", "pan_seg_file_name", "segments_info") if key not in record]
            if missing:
                raise DatasetError(
                    f"{where} has no {' and no '.join(map(repr, missing))}, which panoptic evaluation needs"
                )
            records[plain_id(record["image_id"], where)] = record
        return records

    @cached_property
    def _classes(self) -> PanopticClasses:
        told = "thing_dataset_id_to_contiguous_id" in self._metadata.as_dict()
        records = () if told else self._records.values()  # loading them may fill in the metadata
        return PanopticClasses.of_dataset(self._metadata.as_dict(), records)

    def _true_segments(self, record: Mapping[str, Any]) -> dict[int, Segment]:
        """The segments of a record by id; DatasetError for a class that does not exist."""
        segments = {}
        for segment in record["segments_info"]:
            label = self._classes.place(segment)
            if label is None:
                raise DatasetError(
                    f"{record['pan_seg_file_name']!r}: segment {segment['id']} has category_id "
                    f"{segment['category_id']}, which is none of the {len(self._classes)} classes of {self._source}"
                )
            segments[int(segment["id"])] = Segment(label, bool(segment.get("iscrowd", 0)))
        return segments

    def _truth(self, record: Mapping[str, Any]) -> tuple[Array, dict[int, Segment]]:
        """The map of segment ids of a record, and its segments; DatasetError where the two do not fit."""
        path, segments = record["pan_seg_file_name"], self._true_segments(record)
        ids = read_panoptic_map(path)
        unknown = set(np.unique(ids).tolist()) - segments.keys() - {_VOID}
        if unknown:
            raise DatasetError(
                f"the panoptic map {path!r} has pixels of segment {min(unknown)}, which is not in its 'segments_info'"
            )
        return ids, segments

    def _encode(self, image_id: int | str, image: Mapping[str, Any], output: Mapping[str, Any]) -> Rows:
        if "pan_seg_file_name" not in image or "segments_info" not in image:
            check_images([image_id], self._records, self._source)
            image = self._records[image_id]
        truth, expected = self._truth(image)
        found, segments = self._predicted(output["panoptic_seg"], truth.shape, image_id)
        counts = match_segments(truth, expected, found, segments, len(self._classes))
        present = np.flatnonzero(counts[:, :3].any(axis=1))
        return {"class": present, "counts": counts[present]}

    def _predicted(self, output: Any, size: Sequence[int], image_id: int | str) -> tuple[Array, dict[int, Segment]]:
        """The predicted map and its segments, checked."""
        where = f"image {image_id!r}: 'panoptic_seg'"
        if not isinstance(output, (tuple, list)) or len(output) != 2 or not isinstance(output[1], Sequence):
            raise EvaluationError(
                f"{where} is a map of segment ids and a list of segments with 'id', 'category_id' and 'isthing', but "
                f"{type(output).__name__} was returned"
            )
        ids: Array = as_tensor(output[0], where).cpu().numpy()
        if ids.shape != tuple(size) or ids.dtype.kind not in "iu":
            raise EvaluationError(
                f"{where} has a map of {ids.dtype} and the shape {ids.shape}, but whole numbers {tuple(size)} are "
                "needed, the size of the original image"
            )
        segments = {}
        for segment in output[1]:
            if not isinstance(segment, Mapping) or "id" not in segment or "category_id" not in segment:
                raise EvaluationError(f"{where} has a segment without 'id' and 'category_id': {segment!r}")
            label = self._classes.place(segment)
            if label is None:
                raise EvaluationError(
                    f"{where} has a segment of category_id {segment['category_id']}, which is none of the "
                    f"{len(self._classes)} classes of {self._source}: the model's classes do not fit the dataset"
                )
            segments[int(segment["id"])] = Segment(label)
        unknown = set(np.unique(ids).tolist()) - segments.keys() - {_VOID, -1}
        if unknown:
            raise EvaluationError(f"{where} has pixels of segment {min(unknown)}, which is not in its list of segments")
        return ids, segments

    def _figures(self, store: PredictionStore) -> OrderedDict[str, Any]:
        check_images(store.image_ids, self._records, self._source)
        columns, first = store.columns(), self._first_of_each(store, self._records)
        sums = np.zeros((len(self._classes), 4))
        if columns:
            counted = first[store.image_of_rows()]
            np.add.at(sums, columns["class"][counted], columns["counts"][counted])
        qualities = panoptic_qualities(sums)
        is_thing, names = self._classes.is_thing, self._classes.names
        figures = {}
        for ending, kind in (("", np.ones_like(is_thing)), ("_th", is_thing), ("_st", ~is_thing)):
            means = [_mean(column) for column in qualities[kind].T]
            figures.update({f"{quality}{ending}": mean for quality, mean in zip(_QUALITIES, means, strict=True)})
        segments = (sums[:, 0] + sums[:, 2]).astype(int).tolist()  # found and missed
        rows = [
            ClassRow(name, {**dict(zip(_QUALITIES, row, strict=True)), "segments": count})
            for name, row, count in zip(names, qualities.tolist(), segments, strict=True)
        ]
        overall = ClassRow("all", {**{quality: figures[quality] for quality in _QUALITIES}, "segments": sum(segments)})
        figures.update({f"PQ-{name}": value for name, value in zip(names, qualities[:, 0].tolist(), strict=True)})
        table = ResultTable(
            "panoptic_seg", self._dataset_name, int(first.sum()), "in percent", dict(figures), rows, overall
        )
        self.tables["panoptic_seg"] = table
        if self._output_dir is not None:
            content = {"figures": figures, "classes": table.rows()[:-1]}
            write_json(content, self._output_dir / "panoptic_evaluation.json")
        return OrderedDict(panoptic_seg=figures)

    def _unseen_count_as(self) -> str:
        return "; the figures are of the others"


def _mean(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan
