"""Profiles of single iterations, to be looked at in a browser."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from drivetrain.engine.hook_base import HookBase
from drivetrain.runtime import comm

__all__ = ["AutogradProfiler", "TorchProfiler"]

logger = logging.getLogger(__name__)


class TorchProfiler(HookBase):
    """Profiles chosen iterations by ``torch.profiler``.

    The first iterations are not representative; profile later ones::

        TorchProfiler(lambda trainer: 10 <= trainer.iter < 12, cfg.OUTPUT_DIR)

    Traces go to ``<output_dir>/log``: for TensorBoard into folders ``profiler-tensorboard-iter<i>``, else as
    ``profiler-trace-iter<i>.json`` (``.rank<r>`` before the ending on rank r > 0). Both can be dropped into
    https://ui.perfetto.dev or ``chrome://tracing``.

    Args:
        enable_predicate: called with the trainer before each iteration; whether to profile it.
        output_dir: where traces go.
        activities: the ``torch.profiler.ProfilerActivity`` to record (default: all that the machine has).
        save_tensorboard: write for TensorBoard's profiler plugin rather than one file.
    """

    def __init__(
        self,
        enable_predicate: Callable[[Any], bool],
        output_dir: str,
        *,
        activities: Iterable[Any] | None = None,
        save_tensorboard: bool = True,
    ) -> None:
        self._enable_predicate = enable_predicate
        self._folder = Path(output_dir) / "log"
        self._activities = activities
        self._save_tensorboard = save_tensorboard
        self._profiler: torch.profiler.profile | None = None
        self._iteration = 0

    def before_step(self) -> None:
        """Start profiling if this iteration is chosen."""
        if self._enable_predicate(self.trainer):
            self._iteration = self.trainer.iter
            self._profiler = self._make()
            self._profiler.start()

    def after_step(self) -> None:
        """Stop profiling and write the trace."""
        if self._profiler is None:
            return
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        try:
            self._write(profiler)
        except Exception as error:
            # A full disk is no reason to end the training.
            logger.error("The profile of iteration %d is lost: %s", self._iteration, error)

    def after_train(self) -> None:
        """Stop the profiler of an iteration that failed."""
        if self._profiler is not None:
            profiler, self._profiler = self._profiler, None
            profiler.stop()

    def _make(self) -> torch.profiler.profile:
        return torch.profiler.profile(
            activities=self._activities, record_shapes=True, profile_memory=True, with_stack=True, with_flops=True
        )

    def _write(self, profiler: torch.profiler.profile) -> None:
        rank = comm.get_rank()
        if self._save_tensorboard:
            folder = self._folder / f"profiler-tensorboard-iter{self._iteration}"
            torch.profiler.tensorboard_trace_handler(str(folder), f"worker{rank}")(profiler)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        suffix = f".rank{rank}" if rank else ""
        profiler.export_chrome_trace(str(self._folder / f"profiler-trace-iter{self._iteration}{suffix}.json"))


class AutogradProfiler(TorchProfiler):
    """:class:`TorchProfiler` with the arguments older code uses; it writes one trace file for each iteration.

    Args:
        enable_predicate: called with the trainer before each iteration; whether to profile it.
        output_dir: traces go to its folder ``log``.
        use_cuda: also record what CUDA devices do.
    """

    def __init__(self, enable_predicate: Callable[[Any], bool], output_dir: str, *, use_cuda: bool = True) -> None:
        kinds = torch.profiler.ProfilerActivity
        activities = [kinds.CPU, *([kinds.CUDA] if use_cuda and torch.cuda.is_available() else [])]
        super().__init__(enable_predicate, output_dir, activities=activities, save_tensorboard=False)
