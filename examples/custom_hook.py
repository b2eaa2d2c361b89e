"""Two hooks of one's own: one records the norm of the gradients, one ends the training when its time is up.

    python examples/custom_hook.py --seconds 30 --output output/custom_hook

Each is a class with the methods of those points of the loop where it has something to do; the trainer calls nothing
else. The second has a state, which every checkpoint holds, so that a resumed training counts on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

import torch

from drivetrain import CfgNode, DefaultTrainer, HookBase, get_cfg
from drivetrain.data.formats.synthetic import make_synthetic
from drivetrain.engine import default_setup
from drivetrain.engine.defaults.quickstart import quickstart


class GradientNorm(HookBase):
    """Records the norm of all gradients as ``grad_norm``, before they are clipped (and, in fp16, unscaled)."""

    def after_backward(self) -> None:
        """Put the norm; nothing here waits for the device."""
        grads = [p.grad for p in self.trainer.model.parameters() if p.grad is not None]
        self.trainer.storage.put_scalar("grad_norm", torch.nn.utils.get_total_norm(grads))


class TimeBudget(HookBase):
    """Ends the training cleanly, with its last checkpoint and evaluation, when it has taken so many seconds.

    Args:
        seconds: the budget, over all resumes together.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.used = 0.0
        self._last = 0.0

    def before_train(self) -> None:
        """Start the clock."""
        self._last = time.monotonic()

    def after_step(self) -> None:
        """Take the time, and ask for the end when it is up."""
        now = time.monotonic()
        self.used += now - self._last
        self._last = now
        if self.used >= self.seconds:
            self.trainer.request_stop(f"its {self.seconds:g} seconds are over")

    def state_dict(self) -> dict[str, Any]:
        """The seconds used so far."""
        return {"used": self.used}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting from there."""
        self.used = float(state["used"])


def config(output: str, images: int, max_iter: int) -> CfgNode:
    """A config for a drawn dataset in ``output``."""
    data = make_synthetic(f"{output}/data", train=images, val=max(1, images // 10))
    cfg = get_cfg()
    quickstart(cfg, "fcos_tiny", max_iter)
    cfg.OUTPUT_DIR = output
    cfg.DATASETS.REGISTER = {
        "hook_train": {"json": data.train_json, "images": data.train_images},
        "hook_val": {"json": data.val_json, "images": data.val_images},
    }
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("hook_train",), ("hook_val",)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (128,), 128
    cfg.SEED = 0
    return cfg


def main(args: argparse.Namespace) -> DefaultTrainer:
    """Train with both hooks; they are called after the default ones and before the writers."""
    cfg = config(args.output, args.images, args.max_iter)
    default_setup(cfg, args)
    trainer = DefaultTrainer(cfg, hooks=[GradientNorm(), TimeBudget(args.seconds)])
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    return trainer


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    result = argparse.ArgumentParser(description="Train with two hooks of one's own.")
    result.add_argument("--seconds", type=float, default=30, help="how long to train (%(default)s)")
    result.add_argument("--max-iter", type=int, default=3000, help="iterations at most (%(default)s)")
    result.add_argument("--images", type=int, default=500, help="images to draw (%(default)s)")
    result.add_argument("--output", default="output/custom_hook", help="where everything goes (%(default)s)")
    result.add_argument("--resume", action="store_true", help="continue the training in --output")
    return result


if __name__ == "__main__":
    main(parser().parse_args())
