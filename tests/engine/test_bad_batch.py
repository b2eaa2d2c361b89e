"""What is saved of a step that was kept from the weights."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.engine.bad_batch import BadBatchWriter, to_plain
from drivetrain.errors import NonFiniteLossError
from drivetrain.structures import Boxes, Instances
from drivetrain.testing import TinyLoader, TinyModel, tiny_trainer


class Poisoned(TinyModel):
    """Its loss is NaN for a batch whose first image is number ``bad``."""

    bad = 3

    def forward(self, batch: Any) -> Any:
        losses = super().forward(batch)
        if self.training and any(item["image_id"] == self.bad for item in batch):
            losses["loss_box"] = losses["loss_box"] * math.nan
        return losses


class Named(TinyLoader):
    def batch(self, index: int) -> Any:
        return [{**item, "image_id": index, "file_name": f"{index}.jpg"} for item in super().batch(index)]


def poisoned(folder: Path, **options: Any) -> Any:
    trainer = tiny_trainer(bad_batches=BadBatchWriter(str(folder), config="A: 1\n"), **options)
    weights = trainer.model.state_dict()
    trainer.model = Poisoned()
    trainer.model.load_state_dict(weights)
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), 0.1)
    trainer.data_loader = Named()
    return trainer


def read(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def test_the_message_ends_with_the_command_and_the_file_has_the_step(tmp_path: Path) -> None:
    trainer = poisoned(tmp_path)
    with pytest.raises(NonFiniteLossError, match=r"look at that batch with: drivetrain replay .*bad_batch_3\.pt$"):
        trainer.train(0, 6)
    saved = read(tmp_path / "bad_batch_3.pt")
    assert saved["iteration"] == saved["weights_iteration"] == saved["position"] == 3
    assert math.isnan(saved["losses"]["loss_box"]) and math.isfinite(saved["losses"]["loss_cls"])
    assert saved["config"] == "A: 1\n" and saved["precision"] == "fp32"
    (batch,) = saved["batches"]
    expected = Named().batch(3)
    assert [item["file_name"] for item in batch] == ["3.jpg"] * 4
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(batch, expected, strict=True))
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(saved["model"][name], value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad_batch_3.pt"]


def test_the_random_state_is_that_before_the_step(tmp_path: Path) -> None:
    trainer = poisoned(tmp_path)
    states = []
    inner = trainer.fetch

    def fetch() -> Any:
        states.append(torch.get_rng_state())
        return inner()

    trainer.fetch = fetch
    with pytest.raises(NonFiniteLossError):
        trainer.train(0, 6)
    assert torch.equal(read(tmp_path / "bad_batch_3.pt")["rng"], states[3])


def test_all_batches_of_an_iteration_that_accumulates(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match="bad_batch_1"):
        poisoned(tmp_path, accumulate=2).train(0, 3)
    saved = read(tmp_path / "bad_batch_1.pt")
    assert [batch[0]["image_id"] for batch in saved["batches"]] == [2, 3]


def test_a_loader_that_cannot_make_batches_again_gives_the_one_at_hand(tmp_path: Path) -> None:
    trainer = poisoned(tmp_path)
    trainer.data_loader = [Named().batch(i) for i in range(5)]
    with pytest.raises(NonFiniteLossError):
        trainer.train(0, 5)
    saved = read(tmp_path / "bad_batch_3.pt")
    assert saved["position"] is None and saved["batches"][0][0]["image_id"] == 3


def test_a_bad_gradient_of_a_finite_loss(tmp_path: Path) -> None:
    class Cliff(Poisoned):
        bad = -1

        def forward(self, batch: Any) -> Any:
            losses = super().forward(batch)
            if batch[0]["image_id"] == 2:
                losses["loss_cliff"] = (self.head.weight - self.head.weight.detach()).abs().sqrt().sum()
            return losses

    trainer = poisoned(tmp_path)
    trainer.model = Cliff()
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), 0.1)
    with pytest.raises(NonFiniteLossError, match="iteration 2"):
        trainer.train(0, 5)
    saved = read(tmp_path / "bad_batch_2.pt")
    assert all(math.isfinite(value) for value in saved["losses"].values())
    assert saved["batches"][0][0]["image_id"] == 2


def test_a_number_of_files_at_most_when_steps_are_skipped(tmp_path: Path) -> None:
    trainer = poisoned(tmp_path, non_finite="skip")
    trainer.bad_batches = BadBatchWriter(str(tmp_path), most=2)
    trainer.data_loader = [Named().batch(3)] * 4
    trainer.train(0, 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad_batch_0.pt", "bad_batch_1.pt"]
    assert trainer.state_dict()["non_finite"] == {"skipped": 4}


def test_a_bad_loss_of_another_rank_is_left_to_it(tmp_path: Path) -> None:
    trainer, writer = tiny_trainer(), BadBatchWriter(str(tmp_path), most=1)
    assert writer.save(trainer, 3, {"loss": math.nan}) == "" and list(tmp_path.iterdir()) == []
    assert writer.save(trainer, 4, {"loss": 1.0}).endswith("bad_batch_4.pt")  # the gradient, which all have


def test_failing_to_write_hides_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.ERROR), pytest.raises(NonFiniteLossError, match="look at that batch$"):
        poisoned(tmp_path / "file").train(0, 6)
    assert "The batch of iteration 3 cannot be saved" in caplog.text


def test_what_a_batch_becomes() -> None:
    class Odd:
        __slots__ = ()

        def __repr__(self) -> str:
            return "odd"

    instances = Instances((4, 6), gt_boxes=Boxes(torch.ones(1, 4)))
    plain = to_plain(
        [{"image": torch.ones(2), "instances": instances, "points": np.zeros(2, np.float32), "odd": Odd()}]
    )
    assert plain[0]["instances"]["object"] == "drivetrain.structures.instances.Instances"
    assert plain[0]["instances"]["state"]["_image_size"] == [4, 6]
    assert plain[0]["points"]["object"] == "numpy" and plain[0]["odd"] == "odd"
    assert to_plain((1, "a", None, Path("x"))) == [1, "a", None, "x"]
