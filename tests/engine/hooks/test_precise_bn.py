from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from drivetrain.checkpoint import Checkpointer
from drivetrain.engine.hooks import CallbackHook, PeriodicCheckpointer, PreciseBN, PreemptionCheckpointer
from drivetrain.errors import TrainingError
from drivetrain.testing import assert_same_training, tiny_loader, tiny_trainer


def batches(sizes: list[int], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 3, 5, 4, generator=generator) * 3 + 7 for n in sizes]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, momentum=0.3)
        self.frozen = nn.BatchNorm2d(3).eval()
        self.second = nn.BatchNorm1d(3)
        self.unused = nn.BatchNorm2d(2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        torch.rand(3)
        x = self.frozen(self.norm(x))
        return self.second(x.mean(dim=(2, 3)) * 2 + 1)


def test_mean_and_variance_by_hand() -> None:
    model, data = Net(), batches([6, 6, 6, 6])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    PreciseBN(1, model, data, num_iter=3).update_stats()
    together = torch.cat(data[:3]).double()  # the fourth batch is one too many
    mean, var = together.mean(dim=(0, 2, 3)), together.var(dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(model.norm.running_mean.double(), mean, rtol=0, atol=2e-6)
    torch.testing.assert_close(model.norm.running_var.double(), var, rtol=2e-6, atol=0)
    # The layer behind it saw what the first one made of each batch.
    inputs = [nn.functional.batch_norm(x, None, None, training=True) for x in data[:3]]
    outputs = torch.cat([(x / (1 + 1e-5) ** 0.5).mean(dim=(2, 3)) * 2 + 1 for x in inputs])
    torch.testing.assert_close(model.second.running_mean, outputs.mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(model.second.running_var, outputs.var(0, correction=0), rtol=1e-4, atol=1e-6)
    after = model.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {
        f"{layer}.{buffer}" for layer in ("norm", "second") for buffer in ("running_mean", "running_var")
    }
    assert model.norm.momentum == 0.3
    assert not model.norm._forward_pre_hooks


def test_batches_of_different_size_weigh_alike() -> None:
    model, data = nn.BatchNorm2d(3), batches([2, 10])
    PreciseBN(1, model, data, num_iter=2).update_stats()
    means = torch.stack([x.mean(dim=(0, 2, 3)) for x in data])
    seconds = torch.stack([x.square().mean(dim=(0, 2, 3)) for x in data])
    torch.testing.assert_close(model.running_mean, means.mean(0))
    torch.testing.assert_close(model.running_var, seconds.mean(0) - means.mean(0) ** 2, rtol=1e-4, atol=1e-5)


def test_large_means_do_not_swallow_the_variance() -> None:
    model = nn.BatchNorm1d(1)
    data = [torch.tensor([[4000.0], [4000.5]]), torch.tensor([[4000.0], [4000.5]])]
    PreciseBN(1, model, data, num_iter=2).update_stats()
    assert float(model.running_var) == pytest.approx(0.0625, rel=1e-6)


class OwnForward(nn.BatchNorm2d):
    """Leaves in its buffers what is not the statistics of its input, as layers that synchronise ranks do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = nn.functional.batch_norm(x, None, None, self.weight, self.bias, training=True)
        self.running_mean.mul_(1 - self.momentum).add_(x.mean() * self.momentum)
        return out


class Frozen(nn.BatchNorm2d):
    """Goes by its buffers though it is in training mode."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.training = False
        out = super().__call__(x)
        self.training = True
        return out


class Borrowing(nn.BatchNorm2d):
    """Uses other buffers for a call, as ``torch.func.functional_call`` does."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        own = self.running_mean, self.running_var
        self.running_mean, self.running_var = (buffer.clone() for buffer in own)
        out = super().__call__(x)
        self.running_mean, self.running_var = own
        return out


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(3, momentum=None),
        nn.BatchNorm2d(3, momentum=0.0),
        nn.BatchNorm2d(3).double(),
        nn.BatchNorm2d(3).bfloat16(),
        OwnForward(3),
        Frozen(3),
        Borrowing(3),
    ],
    ids=lambda layer: f"{type(layer).__name__}-{layer.momentum}-{layer.running_mean.dtype}",
)
def test_kinds_of_layers(layer: nn.BatchNorm2d) -> None:
    dtype, momentum = layer.running_mean.dtype, layer.momentum
    data = [x.to(dtype) for x in batches([6, 2])]
    PreciseBN(1, layer, data, num_iter=2).update_stats()
    means = torch.stack([x.double().mean(dim=(0, 2, 3)) for x in data])
    seconds = torch.stack([x.double().square().mean(dim=(0, 2, 3)) for x in data])
    tolerance = {"rtol": 4e-3 if dtype == torch.bfloat16 else 5e-6, "atol": 0}
    torch.testing.assert_close(layer.running_mean.double(), means.mean(0), **tolerance)
    torch.testing.assert_close(layer.running_var.double(), seconds.mean(0) - means.mean(0) ** 2, **tolerance)
    assert layer.momentum == momentum and int(layer.num_batches_tracked) == 0


def test_a_layer_that_is_called_several_times_takes_each_call_for_a_batch() -> None:
    """As the heads of detectors are, on each level of a pyramid; the calls may be of different size."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.last = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> None:
            for stride in (1, 2, 4):
                self.norm(x[:, :, ::stride] + stride)
            if len(x) > 3:
                self.last(x)

    model, data = Shared(), batches([4, 2, 6])
    PreciseBN(1, model, data, num_iter=3).update_stats()
    each = [x[:, :, ::stride] + stride for x in data for stride in (1, 2, 4)]
    for layer, inputs in ((model.norm, each), (model.last, [data[0], data[2]])):
        means = torch.stack([x.double().mean(dim=(0, 2, 3)) for x in inputs])
        seconds = torch.stack([x.double().square().mean(dim=(0, 2, 3)) for x in inputs])
        torch.testing.assert_close(layer.running_mean.double(), means.mean(0), rtol=2e-6, atol=0)
        torch.testing.assert_close(layer.running_var.double(), seconds.mean(0) - means.mean(0) ** 2, rtol=5e-6, atol=0)


def test_an_empty_input_is_no_batch() -> None:
    model, alone, data = nn.BatchNorm2d(3), nn.BatchNorm2d(3), batches([4, 0, 4])
    PreciseBN(1, model, data, num_iter=3).update_stats()
    PreciseBN(1, alone, [data[0], data[2]], num_iter=2).update_stats()
    assert torch.equal(model.running_mean, alone.running_mean)
    assert torch.equal(model.running_var, alone.running_var)


def test_statistics_that_were_not_finite_are_healed_and_new_ones_are_seen() -> None:
    model, expected, data = nn.BatchNorm2d(3), nn.BatchNorm2d(3), batches([4, 4])
    model.running_mean[:2] = torch.tensor([float("nan"), float("inf")])
    model.running_var[1:] = torch.tensor([float("nan"), float("-inf")])
    for layer in (model, expected):
        PreciseBN(1, layer, data, num_iter=2).update_stats()
    assert torch.equal(model.running_mean, expected.running_mean)
    assert torch.equal(model.running_var, expected.running_var)
    data[0][0, 1, 0, 0] = float("nan")
    PreciseBN(1, model, data, num_iter=2).update_stats()
    for buffer, other in ((model.running_mean, expected.running_mean), (model.running_var, expected.running_var)):
        assert buffer.isnan().tolist() == [False, True, False]
        assert torch.equal(buffer[::2], other[::2])


def test_a_layer_does_not_compute_its_statistics_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would make an update of a ResNet-50 take 1.67 times as long."""
    computed: list[int] = []
    var_mean = torch.var_mean
    monkeypatch.setattr(torch, "var_mean", lambda *args, **kwargs: computed.append(1) or var_mean(*args, **kwargs))
    PreciseBN(1, Net(), batches([4, 4]), num_iter=2).update_stats()
    assert computed == []
    PreciseBN(1, OwnForward(3), batches([4, 4]), num_iter=2).update_stats()
    assert computed == [1, 1]


def test_when_it_runs_and_that_checkpoints_hold_its_result(tmp_path: Path) -> None:
    trainer = tiny_trainer()
    at: list[int] = []

    class Noting(PreciseBN):
        def update_stats(self) -> None:
            at.append(self.trainer.iter)
            super().update_stats()

    hook = Noting(3, trainer.model, tiny_loader(seed=5), 4)
    checkpointer = Checkpointer(trainer.model, str(tmp_path), trainer=trainer)
    trainer.register_hooks([hook, PeriodicCheckpointer(checkpointer, 0)])
    trainer.train(0, 5)
    assert at == [2, 4]
    final = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    # Under the final weights, by hand:
    model = trainer.model
    with torch.no_grad():
        first = [torch.stack([s["image"] for s in tiny_loader(seed=5).batch(i)]) for i in range(4, 8)]
        x = torch.cat([model.conv(images.float() / 255 - 0.5) for images in first])
    torch.testing.assert_close(final["norm.running_mean"], x.mean(dim=(0, 2, 3)), rtol=0, atol=1e-6)


def test_a_training_that_failed_keeps_its_statistics() -> None:
    trainer = tiny_trainer()
    trainer.register_hooks([PreciseBN(0, trainer.model, tiny_loader(seed=5), 2)])
    trainer.after_backward = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(ZeroDivisionError):
        trainer.train(0, 1)
    assert not trainer.model.norm._forward_pre_hooks
    assert int(trainer.model.norm.num_batches_tracked) == 1


def test_what_a_signal_cut_short_is_made_up_for(tmp_path: Path) -> None:
    """Moving averages go on from the true statistics: those of the next step tell whether they were computed."""
    data = [tiny_loader(seed=5).batch(index) for index in range(3)]

    class Interrupted:
        def __init__(self, trainer: Any) -> None:
            self.trainer = trainer

        def __iter__(self) -> Iterator[Any]:
            for index, batch in enumerate(data):
                if index == 2 and self.trainer.iter == 3:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

    def build(interrupt: bool) -> tuple[Any, Checkpointer, dict[int, torch.Tensor]]:
        trainer, means = tiny_trainer(), dict[int, torch.Tensor]()
        precise = PreciseBN(2, trainer.model, Interrupted(trainer) if interrupt else data, 3)
        note = CallbackHook(after_step=lambda t: means.update({t.iter: trainer.model.norm.running_mean.clone()}))
        checkpointer = Checkpointer(trainer.model, str(tmp_path), trainer=trainer)
        trainer.register_hooks([precise, note, PreemptionCheckpointer(checkpointer)])
        return trainer, checkpointer, means

    whole, _, expected = build(False)
    whole.train(0, 6)
    cut, _, before = build(True)
    with pytest.raises(SystemExit):
        cut.train(0, 6)
    resumed, checkpointer, after = build(False)
    checkpointer.resume_or_load("")
    resumed.train(4, 6)
    assert (list(before), list(after)) == ([0, 1, 2], [4, 5])
    for iteration, mean in (before | after).items():
        assert torch.equal(mean, expected[iteration]), iteration


def test_training_goes_on_as_without_it() -> None:
    def weights_only(build: Any) -> Any:
        def run() -> Any:
            trainer = build()
            trainer.train(0, 6)
            trainer.model.norm.reset_running_stats()  # what it is meant to change
            return trainer

        return run

    def precise() -> Any:
        trainer = tiny_trainer()
        trainer.register_hooks([PreciseBN(2, trainer.model, tiny_loader(seed=5), 3)])
        return trainer

    assert_same_training(weights_only(tiny_trainer), weights_only(precise), max_iter=0)


def test_compiled_models_are_seen_through(monkeypatch: pytest.MonkeyPatch) -> None:
    data = batches([4, 4])
    plain, inner = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    compiled = torch.compile(nn.Sequential(inner), backend="eager")
    compiled(data[0] * 0)  # compiled before the hooks are there
    PreciseBN(1, plain, data, 2).update_stats()
    PreciseBN(1, compiled, data, 2).update_stats()
    assert torch.equal(inner.running_mean, plain.running_mean)
    assert torch.equal(inner.running_var, plain.running_var)


def test_models_without_layers_in_training_mode(caplog: pytest.LogCaptureFixture) -> None:
    model = Net()
    assert PreciseBN.applies_to(model)
    assert not PreciseBN.applies_to(model.eval())
    assert not PreciseBN.applies_to(nn.BatchNorm2d(3, track_running_stats=False))
    PreciseBN(1, model, batches([4]), 1).update_stats()
    assert "nothing to do" in caplog.text


def test_an_error_on_the_way_leaves_everything_as_it_was() -> None:
    def failing() -> Iterator[torch.Tensor]:
        yield from batches([4])
        raise OSError("no more")

    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(OSError, match="no more"):
        PreciseBN(1, model, failing(), 5).update_stats()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.norm.momentum == 0.3
    assert not model.norm._forward_pre_hooks


def test_bad_input() -> None:
    with pytest.raises(TrainingError, match=r"num_iter=0"):
        PreciseBN(1, Net(), [], 0)
    with pytest.raises(TrainingError, match=r"gave no batch"):
        PreciseBN(1, Net(), [], 5).update_stats()
