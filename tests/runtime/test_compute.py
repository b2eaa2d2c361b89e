"""Compiled and channels-last models train like plain ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from drivetrain.engine.defaults.config import get_cfg
from drivetrain.engine.train_loop import SimpleTrainer
from drivetrain.errors import ModelError
from drivetrain.modeling import build_model
from drivetrain.runtime.compute import compiled_parts, prepare_model
from drivetrain.testing import TinyLoader, TinyModel

Result = tuple[list[float], dict[str, torch.Tensor]]


@pytest.fixture(autouse=True)
def forget_what_was_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def two_sizes() -> Iterator[Any]:
    """Batches whose images change in size, and with them every shape in a detector."""
    loaders = [iter(TinyLoader(2, image_size=size)) for size in ((64, 96), (96, 64))]
    while True:
        yield from map(next, loaders)


def train(model: nn.Module, loader: Any, steps: int, lr: float = 0.05) -> Result:
    """The losses of a few steps, and what the model holds after them."""
    torch.manual_seed(1)
    trainer = SimpleTrainer(model, loader, torch.optim.SGD(model.parameters(), lr, 0.9))
    trainer.train(0, steps)
    losses = [value for value, _ in trainer.storage.history("total_loss").values()]
    return losses, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(one: Result, other: Result, tolerance: float) -> None:
    """Losses, weights and statistics differ by ``tolerance`` at most, and the names not at all."""
    assert one[0] == pytest.approx(other[0], rel=tolerance, abs=tolerance)
    assert list(one[1]) == list(other[1])
    for name, tensor in one[1].items():
        torch.testing.assert_close(tensor, other[1][name], rtol=tolerance, atol=tolerance, msg=name)


def tiny(dropout: float = 0.1) -> TinyModel:
    torch.manual_seed(0)
    return TinyModel(dropout=dropout)


def detector(**keys: Any) -> nn.Module:
    cfg = get_cfg()
    cfg.MODEL.NUM_CLASSES, cfg.MODEL.DEVICE = 3, "cpu"
    for key, value in keys.items():
        cfg.MODEL[key] = value
    torch.manual_seed(0)
    return build_model(cfg)


def test_the_comparison_sees_a_difference() -> None:
    with pytest.raises(AssertionError):
        assert_same(train(tiny(), TinyLoader(), 3), train(tiny(), TinyLoader(), 3, lr=0.0501), 1e-5)


# -- channels last ------------------------------------------------------------------------------------------------


def test_channels_last_is_the_same_training() -> None:
    """Without dropout, which draws its random numbers in the order of the memory."""
    last = prepare_model(tiny(dropout=0.0), channels_last=True)
    assert last.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert_same(train(tiny(dropout=0.0), TinyLoader(), 8), train(last, TinyLoader(), 8), 1e-6)
    assert last.conv.weight.is_contiguous(memory_format=torch.channels_last)  # the steps kept the order


def test_a_channels_last_detector_by_config_key() -> None:
    last = detector(CHANNELS_LAST=True)
    orders: list[bool] = []
    for part in (last.backbone.body.net.layer2, last.head.classification_head):
        part.register_forward_hook(
            lambda module, given, out: orders.append(
                (out if out.ndim == 4 else given[0][0]).is_contiguous(memory_format=torch.channels_last)
            )
        )
    plain = train(detector(), two_sizes(), 4, lr=0.002)
    assert_same(plain, train(last, two_sizes(), 4, lr=0.002), 1e-5)
    assert len(orders) == 8 and all(orders)  # feature maps are in that order, too


# -- compiled -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_is_the_same_training(backend: str) -> None:
    """These backends run PyTorch's own kernels on the graphs, so that what differs is the tracing."""
    compiled = prepare_model(tiny(), compile=backend)
    assert_same(train(tiny(), TinyLoader(), 4), train(compiled, TinyLoader(), 4), 1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def test_options_reach_the_compiler() -> None:
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    model = prepare_model(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), compile={"backend": backend, "fullgraph": True})
    assert not graphs
    model(torch.zeros(1, 2))
    assert len(graphs) == 1 and graphs[0] > 2


def test_a_compiled_detector_by_config_keys() -> None:
    """Backbone and head become a graph each, and neither is broken."""
    compiled = detector(COMPILE=True, COMPILE_BACKEND="eager")
    loaders = [TinyLoader(2, image_size=(64, 96)) for _ in range(2)]
    assert_same(train(detector(), loaders[0], 2, lr=0.002), train(compiled, loaders[1], 2, lr=0.002), 1e-6)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 2 and not counters["graph_break"]


@pytest.mark.slow
def test_images_of_other_sizes_compile_a_detector_once_more() -> None:
    compiled = detector(COMPILE=True, COMPILE_BACKEND="eager")
    assert_same(train(detector(), two_sizes(), 6, lr=0.002), train(compiled, two_sizes(), 6, lr=0.002), 1e-6)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 4 and not counters["graph_break"]


@pytest.mark.slow
def test_a_detector_compiled_whole_has_many_graph_breaks_and_they_are_no_error() -> None:
    compiled = detector()
    compiled.compile(backend="eager")
    assert_same(train(detector(), two_sizes(), 4, lr=0.002), train(compiled, two_sizes(), 4, lr=0.002), 1e-6)
    assert sum(torch._dynamo.utils.counters["graph_break"].values()) > 10


@pytest.mark.slow
def test_inductor_is_the_same_training() -> None:
    """Its kernels round differently; without dropout, whose random numbers it draws in its own way."""
    plain, compiled = tiny(dropout=0.0), prepare_model(tiny(dropout=0.0), compile=True)
    assert_same(train(plain, TinyLoader(), 8), train(compiled, TinyLoader(), 8), 1e-4)


@pytest.mark.slow
def test_a_detector_under_inductor_by_config_key() -> None:
    compiled = train(detector(COMPILE=True), TinyLoader(2, image_size=(64, 96)), 3, lr=0.002)
    assert_same(train(detector(), TinyLoader(2, image_size=(64, 96)), 3, lr=0.002), compiled, 1e-3)


def test_both_together() -> None:
    both = prepare_model(tiny(dropout=0.0), channels_last=True, compile="eager")
    assert_same(train(tiny(dropout=0.0), TinyLoader(), 4), train(both, TinyLoader(), 4), 1e-6)


def test_nothing_asked_for_changes_nothing() -> None:
    model = tiny()
    assert prepare_model(model) is model
    assert model._compiled_call_impl is None and model.conv.weight.is_contiguous()


# -- what is compiled ---------------------------------------------------------------------------------------------


class Parts(nn.Module):
    """Backbone, head and something else."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head, self.other = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)


class ChoosesItself(Parts):
    """A model that knows what is worth compiling."""

    def compile(self, *args: Any, **kwargs: Any) -> None:
        self.other.compile(*args, **kwargs)


def test_the_parts_that_are_compiled() -> None:
    model = Parts()
    assert compiled_parts(model) == [model.backbone, model.head]
    del model.head
    assert compiled_parts(model) == [model.backbone]
    model.backbone = None  # type: ignore[assignment]
    assert compiled_parts(model) == [model]
    own = prepare_model(ChoosesItself(), compile="eager")
    assert own.other._compiled_call_impl is not None and own.backbone._compiled_call_impl is None


def test_a_model_in_ddp_is_prepared_inside(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(Parts(), find_unused_parameters=True)
        assert prepare_model(model, compile="eager") is model
        assert model.module.backbone._compiled_call_impl is not None
        assert model._compiled_call_impl is None
    finally:
        torch.distributed.destroy_process_group()


def test_an_unknown_backend() -> None:
    with pytest.raises(ModelError, match=r"no backend 'inducter' .*; did you mean 'inductor'\? it has .*inductor"):
        prepare_model(tiny(), compile="inducter")
    with pytest.raises(ModelError, match="no backend 'x'"):
        prepare_model(tiny(), compile={"backend": "x"})
