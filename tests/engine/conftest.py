"""A linear model on made-up batches: the smallest thing that trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from drivetrain.engine.train_loop import SimpleTrainer


class Linear(torch.nn.Module):
    """Two losses of a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        out = self.layer(batch)
        return {"loss_a": out.square().mean(), "loss_b": out.abs().mean()}


class Batches:
    """Batch i is a function of i alone; ``bad`` ones hold a NaN."""

    def __init__(self, size: int = 8, bad: tuple[int, ...] = (), start: int = 0) -> None:
        self.size, self.bad, self.start = size, bad, start

    def __iter__(self) -> Iterator[torch.Tensor]:
        index = self.start
        while True:
            batch = torch.randn(self.size, 4, generator=torch.Generator().manual_seed(index))
            if index in self.bad:
                batch[0, 0] = float("nan")
            yield batch
            index += 1


Maker = Callable[..., SimpleTrainer]


@pytest.fixture
def make_trainer() -> Maker:
    """Makes SimpleTrainers whose weights start the same."""

    def make(cls: type[SimpleTrainer] = SimpleTrainer, loader: Any = None, lr: float = 0.1, **options: Any) -> Any:
        torch.manual_seed(0)
        model = Linear()
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        return cls(model, Batches() if loader is None else loader, optimizer, **options)

    return make


@pytest.fixture
def batches() -> type[Batches]:
    """The class of the loader."""
    return Batches
