from __future__ import annotations

from typing import Any

import pytest
import torch

from drivetrain.engine.hooks import CallbackHook, SamplePredictions
from drivetrain.engine.train_loop import SimpleTrainer
from drivetrain.structures import Boxes, Instances
from drivetrain.testing import assert_same_training, tiny_loader, tiny_trainer


def pictures(trainer: Any) -> list[tuple[str, torch.Tensor, int]]:
    return list(trainer.storage._vis_data)


def test_pictures_of_the_first_batch_each_period() -> None:
    trainer = tiny_trainer()
    trainer.register_hooks([SamplePredictions(2, max_images=3, score_threshold=0.0)])
    trainer.train(0, 4)
    shown = pictures(trainer)
    assert [(name, at) for name, _, at in shown] == [(f"predictions/{i}", at) for at in (1, 3) for i in range(3)]
    first = tiny_loader().batch(0)
    for index, (_, picture, _) in enumerate(shown[:3]):
        assert picture.dtype == torch.uint8 and picture.shape == first[index]["image"].shape
        assert not torch.equal(picture, first[index]["image"])  # a box is on it
    assert trainer.model.training
    assert not trainer.model._forward_pre_hooks


class Batches(list[Any]):
    """A loader that may have attributes."""


class Fixed(torch.nn.Module):
    """Predicts one box, in the original image's pixels, twice as large as the input."""

    def __init__(self, score: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.score = score

    def forward(self, batch: list[dict[str, Any]]) -> Any:
        if self.training:
            return {"loss": self.weight * 1}
        assert not torch.is_grad_enabled()
        box = Boxes(torch.tensor([[8.0, 16.0, 40.0, 56.0]]))
        fields = {"pred_boxes": box, "scores": torch.tensor([self.score]), "pred_classes": torch.tensor([1])}
        return [{"instances": Instances((80, 100), **fields)} for _ in batch]


def drawn(score: float, **options: Any) -> torch.Tensor:
    model = Fixed(score)
    trainer = SimpleTrainer(model, [0] * 9, torch.optim.SGD(model.parameters(), 0.1))
    inputs = [{"image": torch.full((3, 40, 50), 9, dtype=torch.uint8), "height": 80, "width": 100}]
    trainer.register_hooks([SamplePredictions(0, inputs, **options)])
    trainer.train(0, 2)
    ((_, picture, at),) = pictures(trainer)
    assert at == 1
    return picture


def test_boxes_are_drawn_where_they_are_in_the_input() -> None:
    picture = drawn(0.9, class_names=["cat", "dog"])
    changed = (picture != 9).any(0)
    rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
    # (8, 16, 40, 56) in 100 x 80 is (4, 8, 20, 28) in 50 x 40; lines are 2 wide
    assert bool(changed[8, 10]) and bool(changed[28, 10]) and bool(changed[15, 4]) and bool(changed[15, 20])
    assert int(rows.min()) >= 6 and int(rows.max()) <= 30 and int(columns.min()) >= 2


def test_uncertain_boxes_are_left_out_and_bgr_is_turned() -> None:
    assert drawn(0.4).eq(9).all()
    own = drawn(0.9, draw=lambda item, output: torch.zeros(3, 2, 2, dtype=torch.uint8))
    assert own.shape == (3, 2, 2)
    model = Fixed(0.1)
    trainer = SimpleTrainer(model, [0], torch.optim.SGD(model.parameters(), 0.1))
    image = torch.arange(3, dtype=torch.uint8)[:, None, None].expand(3, 4, 4)
    trainer.register_hooks([SamplePredictions(1, [{"image": image}], input_format="BGR")])
    trainer.train(0, 1)
    assert torch.equal(pictures(trainer)[0][1], image.flip(0))


def test_watching_never_changes_training() -> None:
    def watched() -> Any:
        trainer = tiny_trainer()
        trainer.register_hooks([SamplePredictions(2)])
        return trainer

    assert_same_training(tiny_trainer, watched, max_iter=5)


def test_a_resumed_training_shows_the_same_images() -> None:
    def train(state: Any, end: int) -> Any:
        trainer, hook = tiny_trainer(), SamplePredictions(2, max_images=2)
        trainer.register_hooks([hook])
        if state is not None:
            trainer.load_state_dict(state)
        trainer.train(trainer.iter + 1 if state else 0, end)
        assert hook._inputs is not None
        first = tiny_loader().batch(0)[:2]
        assert all(torch.equal(a["image"], b["image"]) for a, b in zip(hook._inputs, first, strict=True))
        return trainer.state_dict()

    train(train(None, 3), 6)


@pytest.mark.parametrize("batch", [lambda size: ["no images"], list])
def test_a_loader_that_cannot_make_the_first_batch_again_shows_the_next_one(batch: Any) -> None:
    trainer, hook = tiny_trainer(), SamplePredictions(2)
    trainer.data_loader = Batches(list(tiny_loader(batches=3)))
    trainer.data_loader.batch = batch
    trainer.register_hooks([hook])
    trainer.train(4, 6)
    assert [name for name, _, _ in pictures(trainer)] == [f"predictions/{i}" for i in range(4)]


def test_images_are_kept_though_their_memory_is_used_again() -> None:
    class Reusing:
        image = torch.zeros(3, 4, 4, dtype=torch.uint8)

        def __iter__(self) -> Any:
            for value in range(4):
                self.image.fill_(value)
                yield [{"image": self.image}]

    model = Fixed(0.1)
    trainer = SimpleTrainer(model, Reusing(), torch.optim.SGD(model.parameters(), 0.1))
    trainer.register_hooks([SamplePredictions(3)])
    trainer.train(0, 3)
    assert pictures(trainer)[0][1].eq(0).all()


def test_batches_of_another_kind_are_said(caplog: pytest.LogCaptureFixture) -> None:
    model = Fixed(0.9)
    trainer = SimpleTrainer(model, [0] * 9, torch.optim.SGD(model.parameters(), 0.1))
    trainer.register_hooks([SamplePredictions(1)])
    trainer.train(0, 2)
    assert pictures(trainer) == [] and caplog.text.count("shows nothing") == 1


def test_a_training_that_fails_before_its_first_batch_leaves_no_hook_on_the_model() -> None:
    def fail(_: object) -> None:
        raise ValueError

    trainer = tiny_trainer()
    trainer.register_hooks([SamplePredictions(1), CallbackHook(before_step=fail)])
    with pytest.raises(ValueError):
        trainer.train(0, 2)
    assert not trainer.model._forward_pre_hooks
