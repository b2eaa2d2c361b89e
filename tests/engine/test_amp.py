"""AMPTrainer: the arguments and attributes that older code uses, on a CPU too."""

from __future__ import annotations

from typing import Any

import torch

from drivetrain.engine import AMPTrainer
from drivetrain.engine import train_loop as module


def test_it_answers_under_its_old_path() -> None:
    assert module.AMPTrainer is AMPTrainer  # type: ignore[attr-defined]


def test_arguments_by_position(make_trainer: Any) -> None:
    parts = make_trainer()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    trainer = AMPTrainer(parts.model, parts.data_loader, parts.optimizer, 2, True, scaler, torch.float16, True, False)
    assert trainer.grad_scaler is scaler
    assert (trainer.precision, trainer.log_grad_scaler) == (torch.float16, True)
    assert (trainer.gather_metric_period, trainer.zero_grad_before_forward) == (2, True)
    trainer.train(0, 4)
    assert trainer.storage.history("[metric]grad_scaler").values()[0] == (4.0, 0)
    assert len(trainer.storage.history("total_loss").values()) == 2


def test_bfloat16(make_trainer: Any) -> None:
    plain, amp = make_trainer(), make_trainer(AMPTrainer, precision=torch.bfloat16)
    plain.train(0, 5)
    amp.train(0, 5)
    torch.testing.assert_close(amp.model.layer.weight, plain.model.layer.weight, rtol=0.05, atol=0.02)


def test_an_own_run_step_with_the_scaler(make_trainer: Any) -> None:
    class Own(AMPTrainer):
        def run_step(self) -> None:
            with torch.autocast("cpu", dtype=self.precision):
                losses = self.model(next(self._data_loader_iter))
                total = sum(losses.values())
            self.optimizer.zero_grad()
            self.grad_scaler.scale(total).backward()  # type: ignore[arg-type, union-attr]
            self.after_backward()
            self._write_metrics(losses, 0.0)
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()

    own, amp = make_trainer(Own), make_trainer(AMPTrainer)
    own.train(0, 3)
    amp.train(0, 3)
    assert torch.equal(own.model.layer.weight, amp.model.layer.weight)
