"""The training loop: hooks, the loop that calls them, and the step for one model, one loader, one optimizer.

Everything a training does, in the order it does it::

    with EventStorage(start_iter) as storage:
        for hook in hooks: hook.before_train()
        while iter < max_iter:
            for hook in hooks: hook.before_step()
            run_step()                      # SimpleTrainer: fetch, forward, backward, after_backward hooks, step
            for hook in hooks: hook.after_step()
            iter += 1
        for hook in hooks: hook.after_train()
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import torch

from drivetrain import attach
from drivetrain.errors import TrainingError
from drivetrain.events.storage import EventStorage, innermost_storage

from .finite import FiniteGuard, NonFinitePolicy, Rewind
from .hook_base import HookBase, HookList
from .losses import LossRecorder, clear_gradients, mean_losses, sum_losses, world_size
from .precision import NOTHING, Precision, build_precision, device_of

if TYPE_CHECKING:
    from .bad_batch import BadBatchWriter

__all__ = ["HookBase", "SimpleTrainer", "TrainerBase"]

logger = logging.getLogger(__name__)


class TrainerBase:
    """A loop with hooks; it assumes nothing about model, data or optimizer.

    Attributes:
        iter: the current iteration, from 0; after the last one it equals ``max_iter``.
        start_iter: the first iteration of this training.
        max_iter: where training ends; may be assigned while training and counts from the next iteration on.
        storage: an :class:`EventStorage`, open while training and readable after it.
    """

    storage: EventStorage
    _hook_list = HookList()  # until one is registered: `_hooks` makes the trainer's own when first asked for
    _restored_events: Mapping[str, Any] | None = None  # of a checkpoint, until training opens its storage

    def __init__(self) -> None:
        self.iter = self.start_iter = self.max_iter = 0

    @property
    def _hooks(self) -> HookList:
        if "_hook_list" not in self.__dict__:
            self._hooks = []
        return self._hook_list

    @_hooks.setter
    def _hooks(self, hooks: Iterable[HookBase]) -> None:
        self._hook_list = HookList(hooks)

    def register_hooks(self, hooks: Sequence[HookBase | None]) -> None:
        """Append hooks, called in the order of registration; None is left out, what is no hook a TrainingError."""
        self._hooks.register(hooks, self)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run iterations ``start_iter`` to ``max_iter - 1``.

        Whatever ends it, each hook's ``after_train`` runs; an exception is logged and leaves unchanged.
        """
        logger.info("Starting training from iteration %d", start_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter, self._finished = max_iter, start_iter - 1
        if start_iter >= max_iter:
            logger.warning("No iteration is left: training would start at %d, max_iter is %d", start_iter, max_iter)
        error: BaseException | None = None
        with EventStorage(start_iter) as self.storage:
            try:
                if self._restored_events is not None:
                    self.storage.load_state_dict(self._restored_events)
                    self._restored_events = None
                self._hooks.bind(self)
                self.before_train()
                while self.iter < self.max_iter:
                    self.before_step()
                    self.run_step()
                    self.after_step()
                    self.iter += 1
                # A hook may have moved either number; finished means that they are equal.
                self.iter = self.max_iter = max(start_iter, min(self.iter, max(self.max_iter, self._finished + 1)))
            except BaseException as raised:
                error = raised
                if isinstance(raised, Exception):
                    logger.exception("Exception during training:")
                raise
            finally:
                # An error in it is logged, but the error that ended the training is the one to see.
                with suppress(Exception) if error else nullcontext():
                    self.after_train()

    def request_stop(self, reason: str, *, collective: bool = False) -> None:
        """End the training cleanly after the current iteration; ``collective`` says that every rank asks for it now."""
        if self.iter < self.max_iter:
            logger.info("Training stops after iteration %d: %s", self.iter, reason)
            self.max_iter = min(self.max_iter, self.iter + 1)

    def before_train(self) -> None:
        """Call the hooks' ``before_train``."""
        for call in self._hooks.before_train:
            call()

    def after_train(self) -> None:
        """Call every hook's ``after_train``; errors are logged, and the first one is raised after the last call."""
        self.storage.iter = self.iter
        self._hooks.finish()

    def before_step(self) -> None:
        """Call the hooks' ``before_step``."""
        self.storage.iter = self.iter
        for call in self._hook_list.before_step:
            call()

    def after_backward(self) -> None:
        """Call the hooks' ``after_backward``."""
        for call in self._hook_list.after_backward:
            call()

    def after_step(self) -> None:
        """Call the hooks' ``after_step``."""
        self._finished = self.iter
        for call in self._hook_list.after_step:
            call()

    def after_evaluation(self, results: Mapping[str, float]) -> None:
        """Tell the hooks an evaluation's result; the evaluation hook calls it."""
        for call in self._hooks.after_evaluation:
            call(dict(results))

    def run_step(self) -> None:
        """One iteration; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} has no run_step")

    def state_dict(self) -> dict[str, Any]:
        """``iteration`` (the last finished one, from 0; -1 before the first) and the hooks' states."""
        state: dict[str, Any] = {"iteration": self._finished_iteration()}
        if hooks := self._hooks.state_dict():
            state["hooks"] = hooks
        return state

    def _finished_iteration(self) -> int:
        return cast(int, self.__dict__.get("_finished", self.iter - 1))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave; a state without its hook, or a hook without state, is said."""
        self.iter = self._finished = int(state["iteration"])
        self._hooks.load_state_dict(state.get("hooks", {}))


class SimpleTrainer(TrainerBase):
    """One model, one loader, one optimizer: what most trainings are.

    Args:
        model: called as ``model(batch)``; returns a dict of scalar losses, or one scalar loss.
        data_loader: an iterable of batches.
        optimizer: a torch optimizer.
        gather_metric_period: record the losses of every so many iterations.
        zero_grad_before_forward: clear gradients before the forward instead of before the backward.
        async_write_metrics: accepted for older code; metrics never wait for the device here.
        accumulate: batches per iteration; gradients are those of their mean loss, DDP reduces them once.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"``, ``"auto"`` or a :class:`Precision`.
        clip_gradients: called with the optimizer when gradients are unscaled, before it steps.
        non_finite: ``"raise"``, ``"skip"`` or ``"rewind"``, see :class:`FiniteGuard`; the last one needs an
            attribute ``checkpointer``.
        channels_last, compile: how the model computes, see :func:`drivetrain.runtime.compute.prepare_model`.
        oom_retry: make a batch that runs out of memory again in parts, see :func:`drivetrain.engine.memory.recover`.
        metric_period: with several ranks or an accelerator, the iterations between two readings of the device.
        bad_batches: saves the batches of steps whose loss or gradient is not finite.
    """

    _stop_reason: str | None = None  # why this rank asks to end the training

    def __init__(
        self,
        model: torch.nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        async_write_metrics: bool = False,
        *,
        accumulate: int = 1,
        precision: str | Precision = "fp32",
        clip_gradients: Callable[[torch.optim.Optimizer], None] | None = None,
        non_finite: NonFinitePolicy = "raise",
        channels_last: bool = False,
        compile: bool | str | Mapping[str, Any] = False,
        oom_retry: bool = False,
        metric_period: int = 20,
        bad_batches: BadBatchWriter | None = None,
    ) -> None:
        super().__init__()
        if accumulate < 1:
            raise TrainingError(f"accumulate={accumulate} must be at least 1 batch per iteration")
        if channels_last or compile is not False:
            from drivetrain.runtime.compute import prepare_model

            prepare_model(model, channels_last=channels_last, compile=compile)
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.gather_metric_period = gather_metric_period
        self.zero_grad_before_forward = zero_grad_before_forward
        self.async_write_metrics = async_write_metrics
        self.accumulate = accumulate
        self.oom_retry = oom_retry
        self.clip_gradients = clip_gradients
        self.metric_period = metric_period
        self.bad_batches = bad_batches
        device = device_of(model)
        self._numerics = build_precision(precision, device)
        self._guard = FiniteGuard(non_finite, distributed=world_size() > 1, memory=metric_period, device=device)
        self._recorder = LossRecorder(self._guard, world_size())

    @cached_property
    def _data_loader_iter(self) -> Iterator[Any]:
        """The running iterator over the loader, made when first asked for; another one may be assigned."""
        return iter(self.data_loader)

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable[Any]]) -> None:
        """Replace the loader by what ``data_loader_builder()`` returns; the old one is freed first."""
        self.__dict__.pop("_data_loader_iter", None)
        self.data_loader = ()
        self.data_loader = data_loader_builder()

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run iterations ``start_iter`` to ``max_iter - 1``; see :meth:`TrainerBase.train`."""
        while True:
            try:
                return super().train(start_iter, max_iter)
            except Rewind as request:  # noqa: PERF203 - one for each rewind
                from .state import rewind

                start_iter, max_iter = rewind(self, request), self.max_iter

    def run_step(self) -> None:
        """Fetch, forward, backward and step: one iteration, which is one optimizer step.

        Raises:
            NonFiniteLossError: loss or gradient is not finite; weights and optimizer state are as before the step.
        """
        if not self.model.training:
            raise TrainingError(f"iteration {self.iter} found the model in evaluation mode: call model.train() first")
        if self.bad_batches is not None:
            self._guard.remember(self.iter, self.data_loader)
        if self._guard.policy == "skip":
            self._guard.keep_buffers(self.model)
        losses: dict[str, torch.Tensor] = {}
        data_time, finite = 0.0, True
        for index in range(self.accumulate):
            batch, waited = self.fetch()
            data_time += waited
            try:
                loss_dict, finite = self.micro_step(batch, finite, first=index == 0, last=index + 1 == self.accumulate)
            except torch.OutOfMemoryError as error:
                from .memory import recover

                loss_dict, finite = recover(self, batch, index, finite, error)
            losses = loss_dict if self.accumulate == 1 else mean_losses(losses, loss_dict, self.accumulate)
        if finite:
            self.after_backward()
            self._write_metrics(losses, data_time)
            try:
                finite = self.step() is not False
            except torch.OutOfMemoryError as error:
                from .memory import step_error

                raise step_error(self, batch, error) from error
        if not finite:
            self._guard.put_back_buffers()
            self.bad_step(1, self.iter, {name: value.item() for name, value in losses.items()}, batch)

    def micro_step(
        self, batch: Any, finite: bool = True, *, first: bool = True, last: bool = True, share: float = 1.0
    ) -> tuple[dict[str, torch.Tensor], bool]:
        """Forward and backward of a batch, or of this ``share`` of one: its losses, and whether all were finite so far.

        The ``first`` of an iteration clears the gradients; with the ``last`` one DDP reduces them.
        """
        with NOTHING if last else getattr(self.model, "no_sync", nullcontext)():
            if first and self.zero_grad_before_forward:
                clear_gradients(self.optimizer)
            losses = self.forward(batch)
            total = self.total_loss(losses) if share == 1 else self.total_loss(losses) * share
            if first and not self.zero_grad_before_forward:
                clear_gradients(self.optimizer)
            seed, known = self._guard.judge(total, self.iter)
            if finite := finite and known:
                self.backward(total, seed)
        return losses, finite

    def fetch(self) -> tuple[Any, float]:
        """The next batch, and the seconds spent waiting for it."""
        start = perf_counter()
        batch = next(self._data_loader_iter)
        return batch, perf_counter() - start

    def forward(self, batch: Any) -> dict[str, torch.Tensor]:
        """The model's scalar losses by name; a model that returns one tensor has ``total_loss`` alone."""
        with self._numerics.context():
            losses = self.model(batch)
        return {"total_loss": losses} if isinstance(losses, torch.Tensor) else losses

    def total_loss(self, losses: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The scalar to minimise: the sum of all losses."""
        return sum_losses(losses, self.iter)

    def backward(self, total: torch.Tensor, seed: torch.Tensor | None = None) -> None:
        """Add the gradients of one batch's loss, divided by the number of batches per iteration."""
        self._numerics.backward(total if self.accumulate == 1 else total / self.accumulate, seed)

    def step(self) -> bool:
        """Update the weights from the gradients; False when a gradient was found not to be finite."""
        if not self._numerics.scales_gradients:
            return self._guard.step(self.optimizer, self.iter, self.clip_gradients)
        if self.clip_gradients is not None:
            self._numerics.unscale(self.optimizer)
            self.clip_gradients(self.optimizer)
        self._numerics.step(self.optimizer)
        return True

    def bad_step(self, count: int, iteration: int, losses: Mapping[str, float], batch: Any = None) -> None:
        """Save the batch of a step that was kept from the weights, then do as ``non_finite`` says."""
        saved = "" if self.bad_batches is None else self.bad_batches.save(self, iteration, losses, batch)
        self._guard.refuse(count, iteration, losses, saved)

    def after_step(self) -> None:
        """Once per ``metric_period``, learn what happened on devices and other ranks; then call the hooks."""
        self.read_device()
        super().after_step()

    def read_device(self, now: bool = False) -> None:
        """At a period's end, or now, exchange metrics, requests to stop and bad losses with devices and other ranks."""
        done = self.iter + 1
        if not (self._recorder.pending and (now or done % self.metric_period == 0 or done >= self.max_iter)):
            return
        stop, bad = self._recorder.read_device(self.storage, self.iter, self._stop_reason is not None)
        if bad is not None:
            self.bad_step(*bad)
        if stop:
            super().request_stop(self._stop_reason or "another rank asked for it")

    def request_stop(self, reason: str, *, collective: bool = False) -> None:
        """End the training cleanly on all ranks; with several, and not ``collective``, at the next metric exchange."""
        if collective or world_size() == 1:
            super().request_stop(reason)
        elif self._stop_reason is None:
            logger.info("Rank asks to stop: %s", reason)
            self._stop_reason = reason

    @property
    def concurrent_executor(self) -> ThreadPoolExecutor:
        """A single worker thread, for ``run_step`` overrides that write metrics from a thread."""
        return self._recorder.executor

    def _write_metrics(
        self, loss_dict: Mapping[str, torch.Tensor], data_time: float, prefix: str = "", iter: int | None = None
    ) -> None:
        """Record an iteration's losses, ``total_loss`` and waiting time (s); see :meth:`LossRecorder.write`."""
        iteration = self.iter if iter is None else iter
        if (iteration + 1) % self.gather_metric_period == 0:
            losses = {prefix + name: value for name, value in loss_dict.items()} if prefix else loss_dict
            # A thread, or a trainer that another one drives, sees only one of the two.
            self._recorder.write(innermost_storage() or self.storage, iteration, losses, data_time)

    def state_dict(self) -> dict[str, Any]:
        """The loop's state with that of optimizer, precision, data position, random generators and events."""
        from .state import capture

        return {**super().state_dict(), **capture(self)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        from .state import restore

        restore(self, state)
        super().load_state_dict(state)  # last: hooks act on what is restored, schedules on the rates


# AMPTrainer under the path older code imports it from; its own file depends on this one.
__getattr__ = attach("drivetrain.engine", {"AMPTrainer": "amp"})[0]
