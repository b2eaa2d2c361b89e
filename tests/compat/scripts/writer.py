"""An event writer for a tracking service, here a list."""

import detectron2
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.utils.events import EventWriter, get_event_storage
from shapes import register, report, small_cfg

RUN = []


class ServiceWriter(EventWriter):
    def __init__(self, cfg, window_size=2):
        self._window_size = window_size
        self._last_write = -1
        self.config = self._flat(cfg)

    def _flat(self, node, prefix=""):
        flat = {}
        for k, v in node.items():
            if type(v) == CfgNode:  # noqa: E721
                flat.update(self._flat(v, prefix + k + "."))
            else:
                flat[prefix + k] = v
        return flat

    def write(self):
        storage = get_event_storage()
        new_last_write = self._last_write
        stats = {}
        for k, (v, iter) in storage.latest_with_smoothing_hint(self._window_size).items():
            if iter > self._last_write:
                stats[k] = v
                new_last_write = max(new_last_write, iter)
        self._last_write = new_last_write
        RUN.append((storage.iter, stats))

    def close(self):
        RUN.append("closed")


class Trainer(DefaultTrainer):
    def build_writers(self):
        self.service = ServiceWriter(self.cfg)
        return super().build_writers() + [self.service]  # noqa: RUF005


register()
cfg = small_cfg()
cfg.WANDB = CfgNode()
cfg.WANDB.PROJECT = "shapes"
cfg.DATASETS.TEST = ()
trainer = Trainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()
report(
    writes=len(RUN),
    last=RUN[-1],
    names=sorted(name for _, stats in RUN[:-1] for name in stats),
    project=trainer.service.config["WANDB.PROJECT"],
    rate=trainer.service.config["SOLVER.BASE_LR"],
    is_dict=isinstance(trainer.cfg, dict),
    storage=isinstance(trainer.storage, detectron2.utils.events.EventStorage),
    version=detectron2.__version__,
)
