"""Batches packed into one block of shared memory."""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.data.packing import pack, unpack
from drivetrain.structures import BitMasks, Boxes, Instances, PolygonMasks

DTYPES = [torch.uint8, torch.bool, torch.int64, torch.float32, torch.float16, torch.bfloat16, torch.float64]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=3)), max_size=8))
def test_tensors_of_any_dtype_and_shape(kinds: list[tuple[torch.dtype, list[int]]]) -> None:
    batch = [(torch.rand(shape) * 100).to(dtype) for dtype, shape in kinds]
    again = unpack(pack(batch))
    for before, after in zip(batch, again, strict=True):
        assert before.dtype == after.dtype and before.shape == after.shape and torch.equal(before, after)


def test_what_mappers_make() -> None:
    image = torch.randint(0, 256, (3, 200, 300), dtype=torch.uint8)
    instances = Instances((200, 300), gt_boxes=Boxes(torch.rand(2, 4)), gt_classes=torch.tensor([3, 1]))
    instances.gt_masks = PolygonMasks([[np.arange(6.0)], [np.arange(8.0)]])
    masks = BitMasks(torch.rand(2, 20, 30) > 0.5)
    batch = [{"image": image, "instances": instances, "file_name": "a.jpg", "masks": masks}]
    (again,) = unpack(pack(batch))
    assert torch.equal(again["image"], image) and again["file_name"] == "a.jpg"
    assert torch.equal(again["instances"].gt_boxes.tensor, instances.gt_boxes.tensor)
    assert again["instances"].image_size == (200, 300)
    assert (again["instances"].gt_masks.polygons[1][0] == np.arange(8.0)).all()
    assert torch.equal(again["masks"].tensor, masks.tensor)


def test_all_tensors_lie_in_one_shared_block() -> None:
    batch = [torch.zeros(1000), torch.zeros(7, dtype=torch.uint8), torch.zeros(3, 100_000).t()]
    packed = pack(batch)
    assert packed.block.is_shared()
    assert packed.tensors >= sum(t.nbytes for t in batch) and 0 < packed.block.nbytes - packed.tensors < 1000
    small, _, large = unpack(packed)
    base = packed.block.data_ptr()
    assert base <= large.data_ptr() < base + packed.block.nbytes  # a view
    assert not base <= small.data_ptr() < base + packed.block.nbytes  # a copy: keeping it keeps 4 kB, not the batch


def test_what_goes_through_the_pipe_is_small() -> None:
    packed = pack([torch.zeros(100_000), "x" * 1_000_000])
    assert len(ForkingPickler.dumps(packed)) < 2000


def test_batches_without_tensors_and_special_tensors() -> None:
    assert unpack(pack([1, "two", None])) == [1, "two", None]
    parameter = torch.nn.Parameter(torch.ones(3))
    sparse = torch.eye(3).to_sparse()
    wanted, special, complex_ = unpack(pack([parameter, sparse, torch.ones(2, dtype=torch.complex64)]))
    assert isinstance(wanted, torch.nn.Parameter) and wanted.requires_grad
    assert torch.equal(special.to_dense(), torch.eye(3)) and complex_.is_complex()
