"""Parameters that are not trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from drivetrain.errors import ModelError
from drivetrain.modeling.freezing import freeze_parameters


class Net(nn.Module):
    """A backbone with batch norms, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores."""
        scores: torch.Tensor = self.head(self.backbone(images).mean((2, 3)))
        return scores


def trained(net: nn.Module) -> set[str]:
    return {name for name, parameter in net.named_parameters() if parameter.requires_grad}


def step(net: nn.Module) -> None:
    """One step of all that is to be trained."""
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=1.0)
    net.train()(torch.rand(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["backbone.*"], {"head.weight", "head.bias"}),
        (["*.bias", "backbone.0.*"], {"backbone.1.weight", "backbone.2.weight", "backbone.3.weight", "head.weight"}),
        (["*.[0-2].weight", "backbone.?.bias"], {"backbone.3.weight", "head.weight", "head.bias"}),
        ([], {f"backbone.{i}.{kind}" for i in range(4) for kind in ("weight", "bias")} | {"head.weight", "head.bias"}),
    ],
)
def test_what_fits_a_pattern_is_frozen(patterns: list[str], left: set[str]) -> None:
    net = Net()
    names = [name for name, _ in net.named_parameters()]
    frozen = freeze_parameters(net, patterns)
    assert trained(net) == left
    assert frozen == [name for name in names if name not in left]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_step_changes_nothing_that_is_frozen(batch_norm: bool) -> None:
    torch.manual_seed(0)
    net = Net()
    freeze_parameters(net, ["backbone.*"], batch_norm=batch_norm)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    step(net)
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    statistics = {n for n in before if "running" in n or "tracked" in n}
    assert changed == {"head.weight", "head.bias"} | (set() if batch_norm else statistics)


def test_only_batch_norms_that_are_frozen_keep_their_statistics() -> None:
    net = Net()
    freeze_parameters(net, ["backbone.0.*", "backbone.1.*", "backbone.3.bias"], batch_norm=True)
    kinds = [type(module) for module in net.backbone]
    assert kinds[1] is not nn.BatchNorm2d and kinds[3] is nn.BatchNorm2d
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(net.train().backbone[:2](images), net.eval().backbone[:2](images))


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("backbone", "did you mean 'backbone.*'?"),
        ("backbone.", "did you mean 'backbone.*'?"),
        ("bakbone.*", "did you mean 'backbone.*'"),
        ("head.weigth", "did you mean 'head.weight'"),
        ("zzz", "its names are such as backbone.0.weight, backbone.0.bias"),
    ],
)
def test_a_pattern_that_fits_nothing_is_an_error_with_what_may_be_meant(pattern: str, hint: str) -> None:
    net = Net()
    everything = trained(net)
    with pytest.raises(ModelError) as raised:
        freeze_parameters(net, ["head.*", pattern])
    assert repr(pattern) in str(raised.value) and hint in str(raised.value)
    assert trained(net) == everything


def test_something_has_to_be_left_to_train() -> None:
    net = Net()
    with pytest.raises(ModelError, match="leaves no parameter to train"):
        freeze_parameters(net, ["*"])
    assert len(trained(net)) == 10
