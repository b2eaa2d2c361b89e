"""What every adapted model does with a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from drivetrain.errors import ModelError
from drivetrain.modeling.adapted import AdaptedModel
from drivetrain.modeling.preprocess import Preprocess


class Together(AdaptedModel):
    """Answers with how many images it saw at once."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.preprocess = Preprocess((0, 0, 0), (1, 1, 1), size_divisibility=32)

    def batch_losses(self, batch: Any) -> Any:
        return {"loss": self.weight.sum() * len(batch)}

    def batch_outputs(self, batch: Any) -> Any:
        return [{"together": len(batch), "file": entry["file_name"]} for entry in batch]


def images(*sizes: tuple[int, int]) -> list[dict[str, Any]]:
    return [{"image": torch.zeros(3, *size), "file_name": f"{i}.jpg"} for i, size in enumerate(sizes)]


def test_images_of_one_padded_size_run_together_and_keep_their_places() -> None:
    outputs = Together().eval()(images((40, 70), (100, 100), (33, 90), (64, 96)))
    assert [output["together"] for output in outputs] == [3, 1, 3, 3]
    assert [output["file"] for output in outputs] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]


def test_a_training_batch_stays_together() -> None:
    assert Together()(images((40, 70), (100, 100), (33, 90)))["loss"].item() == 3


@pytest.mark.parametrize("training", [True, False])
def test_an_empty_batch_is_refused(training: bool) -> None:
    with pytest.raises(ModelError, match="batch is empty"):
        Together().train(training)([])


@pytest.mark.parametrize("entry", [{"image": torch.zeros(1, 8, 8)}, {"file_name": "a.jpg"}])
def test_an_entry_without_an_image_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="'image' is a uint8 tensor"):
        Together().eval()([entry])
