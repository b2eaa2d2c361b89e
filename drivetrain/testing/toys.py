"""A detector of a few hundred weights, data for it, and the test that two trainings are the same.

They keep the contracts of the real ones (see :mod:`drivetrain.modeling` for that of models), and a step takes a few
milliseconds, so that a hook or a trainer can be tested on whole trainings::

    trainer = tiny_trainer()
    trainer.register_hooks([MyHook()])
    trainer.train(0, 10)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from drivetrain.engine.train_loop import SimpleTrainer
from drivetrain.runtime.seeding import capture_rng_state, seed_all_rng
from drivetrain.structures import Boxes, Instances

__all__ = ["TinyLoader", "TinyModel", "assert_same_training", "tiny_loader", "tiny_trainer"]

_COLOURS = torch.tensor([[220, 40, 40], [40, 200, 60], [50, 70, 230], [220, 210, 50]], dtype=torch.uint8)


class TinyModel(nn.Module):
    """A detector of one object an image: convolution, BatchNorm, dropout, linear layer.

    In training it returns ``{"loss_cls": ..., "loss_box": ...}``, in evaluation a list of ``{"instances": Instances}``.

    Args:
        num_classes: number of classes, 1 to 4.
        dropout: probability of dropout, so that training draws random numbers.
    """

    def __init__(self, num_classes: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.conv = nn.Conv2d(3, 4, 5, stride=4, padding=2)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(dropout)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.head = nn.Linear(64, num_classes + 4)

    def forward(self, batch: list[dict[str, Any]]) -> Any:
        """Losses of, or predictions for, a batch of images of one size.

        Args:
            batch: dicts with ``image`` (uint8, 3 x H x W) and, in training, ``instances`` with ``gt_boxes`` and
                ``gt_classes``, of which the first counts.
        """
        images = torch.stack([item["image"] for item in batch]).to(self.conv.weight.device)
        features = torch.relu(self.norm(self.conv(images.float() / 255.0 - 0.5)))
        out = self.head(self.pool(self.dropout(features)).flatten(1))
        logits, boxes = out[:, : self.num_classes], out[:, self.num_classes :].sigmoid()
        if not self.training:
            return [
                self._instances(item, *row) for item, row in zip(batch, zip(logits, boxes, strict=True), strict=True)
            ]
        classes = torch.stack([item["instances"].gt_classes[0] for item in batch]).to(logits.device)
        targets = torch.stack([item["instances"].gt_boxes.tensor[0] for item in batch]).to(logits.device)
        size = targets.new_tensor([images.shape[3], images.shape[2]] * 2)
        return {
            "loss_cls": nn.functional.cross_entropy(logits, classes),
            "loss_box": nn.functional.l1_loss(boxes, targets / size),
        }

    @staticmethod
    def _instances(item: Mapping[str, Any], logits: Tensor, box: Tensor) -> dict[str, Instances]:
        height, width = item.get("height", item["image"].shape[1]), item.get("width", item["image"].shape[2])
        scores, classes = logits.softmax(0).max(0, keepdim=True)
        corners = torch.stack([box[:2], box[2:]])
        boxes = torch.cat([corners.amin(0), corners.amax(0)]) * box.new_tensor([width, height] * 2)
        return {
            "instances": Instances((height, width), pred_boxes=Boxes(boxes[None]), scores=scores, pred_classes=classes)
        }


class TinyLoader:
    """Batches of images with one coloured rectangle each; batch i depends on ``seed`` and i alone.

    Without ``batches`` it never ends, and iterating again goes on where it stopped; ``state_dict`` holds that place.
    With ``batches`` each iteration gives the same ones from the start.

    Args:
        batch_size: images in a batch.
        batches: number of batches; None for no end.
        seed: chooses the images.
        image_size: (height, width).
        num_classes: number of classes (colours), 1 to 4.
    """

    def __init__(
        self,
        batch_size: int = 4,
        batches: int | None = None,
        seed: int = 0,
        image_size: tuple[int, int] = (24, 32),
        num_classes: int = 3,
    ) -> None:
        self.batch_size = batch_size
        self.batches = batches
        self.seed = seed
        self.image_size = image_size
        self.num_classes = num_classes
        self.position = 0

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the batches."""
        if self.batches is not None:
            yield from (self.batch(index) for index in range(self.batches))
            return
        while True:
            self.position += 1
            yield self.batch(self.position - 1)

    def batch(self, index: int) -> list[dict[str, Any]]:
        """Batch number ``index``."""
        return [self._sample(index * self.batch_size + i) for i in range(self.batch_size)]

    def _sample(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        height, width = self.image_size
        image = torch.randint(90, 166, (3, height, width), generator=generator, dtype=torch.uint8)
        label = int(torch.randint(self.num_classes, (), generator=generator))
        corner, extent = torch.rand(2, generator=generator) * 0.5, torch.rand(2, generator=generator) * 0.3 + 0.2
        x0, y0 = int(corner[0] * width), int(corner[1] * height)
        x1, y1 = x0 + max(int(extent[0] * width), 1), y0 + max(int(extent[1] * height), 1)
        image[:, y0:y1, x0:x1] = _COLOURS[label][:, None, None]
        instances = Instances(
            (height, width),
            gt_boxes=Boxes(torch.tensor([[x0, y0, x1, y1]], dtype=torch.float32)),
            gt_classes=torch.tensor([label]),
        )
        return {"image": image, "instances": instances, "height": height, "width": width, "image_id": index}

    def state_dict(self) -> dict[str, int]:
        """The number of batches given."""
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on at that place."""
        self.position = int(state["position"])


def tiny_loader(batch_size: int = 4, batches: int | None = None, seed: int = 0, **options: Any) -> TinyLoader:
    """A :class:`TinyLoader`."""
    return TinyLoader(batch_size, batches, seed, **options)


def tiny_trainer(seed: int = 0, *, lr: float = 0.1, **options: Any) -> SimpleTrainer:
    """A SimpleTrainer over :class:`TinyModel` and :func:`tiny_loader`; seeds the global generators.

    Args:
        seed: for the weights, the data and what training draws.
        lr: the learning rate of its SGD with momentum.
        options: further arguments of SimpleTrainer.
    """
    seed_all_rng(seed)
    model = TinyModel()
    return SimpleTrainer(model, tiny_loader(seed=seed), torch.optim.SGD(model.parameters(), lr, 0.9), **options)


def assert_same_training(*builders: Callable[[], SimpleTrainer], max_iter: int, seed: int = 0) -> None:
    """Check that trainings end alike, bit for bit: weights, buffers, optimizer state, random generators.

    ::

        def watched():
            trainer = tiny_trainer()
            trainer.register_hooks([MyHook()])
            return trainer

        assert_same_training(tiny_trainer, watched, max_iter=10)

    Args:
        builders: each makes a trainer; the generators are seeded before.
        max_iter: iterations of each training.
        seed: for the generators.

    Raises:
        AssertionError: one ends differently from the first; the message names the first difference.
    """
    expected: dict[str, Any] = {}
    for number, build in enumerate(builders, start=1):
        seed_all_rng(seed)
        trainer = build()
        trainer.train(0, max_iter)
        state = {"model": trainer.model.state_dict(), "optimizer": trainer.optimizer.state_dict()}
        leaves = dict(_leaves({**state, "rng": capture_rng_state()}, ""))
        expected = expected or {
            name: value.clone() if isinstance(value, Tensor) else value for name, value in leaves.items()
        }
        _compare(expected, leaves, f"training {number} differs from training 1 after {max_iter} iterations")


def _compare(expected: Mapping[str, Any], found: Mapping[str, Any], message: str) -> None:
    if expected.keys() != found.keys():
        raise AssertionError(f"{message}: {sorted(expected.keys() ^ found.keys())[:5]} are in one of them alone")
    for name, value in expected.items():
        if isinstance(value, Tensor):
            if not torch.equal(value, found[name]):
                largest = (value.double() - found[name].double()).abs().max().item()
                raise AssertionError(f"{message}: {name}, by up to {largest:g}")
        elif value != found[name]:
            raise AssertionError(f"{message}: {name} is {found[name]!r}, was {value!r}")


def _leaves(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The tensors and plain values in nested dicts and lists, with their places as names."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{prefix}[{index}]")
    else:
        yield prefix, value
