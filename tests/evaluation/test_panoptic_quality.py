from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drivetrain.evaluation.panoptic_quality import PanopticClasses, Segment, match_segments, panoptic_qualities


def random_map(rng: np.random.Generator, segments: int, near: Any = None) -> np.ndarray[Any, Any]:
    """Segment ids of a map of rectangles, with void; near another map's where one is given."""
    ids = np.zeros((30, 34), dtype=np.int32)
    if near is not None:
        ids = np.roll(near, rng.integers(-2, 3, 2), (0, 1)).copy()
    for segment in range(1, segments + 1):
        if near is None or rng.random() < 0.3:
            y, x = rng.integers(0, 22), rng.integers(0, 26)
            ids[y : y + rng.integers(4, 15), x : x + rng.integers(4, 15)] = segment * (7 if near is None else 1)
    return ids


def by_the_paper(truth: Any, expected: Any, found: Any, segments: Any, num_classes: int) -> np.ndarray[Any, Any]:
    """True and false positives, false negatives and overlaps of each class, segment by segment."""
    counts = np.zeros((num_classes, 4))
    void = ~np.isin(truth, list(expected))
    matched_truth, matched_found = set(), set()
    for g in set(expected) & set(np.unique(truth).tolist()):
        for p in set(segments) & set(np.unique(found).tolist()):
            if expected[g].is_crowd or expected[g].label != segments[p].label:
                continue
            inside = (truth == g) & (found == p)
            union = ((truth == g) | (found == p)) & ~(void & (found == p))
            if inside.sum() / union.sum() > 0.5:
                counts[expected[g].label, [0, 3]] += [1, inside.sum() / union.sum()]
                matched_truth.add(g)
                matched_found.add(p)
    for g in set(expected) & set(np.unique(truth).tolist()) - matched_truth:
        if not expected[g].is_crowd:
            counts[expected[g].label, 2] += 1
    for p in set(segments) & set(np.unique(found).tolist()) - matched_found:
        crowd = np.isin(truth, [g for g, s in expected.items() if s.is_crowd and s.label == segments[p].label])
        if ((void | crowd) & (found == p)).sum() / (found == p).sum() <= 0.5:
            counts[segments[p].label, 1] += 1
    return counts


@pytest.mark.parametrize("seed", range(30))
def test_equals_the_paper_written_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = random_map(rng, 9)
    found = random_map(rng, 9, near=truth)
    expected = {i: Segment(int(rng.integers(0, 3)), bool(rng.random() < 0.15)) for i in range(7, 64, 7)}
    labels = {i: expected[i].label if rng.random() < 0.8 else int(rng.integers(0, 3)) for i in expected}
    labels |= {i: int(rng.integers(0, 3)) for i in range(1, 7)}
    segments = {i: Segment(label) for i, label in labels.items()}
    segments.pop(14)  # a predicted id that is no segment is void
    got = match_segments(truth, expected, found, segments, 3)
    np.testing.assert_allclose(got, by_the_paper(truth, expected, found, segments, 3), atol=1e-12)


def test_cases_of_the_paper_all_occur() -> None:
    """The random maps above would be worth little if they had no crowd, void, match or miss."""
    total, ignored = np.zeros((3, 4)), 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        truth = random_map(rng, 9)
        found = random_map(rng, 9, near=truth)
        expected = {i: Segment(i % 3, i % 5 == 0) for i in range(7, 64, 7)}
        segments = {i: Segment(i % 3) for i in (*range(7, 64, 7), *range(1, 7))}
        counts = match_segments(truth, expected, found, segments, 3)
        total += counts
        ignored += len(np.unique(found)) - 1 - int(counts[:, :2].sum())
    assert total[:, :3].min() > 10 and ignored > 10


def test_one_half_is_not_enough() -> None:
    truth, found = np.array([[1, 1, 1, 0]]), np.array([[1, 1, 2, 2]])
    segments = {1: Segment(0), 2: Segment(0)}
    counts = match_segments(truth, {1: Segment(0)}, found, segments, 1)
    assert counts.tolist() == [[1, 1, 0, 2 / 3]]  # segment 2 lies in void by one half, which does not excuse it
    truth = np.array([[1, 1, 3, 3]])
    counts = match_segments(truth, {1: Segment(0), 3: Segment(0)}, np.array([[1, 2, 2, 2]]), segments, 1)
    assert counts.tolist() == [[1, 1, 1, 2 / 3]]  # overlap of 1 with 1: one half exactly


def test_qualities() -> None:
    sums = np.array([[2.0, 1, 1, 1.5], [0, 3, 0, 0], [0, 0, 0, 0]])
    qualities = panoptic_qualities(sums)
    assert qualities[0].tolist() == pytest.approx([100 * 0.75 * 2 / 3, 75, 200 / 3])
    assert qualities[1].tolist() == [0, 0, 0]
    assert np.isnan(qualities[2]).all()


def test_classes_of_maps_of_ids() -> None:
    together = PanopticClasses.of_dataset(
        {
            "thing_classes": ["sky", "cat", "dog"],
            "stuff_classes": ["sky", "cat", "dog"],
            "thing_dataset_id_to_contiguous_id": {17: 1, 18: 2},
            "stuff_dataset_id_to_contiguous_id": {3: 0},
        },
        [],
    )
    assert together.names == ["cat", "dog", "sky"] and together.is_thing.tolist() == [True, True, False]
    assert together.place({"category_id": 0}) == 2  # what is clear need not be told
    assert together.place({"category_id": 2, "isthing": True}) == 1
    assert together.place({"category_id": 3}) is None
    apart = PanopticClasses.of_dataset(
        {
            "thing_classes": ["cat"],
            "stuff_classes": ["things", "sky"],
            "thing_dataset_id_to_contiguous_id": {17: 0},
            "stuff_dataset_id_to_contiguous_id": {0: 0, 3: 1},
        },
        [],
    )
    assert apart.names == ["cat", "things", "sky"]
    assert [apart.place({"category_id": 0, "isthing": is_thing}) for is_thing in (True, False)] == [0, 1]


def test_classes_of_names_and_segments_alone() -> None:
    records = [{"segments_info": [{"category_id": 0, "isthing": False}, {"category_id": 5, "isthing": True}]}]
    together = PanopticClasses.of_dataset({"thing_classes": ["a", "b"], "stuff_classes": ["a", "b"]}, records)
    assert together.names == ["b", "a"] and together.is_thing.tolist() == [True, False]
    apart = PanopticClasses.of_dataset({"thing_classes": ["cat"], "stuff_classes": ["sky", "road"]}, records)
    assert apart.names == ["cat", "sky", "road"] and len(apart) == 3
    nameless = PanopticClasses.of_dataset({}, records)
    assert nameless.names == ["5", "0"]
