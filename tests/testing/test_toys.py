from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch

from drivetrain.engine.hooks import CallbackHook
from drivetrain.testing import TinyModel, assert_same_training, tiny_loader, tiny_trainer


def test_the_model_keeps_the_contract() -> None:
    model = TinyModel(num_classes=2)
    batch = tiny_loader(batch_size=3, num_classes=2).batch(0)
    losses = model(batch)
    assert set(losses) == {"loss_cls", "loss_box"} and all(v.ndim == 0 and v.requires_grad for v in losses.values())
    model.eval()
    batch[0] |= {"height": 240, "width": 320}
    outputs = model(batch)
    assert len(outputs) == 3
    first = outputs[0]["instances"]
    assert first.image_size == (240, 320) and len(first) == 1
    x0, y0, x1, y1 = first.pred_boxes.tensor[0].tolist()
    assert 0 <= x0 <= x1 <= 320 and 0 <= y0 <= y1 <= 240
    assert 0.5 <= first.scores[0].item() <= 1 and int(first.pred_classes[0]) in (0, 1)


def test_it_learns() -> None:
    trainer = tiny_trainer()
    trainer.train(0, 150)
    history = [value for value, _ in trainer.storage.history("total_loss").values()]
    assert sum(history[-20:]) / 20 < 0.5 * sum(history[:10]) / 10


def test_batches_depend_on_seed_and_position_alone() -> None:
    def images(loader: Any, count: int) -> torch.Tensor:
        return torch.stack([sample["image"] for batch in islice(loader, count) for sample in batch])

    loader = tiny_loader()
    first, second = images(loader, 2), images(loader, 2)  # goes on
    assert torch.equal(images(tiny_loader(), 4), torch.cat([first, second]))
    assert not torch.equal(first, second)
    assert not torch.equal(first, images(tiny_loader(seed=1), 2))
    resumed = tiny_loader()
    resumed.load_state_dict({"position": 2})
    assert torch.equal(images(resumed, 2), second)
    finite = tiny_loader(batches=2)
    assert torch.equal(images(finite, 9), first) and torch.equal(images(finite, 9), first)


def test_targets_lie_on_the_drawn_rectangles() -> None:
    for sample in tiny_loader(batch_size=20).batch(3):
        x0, y0, x1, y1 = (int(v) for v in sample["instances"].gt_boxes.tensor[0])
        inside = sample["image"][:, y0:y1, x0:x1].reshape(3, -1)
        assert x1 > x0 and y1 > y0 and bool((inside == inside[:, :1]).all())


def test_same_trainings_pass_and_every_difference_is_found() -> None:
    assert_same_training(tiny_trainer, tiny_trainer, max_iter=3)

    def changed(function: Any) -> Any:
        def build() -> Any:
            trainer = tiny_trainer()
            trainer.register_hooks([CallbackHook(after_step=lambda t: function(t) if t.iter == 2 else None)])
            return trainer

        return build

    def weight(t: Any) -> None:
        with torch.no_grad():
            t.model.head.bias[0] += 1e-6

    differences = {
        "model.head.bias": weight,
        "model.norm.running_var": lambda t: t.model.norm.running_var.mul_(1.0001),
        "optimizer.state": lambda t: t.optimizer.state[t.model.head.bias]["momentum_buffer"].add_(1.0),
        "optimizer.param_groups": lambda t: t.optimizer.param_groups[0].update(lr=0.2),
        "rng.torch": lambda t: torch.rand(1),
    }
    for name, function in differences.items():
        with pytest.raises(AssertionError, match=rf"training 2 differs from training 1 after 3 iterations: {name}"):
            assert_same_training(tiny_trainer, changed(function), max_iter=3)
