"""A hook that computes the validation loss, put just before the writer."""

import datetime
import logging
import time

import detectron2.utils.comm as comm
import numpy as np
import torch
from detectron2.data import DatasetMapper, build_detection_test_loader
from detectron2.engine import DefaultTrainer
from detectron2.engine.hooks import HookBase
from detectron2.evaluation import COCOEvaluator
from detectron2.utils.logger import log_every_n_seconds
from shapes import register, report, small_cfg


class LossEvalHook(HookBase):
    def __init__(self, eval_period, model, data_loader):
        self._model = model
        self._period = eval_period
        self._data_loader = data_loader

    def _do_loss_eval(self):
        total = len(self._data_loader)
        start_time = time.perf_counter()
        losses = []
        for idx, inputs in enumerate(self._data_loader):
            eta = datetime.timedelta(seconds=int((time.perf_counter() - start_time) / (idx + 1) * (total - idx - 1)))
            log_every_n_seconds(logging.INFO, f"Loss on Validation done {idx + 1}/{total}. ETA={eta}", n=5)
            losses.append(self._get_loss(inputs))
        mean_loss = np.mean(losses)
        self.trainer.storage.put_scalar("validation_loss", mean_loss)
        comm.synchronize()
        return losses

    def _get_loss(self, data):
        with torch.no_grad():
            metrics_dict = self._model(data)
        metrics_dict = {k: v.detach().cpu().item() for k, v in metrics_dict.items()}
        return sum(metrics_dict.values())

    def after_step(self):
        next_iter = self.trainer.iter + 1
        is_final = next_iter == self.trainer.max_iter
        if is_final or (self._period > 0 and next_iter % self._period == 0):
            self._do_loss_eval()
        self.trainer.storage.put_scalars(timetest=12)


class MyTrainer(DefaultTrainer):
    @classmethod
    def build_evaluator(cls, cfg, dataset_name, output_folder=None):
        return COCOEvaluator(dataset_name, cfg, True, output_folder)

    def build_hooks(self):
        hooks = super().build_hooks()
        loader = build_detection_test_loader(self.cfg, self.cfg.DATASETS.TEST[0], DatasetMapper(self.cfg, True))
        hooks.insert(-1, LossEvalHook(2, self.model, loader))
        return hooks


register()
cfg = small_cfg()
cfg.SOLVER.MAX_ITER = 4
trainer = MyTrainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()
values = trainer.storage.history("validation_loss").values()
report(
    iterations=[i for _, i in values],
    finite=all(np.isfinite(v) for v, _ in values),
    order=[type(h).__name__ for h in trainer._hooks][-2:],
)
