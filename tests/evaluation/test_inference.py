from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from drivetrain.evaluation import DatasetEvaluator, inference, inference_context, inference_on_dataset
from drivetrain.evaluation.evaluator import DatasetEvaluators


class Net(nn.Module):
    """Parts in different modes, a batch norm, and a dropout that would draw random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        self.body = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
        self.train()
        self.frozen.eval()

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        x = torch.stack([image["x"] for image in batch])
        return [{"y": y} for y in self.body(self.frozen(x))]


class Collect(DatasetEvaluator):
    def __init__(self) -> None:
        self.seen: list[Any] = ["from before"]
        self.training: set[bool] = set()

    def reset(self) -> None:
        self.seen = []

    def process(self, inputs: Any, outputs: Any) -> None:
        assert not torch.is_grad_enabled()
        self.seen += [(image["id"], output["y"]) for image, output in zip(inputs, outputs, strict=True)]

    def evaluate(self) -> dict[str, Any]:
        return {"task": {"count": float(len(self.seen))}}


class Loader:
    """Batches that cost random numbers of every global generator, as a loader with workers does."""

    def __init__(self, batches: int, size: int = 2) -> None:
        self.batches, self.size = batches, size

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for b in range(self.batches):
            torch.rand(1), np.random.rand(), random.random()
            yield [{"id": b * self.size + i, "x": torch.full((3,), float(b + i))} for i in range(self.size)]


def flags(model: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules()}


def draws() -> tuple[float, float, float]:
    return float(torch.rand(1)), float(np.random.rand()), random.random()


def test_every_image_once_and_the_results() -> None:
    evaluator = Collect()
    results = inference_on_dataset(Net(), Loader(4), evaluator)
    assert results == {"task": {"count": 8.0}}
    assert [i for i, _ in evaluator.seen] == list(range(8))
    assert not evaluator.seen[0][1].is_inference()  # what a model keeps from evaluation can be trained with


def test_modes_weights_buffers_gradients_and_generators_are_untouched() -> None:
    model = Net()
    (model([{"x": torch.ones(3)}, {"x": torch.zeros(3)}])[0]["y"].sum()).backward()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    before = flags(model)
    assert set(before.values()) == {True, False}
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(5)
    expected = draws()
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(5)
    inference_on_dataset(model, Loader(5), [Collect()])
    assert draws() == expected
    assert flags(model) == before
    assert torch.is_grad_enabled()
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        assert (p.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(p.grad, gradient)


def test_training_goes_on_bit_for_bit_as_without_evaluation() -> None:
    def train(evaluate: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(6):
            batch = [{"x": torch.randn(3)} for _ in range(4)]
            loss = sum(output["y"].pow(2).sum() for output in model(batch))
            optimizer.zero_grad()
            loss.backward()
            if evaluate and step % 2:
                inference_on_dataset(model, Loader(3), Collect())
            optimizer.step()
        return torch.cat([v.flatten().float() for v in model.state_dict().values()])

    assert torch.equal(train(True), train(False))


def test_an_exception_restores_too() -> None:
    model = Net()
    before = flags(model)
    torch.manual_seed(1)
    state = torch.get_rng_state()

    class Failing(Collect):
        def process(self, inputs: Any, outputs: Any) -> None:
            torch.rand(3)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        inference_on_dataset(model, Loader(2), Failing())
    assert flags(model) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()


def test_inference_context_restores_mixed_submodules() -> None:
    model = Net()
    before = flags(model)
    with inference_context(model):
        assert not any(flags(model).values())
    assert flags(model) == before
    model.eval()
    with pytest.raises(KeyError), inference_context(model):
        raise KeyError("x")
    assert not any(flags(model).values())


def test_none_a_list_a_plain_callable_and_an_evaluator_with_nothing_to_say() -> None:
    assert inference_on_dataset(Net(), Loader(2), None) == {}
    assert inference_on_dataset(Net(), Loader(2)) == {}
    results = inference_on_dataset(lambda batch: [{"y": 0}] * len(batch), Loader(3), [Collect(), DatasetEvaluator()])
    assert results == {"task": {"count": 6.0}}
    assert inference_on_dataset(Net(), Loader(2), DatasetEvaluators([DatasetEvaluator()])) == {}


def test_empty_loader(caplog: pytest.LogCaptureFixture) -> None:
    evaluator = Collect()
    assert inference_on_dataset(Net(), [], evaluator) == {"task": {"count": 0.0}}
    assert evaluator.seen == []
    assert "gave no batch" in caplog.text


def test_log_lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that advances by 1 s for data, 2 s for the model and 3 s for the evaluator of each 2 images."""
    now = 0.0
    monkeypatch.setattr(inference.time, "perf_counter", lambda: now)

    def model(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        nonlocal now
        now += 2.0 if batch[0]["id"] >= 10 else 50.0  # the first five batches warm up
        return [{"y": 0} for _ in batch]

    class Slow(Collect):
        def process(self, inputs: Any, outputs: Any) -> None:
            nonlocal now
            now += 3.0

    class SlowLoader(Loader):
        def __iter__(self) -> Iterator[list[dict[str, Any]]]:
            nonlocal now
            for batch in super().__iter__():
                now += 1.0
                yield batch

    with caplog.at_level(logging.INFO):
        inference_on_dataset(model, SlowLoader(8), Slow())
    lines = [record.getMessage() for record in caplog.records]
    speeds = "Seconds per image: data 0.5000, inference 1.0000, evaluation 1.5000, total 3.0000."
    assert lines == [
        "Start inference on 8 batches",
        f"Inference done 6/8. {speeds} ETA 0:00:12",
        f"Inference done 7/8. {speeds} ETA 0:00:06",
        f"Inference done 8/8. {speeds} ETA 0:00:00",
        f"Inference on 16 images took 0:04:48. {speeds}",
    ]


def test_a_loader_without_a_length(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert inference_on_dataset(Net(), iter(Loader(2)), Collect()) == {"task": {"count": 4.0}}
    assert "Start inference on an unknown number of batches" in caplog.text
    assert "Inference on 4 images took 0:00:00" in caplog.text
