"""Counts of multiplications, activations and parameters, against sums written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from drivetrain.compat.analysis import (
    ActivationCountAnalysis,
    FlopCountAnalysis,
    activation_count_operators,
    flop_count_operators,
    flop_count_table,
    parameter_count,
    parameter_count_table,
)


class Small(nn.Module):
    """A convolution of a list of dicts' images, a linear layer, and a product of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, groups=1), nn.ReLU())
        self.head = nn.Linear(4, 2)
        self.spare = nn.Linear(5, 5)

    def forward(self, batch: list[dict[str, Tensor]]) -> Tensor:
        features: Tensor = self.stem(torch.stack([record["image"] for record in batch]))
        rows: Tensor = self.head(features.flatten(2).transpose(1, 2))
        return torch.bmm(rows, rows.transpose(1, 2))


INPUTS = [{"image": torch.zeros(3, 5, 6)}, {"image": torch.zeros(3, 5, 6)}]
PIXELS = 2 * 5 * 6
CONV, LINEAR, PRODUCT = PIXELS * 4 * 3 * 9, PIXELS * 4 * 2, 2 * 30 * 30 * 2


@pytest.fixture
def small() -> Small:
    return Small().eval()


def test_multiplications(small: Small) -> None:
    flops = FlopCountAnalysis(small, INPUTS)
    assert flops.by_operator() == {"conv": CONV, "linear": LINEAR, "matmul": PRODUCT}
    assert flops.total() == CONV + LINEAR + PRODUCT and flops.total("stem") == CONV and flops.total("spare") == 0
    by_module = {"": flops.total(), "stem": CONV, "stem.0": CONV, "head": LINEAR}
    assert {name: count for name, count in flops.by_module().items() if count} == by_module
    assert flops.by_module_and_operator()["stem.0"] == {"conv": CONV}
    assert flops.unsupported_ops_warnings(False) is flops
    assert flop_count_operators(small, INPUTS)["conv"] == CONV / 1e9


def test_activations(small: Small) -> None:
    made = {"conv": PIXELS * 4, "linear": PIXELS * 2, "matmul": 2 * 30 * 30}
    assert ActivationCountAnalysis(small, INPUTS).by_operator() == made
    assert activation_count_operators(small, (INPUTS,))["conv"] == PIXELS * 4 / 1e6


def test_it_leaves_the_model_as_it_is(small: Small) -> None:
    small.train()
    FlopCountAnalysis(small, INPUTS).total()
    assert small.training and all(parameter.grad is None for parameter in small.parameters())


def test_parameters(small: Small) -> None:
    counts = parameter_count(small)
    conv, head, spare = 4 * 27 + 4, 4 * 2 + 2, 30
    assert counts[""] == conv + head + spare == sum(p.numel() for p in small.parameters())
    assert (counts["stem"], counts["stem.0"], counts["stem.0.bias"], counts["none"]) == (conv, conv, 4, 0)


def cells(table: str) -> list[list[Any]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_tables(small: Small) -> None:
    parameters = cells(parameter_count_table(small, max_depth=1))
    assert parameters[0] == ["name", "#elements or shape"] and ["model", "152"] in parameters
    assert [row[0] for row in parameters[2:]] == ["model", "stem", "head", "spare"]
    assert ["stem.0.weight", "(4, 3, 3, 3)"] in cells(parameter_count_table(small))
    rows = cells(flop_count_table(FlopCountAnalysis(small, INPUTS), max_depth=1))
    assert rows[2:] == [["model", "152", "10.560K"], ["stem", "112", "6.480K"], ["head", "10", "480"]]


def test_a_model_whose_count_is_published() -> None:
    """1.81 GFLOPS is what torchvision states for ResNet-18 at 224 x 224, counting as fvcore does."""
    from torchvision.models import resnet18

    model = resnet18().eval()
    assert FlopCountAnalysis(model, torch.zeros(1, 3, 224, 224)).total() / 1e9 == pytest.approx(1.81, rel=0.01)
