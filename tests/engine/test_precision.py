"""Precision objects: the types computed in, and that the result stays near the plain one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from drivetrain.engine.defaults.config import get_cfg
from drivetrain.engine.precision import BFloat16, Float16, Precision, build_precision, device_of
from drivetrain.engine.train_loop import SimpleTrainer
from drivetrain.errors import TrainingError
from drivetrain.modeling import build_model
from drivetrain.testing import TinyLoader, TinyModel

CPU = torch.device("cpu")


def test_the_names() -> None:
    assert type(build_precision("fp32", CPU)) is Precision
    assert isinstance(build_precision("bf16", CPU), BFloat16)
    assert isinstance(build_precision("fp16", CPU), Float16)
    assert type(build_precision("auto", CPU)) is Precision
    own = Precision()
    assert build_precision(own, CPU) is own
    with pytest.raises(TrainingError, match="precision 'fp8' is unknown"):
        build_precision("fp8", CPU)


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_the_forward_computes_in_the_type(name: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(2, 2)
    with build_precision(name, CPU).context():
        assert layer(torch.ones(1, 2)).dtype == dtype


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_training_stays_near_single_precision(make_trainer: Any, name: str) -> None:
    precision = Float16("cpu", torch.amp.GradScaler("cpu", init_scale=128.0)) if name == "fp16" else name
    plain, reduced = make_trainer(), make_trainer(precision=precision)
    plain.train(0, 10)
    reduced.train(0, 10)
    assert not torch.equal(reduced.model.layer.weight, plain.model.layer.weight)
    torch.testing.assert_close(reduced.model.layer.weight, plain.model.layer.weight, rtol=0.05, atol=0.02)
    assert reduced.model.layer.weight.dtype == torch.float32


def losses(name: str, precision: str, dtypes: set[torch.dtype]) -> list[float]:
    """The total losses of a few steps of a detector, and the types that its convolutions gave."""
    torch.manual_seed(0)
    if name == "toy":
        model: torch.nn.Module = TinyModel(dropout=0.0)
        loader = TinyLoader()
    else:
        cfg = get_cfg()
        cfg.MODEL.NAME, cfg.MODEL.NUM_CLASSES, cfg.MODEL.DEVICE = name, 3, "cpu"
        model, loader = build_model(cfg), TinyLoader(2, image_size=(64, 96))
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, given, out: dtypes.add(out.dtype))
    trainer = SimpleTrainer(model, loader, torch.optim.SGD(model.parameters(), 0.002, 0.9), precision=precision)
    trainer.train(0, 6)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    return [value for value, _ in trainer.storage.history("total_loss").values()]


@pytest.mark.parametrize(("name", "tolerance"), [("toy", 0.01), ("fcos_tiny", 0.01), ("faster_rcnn_tiny", 0.1)])
def test_losses_in_bfloat16_on_a_cpu(name: str, tolerance: float) -> None:
    """Within 1 % of single precision; within 10 % where boxes are sampled by scores, which a rounding may swap."""
    plain: set[torch.dtype] = set()
    reduced: set[torch.dtype] = set()
    expected, found = losses(name, "fp32", plain), losses(name, "bf16", reduced)
    assert plain == {torch.float32} and torch.bfloat16 in reduced
    assert found == pytest.approx(expected, rel=tolerance) and found != expected


def test_the_scaler_scales_backward_and_unscales_before_clipping(make_trainer: Any) -> None:
    seen: list[float] = []

    def look(optimizer: Any) -> None:
        seen.append(float(optimizer.param_groups[0]["params"][0].grad.norm()))

    precision = Float16("cpu", torch.amp.GradScaler("cpu", init_scale=128.0))
    plain, scaled = make_trainer(clip_gradients=look), make_trainer(precision=precision, clip_gradients=look)
    plain.train(0, 1)
    scaled.train(0, 1)
    assert seen[1] == pytest.approx(seen[0], rel=0.02)


def test_an_overflow_is_skipped_and_lowers_the_scale(make_trainer: Any) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    trainer = make_trainer(precision=Float16("cpu", scaler))
    before = trainer.model.layer.weight.detach().clone()
    trainer.train(0, 1)
    assert torch.equal(trainer.model.layer.weight, before)
    assert scaler.get_scale() == 2.0**59
    assert trainer.state_dict()["grad_scaler"]["scale"] == 2.0**59


def test_state_round_trip() -> None:
    one, two = Float16("cpu", torch.amp.GradScaler("cpu", init_scale=8.0)), Float16("cpu")
    two.scaler.scale(torch.tensor(1.0))
    one.scaler.scale(torch.tensor(1.0))
    two.load_state_dict(one.state_dict())
    assert two.metrics() == {"grad_scaler": 8.0}
    assert Precision().state_dict() == Precision().metrics() == {}


def test_device_of() -> None:
    assert device_of(torch.nn.Linear(1, 1)).type == "cpu"
    assert device_of(torch.nn.ReLU()).type == "cpu"
