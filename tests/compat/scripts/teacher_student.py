"""Two models in one trainer, built without DefaultTrainer's constructor: the teacher follows the student."""

import weakref
from collections import OrderedDict

import detectron2.utils.comm as comm
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import DefaultTrainer, SimpleTrainer, TrainerBase, hooks
from detectron2.engine.train_loop import AMPTrainer
from shapes import register, report, small_cfg
from torch import nn


class EnsembleModel(nn.Module):
    def __init__(self, teacher, student):
        super().__init__()
        self.modelTeacher = teacher
        self.modelStudent = student


class TeacherTrainer(DefaultTrainer):
    def __init__(self, cfg):
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        data_loader = self.build_train_loader(cfg)
        student = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, student)
        self.model_teacher = self.build_model(cfg)
        TrainerBase.__init__(self)
        self._trainer = (AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer)(student, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = DetectionCheckpointer(
            EnsembleModel(self.model_teacher, student),
            cfg.OUTPUT_DIR,
            optimizer=optimizer,
            scheduler=self.scheduler,
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def train(self):
        super().train()

    @torch.no_grad()
    def _update_teacher_model(self, keep_rate=0.5):
        student = self.model.state_dict()
        new = OrderedDict()
        for key, value in self.model_teacher.state_dict().items():
            new[key] = student[key] * (1 - keep_rate) + value * keep_rate if value.is_floating_point() else value
        self.model_teacher.load_state_dict(new)

    def run_step(self):
        self._trainer.iter = self.iter
        self._trainer.run_step()
        if self.iter == 0:
            self.model_teacher.load_state_dict(self.model.state_dict())
        else:
            self._update_teacher_model()

    def build_hooks(self):
        cfg = self.cfg
        ret = [hooks.IterationTimer(), hooks.LRScheduler(self.optimizer, self.scheduler)]
        if comm.is_main_process():
            ret.append(hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD))
            ret.append(hooks.PeriodicWriter(self.build_writers(), period=2))
        return ret


register()
cfg = small_cfg()
cfg.DATASETS.TEST = ()
trainer = TeacherTrainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()
student, teacher = (list(m.parameters())[-1].detach() for m in (trainer.model, trainer.model_teacher))
saved = torch.load(trainer.checkpointer.get_checkpoint_file(), weights_only=True)
weakref.ref(trainer)
report(
    iteration=trainer.iter,
    differ=bool((student != teacher).any()),
    prefixes=sorted({name.split(".")[0] for name in saved["model"]}),
    losses=len(trainer.storage.history("total_loss").values()),
)
