from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_api

from drivetrain.errors import EvaluationError
from drivetrain.evaluation.run_lengths import masks_to_run_lengths, runs_of
from drivetrain.structures import BitMasks, PolygonMasks, RoiMasks

SIZE = (13, 17)


def bitmaps(count: int = 5) -> torch.Tensor:
    bits = torch.rand(count, *SIZE, generator=torch.Generator().manual_seed(0)) > 0.4
    bits[0], bits[1] = False, True
    return bits


def expected(bits: Any) -> list[dict[str, Any]]:
    return [mask_api.encode(np.asfortranarray(bit.numpy().astype(np.uint8))) for bit in bits]


@pytest.mark.parametrize(
    "form",
    [
        lambda m: m,
        lambda m: m.to(torch.uint8),
        lambda m: m * 0.6 + ~m * 0.4,
        lambda m: m.numpy(),
        BitMasks,
        lambda m: [mask_api.encode(np.asfortranarray(bit.numpy().astype(np.uint8))) for bit in m],
        lambda m: [{**e, "counts": e["counts"].decode()} for e in expected(m)],
    ],
)
def test_every_form_of_bitmap_is_that_of_pycocotools(form: Any) -> None:
    bits = bitmaps()
    got = masks_to_run_lengths(form(bits), SIZE)
    assert [code["counts"] for code in got] == [code["counts"] for code in expected(bits)]
    assert [code["size"] for code in got] == [list(SIZE)] * len(bits)


def test_runs_are_those_of_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for size in ((1, 1), (7, 5), (300, 400)):
        for share in (0.0, 0.02, 0.5, 1.0):
            bits = rng.random(size) < share
            bits[size[0] // 3 :, size[1] // 2 :] |= (
                share == 0.02
            )  # long runs beside short ones: differences of any sign
            flat = bits.flatten(order="F")
            runs = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), flat.size]).tolist()
            counts = mask_api.encode(np.asfortranarray(bits.astype(np.uint8)))["counts"]
            for form in (counts, counts.decode(), [0, *runs] if flat[0] else runs):
                assert runs_of(form).tolist() == ([0, *runs] if flat[0] else runs)


def test_uncompressed_runs() -> None:
    assert masks_to_run_lengths([{"size": [2, 3], "counts": [1, 2, 3]}], (9, 9)) == [
        {"size": [2, 3], "counts": mask_api.frPyObjects({"size": [2, 3], "counts": [1, 2, 3]}, 2, 3)["counts"]}
    ]


def test_polygons_are_the_union_of_their_parts() -> None:
    parts = [[2.0, 2, 9, 2, 9, 9, 2, 9], [5.0, 5, 12, 5, 12, 11, 5, 11]]
    (code, empty) = masks_to_run_lengths(PolygonMasks([parts, []]), SIZE)
    whole = mask_api.merge(mask_api.frPyObjects(parts, *SIZE))
    assert (mask_api.decode(code) == mask_api.decode(whole)).all()
    assert mask_api.area(empty) == 0


def test_masks_of_boxes_are_never_bitmaps_of_the_image() -> None:
    scores = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(2))
    boxes = torch.tensor([[1.0, 2, 9, 10], [-4, -3, 6, 5], [3, 3, 30, 12]])
    masks = RoiMasks(scores, boxes, SIZE)
    codes = masks_to_run_lengths(masks, SIZE)
    assert (mask_api.decode(codes).transpose(2, 0, 1) == masks.tensor.numpy()).all()


def test_no_masks() -> None:
    assert masks_to_run_lengths(torch.zeros(0, 4, 4), (4, 4)) == []
    assert masks_to_run_lengths([], (4, 4)) == []


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (torch.zeros(2, 1, 4, 4), r"shape \(N, height, width\), not \(2, 1, 4, 4\)"),
        (torch.zeros(2, 0, 4), r"not \(2, 0, 4\)"),
        (7, "not int"),
        ([{"counts": "a"}], "is a dict with 'size'"),
        ([{"size": [2, 2], "counts": [1, 2]}], r"of the size \[2, 2\] add up to 3 pixels, not to 4"),
        ([{"size": [2, 2], "counts": b"12"}], r"of the size \[2, 2\] add up to 3 pixels, not to 4"),  # 1 and 2 too
        ([{"size": [2, 2], "counts": [-1, 5]}], r"the counts .* of the size \[2, 2\] are damaged: \[-1, 5\]"),
        ([{"size": [2, 2], "counts": "é"}], "are damaged: 'é'"),
        ([{"size": [2, 2], "counts": "o"}], "are damaged: 'o'"),  # a number that goes on, and nothing follows
        ([{"size": [2, 2], "counts": ""}], "are damaged: ''"),
        ([{"size": [2, 2], "counts": [1.5, 2.5]}], "are damaged"),
        ([{"size": [2, 2], "counts": None}], "are damaged: None"),
    ],
)
def test_bad_masks(masks: Any, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        masks_to_run_lengths(masks, (4, 4))
