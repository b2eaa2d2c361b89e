"""Panoptic quality, as Kirillov et al. 2019 ("Panoptic Segmentation", arXiv:1801.00868) define it.

A predicted segment and a true one of the same class match when their intersection over union, without what is void in
the truth, is above one half; no segment can have two matches. Of the sums over all images, for each class: segmentation
quality SQ is the mean overlap of the matches, recognition quality RQ = TP / (TP + FP / 2 + FN / 2), and PQ = SQ x RQ. A
predicted segment without a match that lies by more than half in void or in a crowd of its class counts nowhere, and so
does a true crowd.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["PanopticClasses", "Segment", "match_segments", "panoptic_qualities"]

Array = np.ndarray[Any, Any]


class Segment(NamedTuple):
    """A segment: its class by place among all classes, and whether it stands for many things at once."""

    label: int
    is_crowd: bool = False


class PanopticClasses:
    """The classes of a panoptic dataset, things and stuff.

    Attributes:
        names: of each class.
        is_thing: bool (C,).
    """

    def __init__(self, keys: Sequence[tuple[int, bool]], names: Sequence[str]) -> None:
        """Hold the classes.

        Args:
            keys: per class its contiguous id and whether it is a thing. Things and stuff may be counted together or
                each from 0.
            names: per class.
        """
        self.names = list(names)
        self.is_thing = np.array([is_thing for _, is_thing in keys], dtype=bool)
        self._places = {key: place for place, key in enumerate(keys)}
        self._kinds: dict[int, list[bool]] = {}
        for category_id, is_thing in keys:
            self._kinds.setdefault(category_id, []).append(is_thing)

    @classmethod
    def of_dataset(cls, metadata: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> PanopticClasses:
        """The classes of a dataset.

        Args:
            metadata: ``thing_classes`` and ``stuff_classes``, the names by contiguous id; and the maps of dataset ids
                to contiguous ids, which tell things and stuff apart.
            records: whose segments tell it where there are no such maps.
        """
        maps = {kind: metadata.get(f"{kind}_dataset_id_to_contiguous_id") for kind in ("thing", "stuff")}
        names = {kind: [str(name) for name in metadata.get(f"{kind}_classes") or ()] for kind in ("thing", "stuff")}
        if maps["thing"] or maps["stuff"]:
            keys = {(int(i), kind == "thing") for kind, ids in maps.items() for i in (ids or {}).values()}
        else:
            segments = (segment for record in records for segment in record["segments_info"])
            keys = {(int(s["category_id"]), bool(s.get("isthing", True))) for s in segments}
            if names["thing"] or names["stuff"]:
                keys = {key for key in keys if key[0] < len(names["thing" if key[1] else "stuff"])}
            counted_together = names["thing"] == names["stuff"]
            for kind in ("thing", "stuff"):
                seen = {i for i, is_thing in keys if counted_together or is_thing == (kind == "thing")}
                keys |= {(i, kind == "thing") for i in range(len(names[kind])) if i not in seen}
        ordered = sorted(keys, key=lambda key: (not key[1], key[0]))
        lists = [names["thing" if is_thing else "stuff"] for _, is_thing in ordered]
        labels = [known[i] if i < len(known) else str(i) for (i, _), known in zip(ordered, lists, strict=True)]
        return cls(ordered, labels)

    def __len__(self) -> int:
        """The number of classes."""
        return len(self.names)

    def place(self, segment: Mapping[str, Any]) -> int | None:
        """The class of a segment with ``category_id``, and ``isthing`` where that is not clear; None for no class."""
        category_id = int(segment["category_id"])
        kinds = self._kinds.get(category_id, [])
        is_thing = kinds[0] if len(kinds) == 1 else bool(segment.get("isthing", True))
        return self._places.get((category_id, is_thing))


def match_segments(
    truth: Array,
    expected: Mapping[int, Segment],
    found: Array,
    segments: Mapping[int, Segment],
    num_classes: int,
) -> Array:
    """Compare the segments of one image.

    Args:
        truth: id of the true segment of each pixel, 0 for void, integers (H, W).
        expected: the true segments by id.
        found: id of the predicted segment of each pixel, integers (H, W); ids not in ``segments`` are void.
        segments: the predicted segments by id.
        num_classes: of which ``Segment.label`` tells one.

    Returns:
        For each class true positives, false positives, false negatives and the sum of the overlaps of the true
        positives, float64 (C, 4).
    """
    true_ids, true_places = np.unique(truth, return_inverse=True)
    found_ids, found_places = np.unique(found, return_inverse=True)
    cells = true_places.ravel() * len(found_ids) + found_places.ravel()
    shared = np.bincount(cells, minlength=len(true_ids) * len(found_ids)).reshape(len(true_ids), len(found_ids))
    true = [expected.get(i) for i in true_ids.tolist()]
    predicted = [segments.get(i) for i in found_ids.tolist()]
    true_labels, crowd = _labels(true)
    labels, _ = _labels(predicted)
    void = true_labels < 0
    union = shared.sum(axis=1)[:, None] + shared.sum(axis=0)[None] - shared - shared[void].sum(axis=0)[None]
    same = (true_labels[:, None] == labels[None]) & (labels >= 0)[None]
    overlap = np.where(same & ~crowd[:, None] & (shared > 0), shared / union.clip(min=1), 0.0)
    matches = overlap > 0.5
    apart = shared[void].sum(axis=0) + np.where(same & crowd[:, None], shared, 0).sum(axis=0)
    wrong = (labels >= 0) & ~matches.any(axis=0) & (apart * 2 <= shared.sum(axis=0))
    missed = ~void & ~crowd & ~matches.any(axis=1)
    right = labels[matches.any(axis=0)]
    counts = np.zeros((num_classes, 4))
    counts[:, 0] = np.bincount(right, minlength=num_classes)
    counts[:, 1] = np.bincount(labels[wrong], minlength=num_classes)
    counts[:, 2] = np.bincount(true_labels[missed], minlength=num_classes)
    counts[:, 3] = np.bincount(right, weights=overlap.max(axis=0)[matches.any(axis=0)], minlength=num_classes)
    return counts


def _labels(segments: Sequence[Segment | None]) -> tuple[Array, Array]:
    """Class (-1 for void) and crowd flag of each."""
    labels = np.array([-1 if segment is None else segment.label for segment in segments], dtype=np.int64)
    return labels, np.array([segment is not None and segment.is_crowd for segment in segments], dtype=bool)


def panoptic_qualities(sums: Array) -> Array:
    """PQ, SQ and RQ of each class in percent, (C, 3), NaN for a class that is nowhere.

    Args:
        sums: what :func:`match_segments` gives, summed over all images.
    """
    found, wrong, missed, overlaps = sums.T
    weight = found + wrong / 2 + missed / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        recognised = np.where(weight > 0, found / weight, np.nan)
        overlap = np.where(found > 0, overlaps / found, np.where(weight > 0, 0.0, np.nan))
    return np.stack([overlap * recognised, overlap, recognised], axis=1) * 100
