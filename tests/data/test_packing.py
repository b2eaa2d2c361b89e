"""Batches packed into blocks of shared memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.data.packing import BlockReader, BlockWriter, PackedBatch
from drivetrain.structures import BitMasks, Boxes, Instances, PolygonMasks

DTYPES = [torch.uint8, torch.bool, torch.int64, torch.float32, torch.float16, torch.bfloat16, torch.float64]


def pack(batch: Any) -> PackedBatch:
    return BlockWriter().pack(batch)


def unpack(packed: PackedBatch) -> Any:
    return BlockReader().unpack(packed)


@settings(max_examples=40)
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
    assert packed.block is not None and packed.block.is_shared()
    assert packed.tensors >= sum(t.nbytes for t in batch) and 0 < packed.end - packed.tensors < 1000
    assert packed.end <= packed.block.nbytes < packed.end + (1 << 20)
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


class Ends:
    """Writer and reader as in two processes: a block goes from one to the other when it is new, numbers go back."""

    def __init__(self) -> None:
        self.writer, self.reader = BlockWriter(), BlockReader()
        self.sent: list[PackedBatch] = []

    def send(self, batch: Any) -> Any:
        self.writer.release(self.reader.released())
        self.sent.append(self.writer.pack(batch))
        return self.reader.unpack(self.sent[-1])


@pytest.fixture
def ends() -> Iterator[Ends]:
    gc.disable()  # what is freed is freed by reference counts alone
    yield Ends()
    gc.enable()


def image(value: int, side: int = 300) -> torch.Tensor:
    return torch.full((3, side, side), value, dtype=torch.uint8)


def test_a_block_is_used_again_when_its_batch_is_gone(ends: Ends) -> None:
    for value in range(6):
        (got,) = ends.send([image(value)])
        assert torch.equal(got, image(value))
    numbers = [packed.number for packed in ends.sent]
    assert numbers == [0, 1, 0, 1, 0, 1]  # the batch before is held while the next one is made
    assert [packed.block is not None for packed in ends.sent] == [True, True, False, False, False, False]
    assert len(ForkingPickler.dumps(ends.sent[-1])) < 300


def test_a_block_is_not_touched_while_any_view_of_its_batch_lives(ends: Ends) -> None:
    first = ends.send([{"image": image(1)}, {"image": image(2)}])
    kept = first[1]["image"][0, 5:9]
    array = first[0]["image"].numpy()[2]
    del first
    for value in range(3, 9):
        ends.send([{"image": image(value)}, {"image": image(value)}])
    assert (kept == 2).all() and (array == 1).all()
    assert 0 not in [packed.number for packed in ends.sent[1:]]
    del kept
    ends.send([image(9)])
    assert ends.sent[-1].number != 0
    del array
    numbers = {ends.send([image(9)]) is not None and ends.sent[-1].number for _ in range(3)}
    assert 0 in numbers


def test_batches_that_are_all_kept_each_have_their_block(ends: Ends) -> None:
    batches = [ends.send([image(value)])[0] for value in range(5)]
    assert [int(b[0, 0, 0]) for b in batches] == [0, 1, 2, 3, 4]


def test_blocks_that_are_too_small_make_room_for_larger_ones(ends: Ends) -> None:
    held = ends.send([image(0)])
    del held
    ends.send([image(1, side=900)])
    assert ends.sent[-1].gone == (0,) and list(ends.reader._blocks) == [1] == list(ends.writer._blocks)
    ends.send([image(2)])
    assert ends.sent[-1].number == 1 and ends.sent[-1].block is None


def test_a_batch_nobody_wants_frees_its_block(ends: Ends) -> None:
    packed = ends.writer.pack([image(1)])
    ends.reader.drop(packed)
    assert ends.reader.released() == [0] and ends.reader.released() == []


def test_small_tensors_do_not_hold_a_block(ends: Ends) -> None:
    boxes = ends.send([torch.ones(4, 4), image(1)])[0]
    assert ends.reader.released() == [0] and (boxes == 1).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_are_pinned_where_cuda_is_used(ends: Ends) -> None:
    torch.zeros(1, device="cuda")
    boxes, picture = ends.send([torch.ones(4, 4), image(1)])
    assert boxes.is_pinned() and picture.is_pinned() and ends.reader.released() == [0]
    copies = [ends.send([image(value, 2000)])[0].to("cuda", non_blocking=True) for value in range(40)]
    assert [int(copy.float().mean()) for copy in copies] == list(range(40))


@pytest.mark.parametrize("shape", [(4, 5, 3), (200, 300, 3)])
def test_the_layout_of_a_tensor_is_kept(shape: tuple[int, ...]) -> None:
    """An image whose channels lie side by side is not taken apart on its way; gaps and repetitions are left out."""
    whole = torch.randint(0, 256, shape, dtype=torch.uint8)
    image, part = whole.permute(2, 0, 1), whole[1:, 2:].permute(2, 0, 1)
    repeated = torch.arange(3)[:, None].expand(3, 30_000)
    again = unpack(pack([image, part, repeated]))
    for before, after in zip((image, part, repeated), again, strict=True):
        assert torch.equal(before, after)
    assert again[0].stride() == image.stride()
    assert again[1].stride() == (1, 3 * (shape[1] - 2), 3)
    assert again[2].is_contiguous()
