"""Three ways in which hooks end a training early."""

import os

from detectron2.engine import DefaultTrainer, HookBase
from shapes import register, report, small_cfg


class StopByIteration(HookBase):
    def after_step(self):
        if self.trainer.iter >= 1:
            raise StopIteration("no progress")


class EarlyStopped(BaseException):
    pass


class StopByException(HookBase):
    def after_step(self):
        if self.trainer.iter >= 1:
            raise EarlyStopped("no progress")


class StopByLength(HookBase):
    def after_step(self):
        if self.trainer.iter >= 1:
            self.trainer.max_iter = self.trainer.iter + 1


class Seen(HookBase):
    ended = 0

    def after_train(self):
        Seen.ended += 1


register()
ends = {}
for hook in (StopByIteration(), StopByException(), StopByLength()):
    cfg = small_cfg()
    cfg.SOLVER.MAX_ITER = 50
    cfg.DATASETS.TEST = ()
    cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, type(hook).__name__)
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.register_hooks([hook, Seen()])
    try:
        trainer.train()
        how = "returned"
    except (StopIteration, EarlyStopped) as e:
        how = type(e).__name__
    final = os.path.exists(os.path.join(cfg.OUTPUT_DIR, "model_final.pth"))
    ends[type(hook).__name__] = [how, trainer.iter, final]
report(ends=ends, after_train=Seen.ended)
