"""What the golden tests share: the losses of a training's first steps, and their comparison with stored ones.

Other processors round otherwise, and steps amplify it. Where the losses of a model jump, for which boxes its second
stage learns from hangs on the last bit of a score, its first steps are compared closely and the others loosely.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from drivetrain.engine.defaults import DefaultTrainer
from drivetrain.runtime.seeding import seed_all_rng

__all__ = ["CLOSE", "LOOSE", "STEPS", "Losses", "assert_comparison_can_fail", "compare", "first_losses", "updating"]

STEPS = 20
CLOSE, LOOSE = 2e-3, 0.4  # relative; a changed step is far beyond the first

Losses = list[dict[str, float]]
"""For each step the losses by their names."""


def updating() -> bool:
    """Whether the stored values are to be replaced."""
    return os.environ.get("GOLDEN") == "update"


def first_losses(cfg: Any) -> Losses:
    """Of each of the first steps, rounded to what is compared.

    Args:
        cfg: the config of a training; what is no part of a step, as evaluations and checkpoints, is left out.
    """
    seed_all_rng(cfg.SEED)
    trainer = DefaultTrainer(cfg, writers=[])
    trainer.max_iter = STEPS
    trainer._hooks = [hook for hook in trainer._hooks if type(hook).__name__ == "LRScheduler"]
    trainer.train()
    histories = {name: h.values() for name, h in trainer.storage.histories().items() if name.startswith("loss_")}
    return [{name: round(values[step][0], 6) for name, values in sorted(histories.items())} for step in range(STEPS)]


def compare(found: Losses, stored: Losses, close: int) -> None:
    """Fails where losses differ; ``close`` is the number of steps compared closely."""
    for step, (now, then) in enumerate(zip(found, stored, strict=True)):
        tolerance = CLOSE if step < close else LOOSE
        assert now == pytest.approx(then, rel=tolerance, abs=1e-5), f"step {step}"


def assert_comparison_can_fail(stored: Losses, close: int) -> None:
    """Stored losses of which one is changed differ, those that are not changed do not."""
    name = next(iter(stored[0]))
    for step, factor in [(0, 1.01), (close - 1, 1.01), (STEPS - 1, 2.0)]:
        changed = [dict(values) for values in stored]
        changed[step][name] *= factor
        with pytest.raises(AssertionError, match=f"step {step}"):
            compare(changed, stored, close)
    compare(stored, stored, close)
