"""Memory of CUDA devices in the log."""

from __future__ import annotations

import logging

import torch

from drivetrain.engine.hook_base import HookBase
from drivetrain.errors import TrainingError

__all__ = ["TorchMemoryStats"]

logger = logging.getLogger(__name__)


class TorchMemoryStats(HookBase):
    """Logs what PyTorch's CUDA allocator holds, every ``period`` iterations; nothing without CUDA.

    Peaks are those since the line before: the counters are reset after each. The last line is followed by PyTorch's
    full summary.

    Args:
        period: iterations between two lines.
        max_runs: this many lines and no more.
    """

    def __init__(self, period: int = 20, max_runs: int = 10) -> None:
        if period < 1:
            raise TrainingError(f"the period of TorchMemoryStats is {period}: it has to be at least 1 iteration")
        self._period = period
        self._max_runs = max_runs
        self._runs = 0

    def after_step(self) -> None:
        """Log when the period is over or this is the last iteration."""
        done = self.trainer.iter + 1
        if self._runs >= self._max_runs or (done % self._period and done < self.trainer.max_iter):
            return
        if not torch.cuda.is_available():
            return
        sizes = {
            "max_reserved_mem": torch.cuda.max_memory_reserved(),
            "max_allocated_mem": torch.cuda.max_memory_allocated(),
            "reserved_mem": torch.cuda.memory_reserved(),
            "allocated_mem": torch.cuda.memory_allocated(),
        }
        shown = "  ".join(f"{name}: {size / 2**20:.0f}MB" for name, size in sizes.items())
        logger.info("iter: %d  %s", self.trainer.iter, shown)
        self._runs += 1
        if self._runs == self._max_runs:
            logger.info("\n%s", torch.cuda.memory_summary())
        torch.cuda.reset_peak_memory_stats()
