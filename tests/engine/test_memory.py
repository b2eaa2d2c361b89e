"""Steps that run out of memory."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.engine.memory import StepOutOfMemoryError, _split
from drivetrain.engine.train_loop import SimpleTrainer
from drivetrain.errors import TrainingError
from drivetrain.testing import TinyLoader, TinyModel


class Limited(TinyModel):
    """Holds so many images at once; nothing in it is computed over the batch together."""

    def __init__(self, limit: int, where: str = "forward") -> None:
        super().__init__(dropout=0.0)
        self.limit, self.where = limit, where
        self.norm = torch.nn.Identity()
        self.sizes: list[int] = []

    def forward(self, batch: Any) -> Any:
        self.sizes.append(len(batch))
        losses = super().forward(batch)
        if len(batch) > self.limit:
            if self.where == "forward":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nSee documentation")
            losses["loss_box"].register_hook(self.fail)
        return losses

    def fail(self, gradient: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def trainer(limit: int, where: str = "forward", **options: Any) -> Any:
    torch.manual_seed(0)
    model = Limited(limit, where)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9)
    return SimpleTrainer(model, TinyLoader(batch_size=6), optimizer, **options)


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_the_error_says_what_was_in_the_step(where: str) -> None:
    broken = trainer(4, where)
    before = {name: value.clone() for name, value in broken.model.state_dict().items()}
    with pytest.raises(StepOutOfMemoryError) as caught:
        broken.train(0, 2)
    text = str(caught.value)
    assert f"iteration 0 ran out of memory in the {where} of a batch of 6 images of shapes [(3, 24, 32), " in text
    assert "with [1, 1, 1, 1, 1, 1] instances" in text and "Tried to allocate 20.00 GiB" in text
    assert "SOLVER.OOM_RETRY" in text and "\n" not in text
    assert isinstance(caught.value, TrainingError) and isinstance(caught.value, torch.OutOfMemoryError)
    assert all(torch.equal(value, before[name]) for name, value in broken.model.state_dict().items())


@pytest.mark.parametrize("zero_grad_before_forward", [False, True])
@pytest.mark.parametrize(("where", "accumulate"), [("forward", 1), ("backward", 1), ("forward", 2)])
def test_a_batch_made_in_parts_gives_the_same_weights(
    where: str, accumulate: int, zero_grad_before_forward: bool, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"accumulate": accumulate, "zero_grad_before_forward": zero_grad_before_forward}
    whole = trainer(6, **options)
    whole.train(0, 3)
    parts = trainer(2, where, oom_retry=True, **options)
    with caplog.at_level(logging.WARNING):
        parts.train(0, 3)
    expected = whole.model.state_dict()
    for name, value in parts.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)
    assert parts.model.sizes[:7] == [6, 3, 1, 2, 1, 2, 6]  # two parts were still too much
    assert "iteration 0 ran out of memory" in caplog.text and "made again in 4 parts" in caplog.text
    for name in ("total_loss", "loss_cls", "loss_box"):
        values = [[v for v, _ in t.storage.history(name).values()] for t in (whole, parts)]
        assert values[1] == pytest.approx(values[0], rel=1e-5)


@pytest.mark.parametrize("index", [0, 1])
def test_parts_that_did_fit_are_not_counted_twice(index: int) -> None:
    """Two parts of three images: the first fits, the second does not, so that parts are made again."""

    class Uneven(Limited):
        def forward(self, batch: Any) -> Any:
            losses = super().forward(batch)
            if len(batch) > 1 and any(item is self.large for item in batch):
                raise torch.OutOfMemoryError("Tried to allocate 20.00 GiB.")
            return losses

    batches = [TinyLoader(batch_size=6).batch(number) for number in range(2)]
    ends = []
    for large in (None, batches[index][-1]):
        made = trainer(6, oom_retry=True, accumulate=2)
        made.model.__class__ = Uneven
        made.model.large = large
        made.data_loader = batches
        made.train(0, 1)
        ends.append({name: value.clone() for name, value in made.model.state_dict().items()})
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-5, atol=1e-7)


def test_one_image_that_does_not_fit() -> None:
    with pytest.raises(StepOutOfMemoryError):
        trainer(0, oom_retry=True).train(0, 1)


def test_what_backward_added_to_earlier_batches_cannot_be_taken_back() -> None:
    with pytest.raises(StepOutOfMemoryError, match="in the backward"):
        accumulating = trainer(6, "backward", oom_retry=True, accumulate=2)
        accumulating.data_loader = [TinyLoader(batch_size=6).batch(0), TinyLoader(batch_size=7).batch(1)]
        accumulating.train(0, 1)


def test_a_bad_loss_in_a_part_is_found(tmp_path: Path) -> None:
    class Bad(Limited):
        def forward(self, batch: Any) -> Any:
            losses = super().forward(batch)
            return {**losses, "loss_cls": losses["loss_cls"] * float("nan")}

    bad = trainer(3, oom_retry=True)
    bad.model.__class__ = Bad
    with pytest.raises(FloatingPointError, match="iteration 0"):
        bad.train(0, 1)


def test_parts_are_as_equal_as_can_be() -> None:
    assert list(_split([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4, 5]]
    assert list(_split([1, 2, 3], 8)) == [[1], [2], [3]]
