"""Gradient accumulation written into run_step, without and with mixed precision."""

import time

import torch
from detectron2.engine import AMPTrainer, DefaultTrainer, SimpleTrainer
from detectron2.engine.defaults import create_ddp_model
from detectron2.engine.train_loop import TrainerBase  # noqa: F401
from shapes import register, report, small_cfg

STEPS = 2
UPDATES = {"SimpleAccumulating": 0, "AMPAccumulating": 0}


class SimpleAccumulating(SimpleTrainer):
    def run_step(self):
        assert self.model.training, "[SimpleTrainer] model was changed to eval mode!"
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        loss_dict = self.model(data)
        losses = sum(loss_dict.values()) / STEPS
        if self.iter % STEPS == 0:
            self.optimizer.zero_grad()
        losses.backward()
        self.after_backward()
        self._write_metrics(loss_dict, data_time)
        if (self.iter + 1) % STEPS == 0:
            self.optimizer.step()
            UPDATES["SimpleAccumulating"] += 1


class AMPAccumulating(AMPTrainer):
    def run_step(self):
        assert self.model.training, "[AMPTrainer] model was changed to eval mode!"
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        with torch.autocast("cpu", dtype=self.precision):
            loss_dict = self.model(data)
            losses = sum(loss_dict.values()) / STEPS
        if not self.zero_grad_before_forward and self.iter % STEPS == 0:
            self.optimizer.zero_grad()
        self.grad_scaler.scale(losses).backward()
        self.after_backward()
        if self.async_write_metrics:
            self.concurrent_executor.submit(self._write_metrics, loss_dict, data_time, iter=self.iter)
        else:
            self._write_metrics(loss_dict, data_time)
        if (self.iter + 1) % STEPS == 0:
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
            UPDATES["AMPAccumulating"] += 1


class Trainer(DefaultTrainer):
    amp = False

    def __init__(self, cfg):
        super().__init__(cfg)
        model = create_ddp_model(self.model, broadcast_buffers=False)
        if self.amp:
            scaler = torch.amp.GradScaler("cpu", enabled=False)
            self._trainer = AMPAccumulating(
                model, self.data_loader, self.optimizer, grad_scaler=scaler, precision=torch.bfloat16
            )
        else:
            self._trainer = SimpleAccumulating(model, self.data_loader, self.optimizer)


class AmpTrainer(Trainer):
    amp = True


register()
losses = []
for cls in (Trainer, AmpTrainer):
    cfg = small_cfg()
    cfg.SOLVER.MAX_ITER = 4
    cfg.DATASETS.TEST = ()
    trainer = cls(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    losses.append(len(trainer.storage.history("total_loss").values()))
report(updates=UPDATES, losses=losses)
