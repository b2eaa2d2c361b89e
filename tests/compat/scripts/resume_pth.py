"""A training that detectron2 began is continued: its checkpoint has momentum, schedule and iteration."""

import os
import sys

import torch
from detectron2.engine import DefaultTrainer
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from shapes import register, report, small_cfg


def make_checkpoint(cfg, form):
    """What is in the file, and its name in last_checkpoint, are detectron2's."""
    os.makedirs(cfg.OUTPUT_DIR)
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.full_like(p, 0.01)
    optimizer.step()
    scheduler = {"base_lrs": [cfg.SOLVER.BASE_LR], "last_epoch": 2}
    content = {"model": model.state_dict(), "iteration": 1}
    if form == "old":
        content.update(optimizer=optimizer.state_dict(), scheduler=scheduler)
    else:
        inner = {"iteration": 1, "optimizer": optimizer.state_dict()}
        content["trainer"] = {"iteration": 1, "hooks": {"LRScheduler": scheduler}, "_trainer": inner}
    torch.save(content, os.path.join(cfg.OUTPUT_DIR, "model_0000001.pth"))
    with open(os.path.join(cfg.OUTPUT_DIR, "last_checkpoint"), "w") as f:
        f.write("model_0000001.pth")
    return model, optimizer


def momentum(optimizer):
    p = optimizer.param_groups[0]["params"][0]
    return optimizer.state[p]["momentum_buffer"].flatten()[0].item() if p in optimizer.state else None


register()
form = sys.argv[1] if len(sys.argv) > 1 else "new"
cfg = small_cfg()
cfg.SOLVER.MAX_ITER = 4
cfg.SOLVER.STEPS = (2,)
cfg.DATASETS.TEST = ()
cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, form)
model, optimizer = make_checkpoint(cfg, form)
trainer = DefaultTrainer(cfg)
trainer.resume_or_load(resume=True)
same = all(torch.equal(v, model.state_dict()[k]) for k, v in trainer.model.state_dict().items())
found = {"start": trainer.start_iter, "weights": same, "momentum": momentum(trainer.optimizer) == momentum(optimizer)}
trainer.train()
values = [v for v, _ in trainer.storage.history("lr").values()]
report(found=found, trained=trainer.iter, decayed=all(abs(v - 0.0001) < 1e-12 for v in values), steps=len(values))
