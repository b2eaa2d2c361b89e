"""DefaultTrainer: SimpleTrainer with everything built from a config, or handed over instead."""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from drivetrain.checkpoint import DetectionCheckpointer, unwrap_model
from drivetrain.checkpoint.foreign import DetectionCheckpointer as ForeignCheckpointer
from drivetrain.config import CfgNode
from drivetrain.data.catalog import DatasetCatalog
from drivetrain.engine import hooks
from drivetrain.engine.bad_batch import BadBatchWriter
from drivetrain.engine.precision import device_of
from drivetrain.engine.state import capture, prepare_if_due, restore
from drivetrain.engine.train_loop import HookBase, SimpleTrainer, TrainerBase
from drivetrain.errors import ConfigError
from drivetrain.evaluation import DatasetEvaluator, verify_results
from drivetrain.modeling.build import has_meta_architecture
from drivetrain.runtime import comm
from drivetrain.runtime.logging import setup_logger

from .checks import check_classes, check_pairs
from .config import resolve_lengths
from .data import FromStart, as_names, class_names, register_datasets, resolve_config, samples_of
from .delegation import Delegated, OwnStep
from .evaluation import evaluate_all
from .parts import Parts, precision_name
from .rehearsal import rehearse
from .setup import create_ddp_model, default_writers
from .starting import Starting
from .targets import check_targets, check_test_sets, with_targets

if TYPE_CHECKING:
    from drivetrain.events.writers import EventWriter

__all__ = ["DefaultTrainer"]

logger = logging.getLogger(__name__)


class _Constructible(SimpleTrainer):
    """SimpleTrainer that may also be constructed without arguments, by subclasses that set ``_trainer`` themselves."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args or kwargs:
            super().__init__(*args, **kwargs)
        else:
            TrainerBase.__init__(self)


class DefaultTrainer(Starting, Parts, _Constructible):
    """A training built from a config: model, optimizer, schedule, loaders, checkpoints, evaluation, hooks, writers.

    Each part can be changed by a config key, by overriding its ``build_*`` method, or by giving the object itself.

    Args:
        cfg: the config; a frozen one is fine, it is copied.
        model: a model that keeps the model contract, on its device.
        optimizer: an optimizer over the model's parameters.
        scheduler: a torch scheduler, stepped once an iteration.
        train_loader: an iterable of batches.
        test_loaders: used instead of ``build_test_loader``, one for each evaluator or dataset.
        evaluators: used instead of ``build_evaluator``; with ``test_loaders`` no dataset need be registered.
        hooks: appended to the default hooks, before the writer.
        writers: used instead of ``build_writers()``.

    Attributes:
        cfg, model, optimizer, data_loader, scheduler, checkpointer, start_iter, max_iter, storage: the parts.
        restored_parts: what the last resume restored beside the model, by the checkpoint's keys.
        _trainer: what makes the step: this object, until another SimpleTrainer is assigned.

    Raises:
        UserInputError: the config, a dataset, the model or the output folder is wrong; the message says how.

    Example::

        trainer = DefaultTrainer(cfg)
        trainer.resume_or_load()  # the last checkpoint, or MODEL.WEIGHTS
        results = trainer.train()
    """

    model = Delegated[torch.nn.Module]("model")
    optimizer = Delegated[torch.optim.Optimizer]("optimizer")
    data_loader = Delegated[Iterable[Any]]("data_loader")

    # Defaults for subclasses that do not call __init__.
    _step_trainer: SimpleTrainer | None = None
    _given_hooks: Sequence[HookBase] = ()
    _given_writers: Sequence[EventWriter] | None = None
    _evaluators: Sequence[DatasetEvaluator] | None = None
    _test_loaders: Sequence[Iterable[Any]] | None = None
    _last_eval_results: Any = None
    bad_batches: BadBatchWriter | None = None

    @DatasetCatalog.kept()
    def __init__(
        self,
        cfg: CfgNode,
        *,
        model: torch.nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: Any = None,
        train_loader: Iterable[Any] | None = None,
        test_loaders: Sequence[Iterable[Any]] | None = None,
        evaluators: Sequence[DatasetEvaluator] | None = None,
        hooks: Sequence[HookBase] = (),
        writers: Sequence[EventWriter] | None = None,
    ) -> None:
        if not logging.getLogger("drivetrain").isEnabledFor(logging.INFO):
            setup_logger(distributed_rank=comm.get_rank())
        needed = ["TRAIN"] if train_loader is None and self._keeps("build_train_loader") else []
        if (test_loaders is None or evaluators is None) and self._keeps("test", "build_test_loader", "build_evaluator"):
            needed.append("TEST")
        cfg = with_targets(self.auto_scale_workers(resolve_config(cfg, needed), comm.get_world_size()))
        check_pairs(cfg, test_loaders, evaluators)
        if model is None and self._keeps("build_model"):
            if "TRAIN" in needed:
                check_targets(cfg)
            if "TEST" in needed:
                check_test_sets(cfg)
        if model is None:
            model = self.build_model(cfg)
            if "TRAIN" in needed and self._keeps("build_model"):
                check_classes(cfg)
        train_loader = self.build_train_loader(cfg) if train_loader is None else train_loader
        cfg = resolve_lengths(cfg, samples_of(train_loader))
        cfg.freeze()
        optimizer = self.build_optimizer(cfg, model) if optimizer is None else optimizer
        super().__init__(
            create_ddp_model(model, broadcast_buffers=False),
            train_loader,
            optimizer,
            accumulate=cfg.SOLVER.ACCUMULATE,
            precision=precision_name(cfg, model),
            non_finite=cfg.SOLVER.NON_FINITE,
            oom_retry=cfg.SOLVER.OOM_RETRY,
            bad_batches=BadBatchWriter(cfg.OUTPUT_DIR, config=cfg.dump()),
        )
        self.cfg = cfg
        self.scheduler = self.build_lr_scheduler(cfg, optimizer) if scheduler is None else scheduler
        checkpointer = ForeignCheckpointer if has_meta_architecture(cfg) else DetectionCheckpointer
        self.checkpointer = checkpointer(
            model,
            cfg.OUTPUT_DIR,
            class_names=class_names(cfg),
            channel_order=cfg.INPUT.FORMAT,
            config=cfg.dump(),
            trainer=weakref.proxy(self),
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self._given_hooks = tuple(hooks)
        self._given_writers = writers
        self._evaluators = evaluators
        self._test_loaders = test_loaders
        self.register_hooks(self.build_hooks())

    @classmethod
    def _keeps(cls, *names: str) -> bool:
        """Whether a subclass overrides none of these methods."""
        return all(inspect.getattr_static(cls, n) is inspect.getattr_static(DefaultTrainer, n) for n in names)

    # The step

    @property
    def _trainer(self) -> SimpleTrainer:
        return self._step_trainer or OwnStep(self)

    @_trainer.setter
    def _trainer(self, trainer: SimpleTrainer) -> None:
        self._step_trainer = None if trainer is self or isinstance(trainer, OwnStep) else trainer

    def run_step(self) -> None:
        """One iteration, by this trainer or by the one assigned to ``_trainer``."""
        inner = self._step_trainer
        if inner is None:
            super().run_step()
            return
        inner.iter, inner.max_iter, inner.storage = self.iter, self.max_iter, self.storage
        inner.__dict__["_hook_list"] = self._hooks  # so that after_backward reaches this trainer's hooks
        inner.run_step()

    def read_device(self, now: bool = False) -> None:
        """Exchange with devices and other ranks, by whatever makes the step."""
        inner = self._step_trainer
        if inner is None:
            super().read_device(now)
        elif "_recorder" in inner.__dict__:
            # Overrides of run_step may not have told it.
            inner.iter, inner.max_iter, inner.storage = self.iter, self.max_iter, self.storage
            inner._stop_reason = self._stop_reason
            inner.read_device(now)
            self.max_iter = inner.max_iter

    # Training

    def train(self) -> Any:  # type: ignore[override]
        """Train from ``start_iter`` to ``max_iter``.

        Returns:
            The last evaluation's results: a nested dict, by dataset when there are several; empty or None without any.
        """
        self._check_evaluation()
        if self._step_trainer is not None and self._step_trainer.bad_batches is None:
            self._step_trainer.bad_batches = self.bad_batches
        if self.cfg.get("REHEARSE", False) and self.start_iter < self.max_iter:
            rehearse(self)
        super().train(self.start_iter, self.max_iter)
        if self.cfg.TEST.EXPECTED_RESULTS and comm.is_main_process():
            verify_results(self.cfg, self._last_eval_results or {})
        return self._last_eval_results

    def _check_evaluation(self) -> None:
        """Find out before iteration 0 that an evaluation could not run."""
        evaluated = any(isinstance(hook, hooks.EvalHook) for hook in self._hooks)
        names = as_names(self.cfg.DATASETS.TEST)
        if self.cfg.TEST.EXPECTED_RESULTS and self._keeps("test") and not (evaluated and (names or self._evaluators)):
            raise ConfigError("TEST.EXPECTED_RESULTS is set, but nothing is evaluated: set DATASETS.TEST")
        if self._evaluators is None and evaluated and self._keeps("test"):
            for name in names:
                evaluator = self.build_evaluator(self.cfg, name)
                if callable(check := getattr(evaluator, "check", None)):
                    check()

    # Evaluation

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: torch.nn.Module,
        evaluators: Sequence[DatasetEvaluator] | DatasetEvaluator | None = None,
    ) -> Any:
        """Evaluate a model on ``DATASETS.TEST``.

        Args:
            cfg: the config.
            model: the model to evaluate.
            evaluators: one for each dataset (default: from ``build_evaluator``).

        Returns:
            The results by task (``{"bbox": {"AP": ...}}``); by dataset and task with several datasets. Empty on
            ranks other than 0.
        """
        register_datasets(cfg)
        names = as_names(cfg.DATASETS.TEST)
        given = [evaluators] if isinstance(evaluators, DatasetEvaluator) else evaluators
        if given is not None and len(given) != len(names):
            raise ConfigError(f"{len(given)} evaluators were given for {len(names)} datasets in DATASETS.TEST")
        pairs = (
            (name, cls.build_test_loader(cfg, name), given[i] if given else cls.build_evaluator(cfg, name))
            for i, name in enumerate(names)
        )
        return evaluate_all(model, pairs)

    def _evaluate(self) -> Any:
        model = unwrap_model(self.model)
        cfg, loaders, evaluators = self.cfg, self._test_loaders, self._evaluators
        with self._weights_for_evaluation():
            if loaders is None and evaluators is None:
                results = self.test(cfg, model)
            else:
                names = as_names(cfg.DATASETS.TEST)
                loaders = [self.build_test_loader(cfg, name) for name in names] if loaders is None else loaders
                names = names if len(names) == len(loaders) else tuple(f"test{i}" for i in range(len(loaders)))
                evaluators = [self.build_evaluator(cfg, n) for n in names] if evaluators is None else evaluators
                results = evaluate_all(model, zip(names, loaders, evaluators, strict=True))
        self._last_eval_results = results
        return results

    def _weights_for_evaluation(self) -> Any:
        """The averaged weights, where there are some."""
        return hooks.EMA.applied_in(self._hooks)

    # Parts, to be overridden

    def build_hooks(self) -> list[HookBase | None]:
        """The default hooks: timing, learning rate, precise BN, checkpoints, evaluation, and the writer last."""
        cfg = self.cfg
        precise_bn = cfg.TEST.PRECISE_BN
        result: list[HookBase | None] = [
            hooks.IterationTimer(),
            hooks.LRScheduler(metric=cfg.SOLVER.PLATEAU.METRIC or None),
            hooks.EMA(cfg.SOLVER.EMA.DECAY) if cfg.SOLVER.EMA.ENABLED else None,
            self._precise_bn() if precise_bn.ENABLED and hooks.PreciseBN.applies_to(self.model) else None,
        ]
        period = cfg.SOLVER.CHECKPOINT_PERIOD
        if comm.get_world_size() > 1 or device_of(self.model).type != "cpu":
            result.append(hooks.CallbackHook(after_step=partial(prepare_if_due, period=period)))
        if comm.is_main_process():
            keep = cfg.SOLVER.CHECKPOINT_KEEP or None
            result.append(hooks.PeriodicCheckpointer(self.checkpointer, period, max_to_keep=keep))
        trainer = weakref.proxy(self)  # a hook that held its trainer would keep it, and its loader's workers, alive
        result.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, lambda: trainer._evaluate()))  # noqa: PLW0108
        if cfg.SOLVER.BEST_METRIC and comm.is_main_process():
            result.append(hooks.BestCheckpointer(cfg.TEST.EVAL_PERIOD, self.checkpointer, cfg.SOLVER.BEST_METRIC))
        if cfg.VIS_PERIOD > 0:
            shown = {"class_names": class_names(cfg), "input_format": cfg.INPUT.FORMAT}
            result.append(hooks.SamplePredictions(cfg.VIS_PERIOD, **shown))
        if cfg.WATCHDOG:
            automatic = cfg.WATCHDOG == "auto"
            result.append(hooks.Watchdog(None if automatic else cfg.WATCHDOG, abort=not automatic))
        result += self._given_hooks
        if comm.is_main_process():
            writers = self.build_writers() if self._given_writers is None else self._given_writers
            result.append(hooks.PeriodicWriter(list(writers), period=20))
        return result

    def _precise_bn(self) -> HookBase:
        """PreciseBN, with a loader of its own: it must not take batches away from the training."""
        cfg = self.cfg
        loader = FromStart(self.build_train_loader(cfg), self.data_loader)
        return hooks.PreciseBN(cfg.TEST.EVAL_PERIOD, self.model, loader, cfg.TEST.PRECISE_BN.NUM_ITER)

    def build_writers(self) -> list[EventWriter]:
        """Console, ``metrics.json`` and TensorBoard."""
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    # State

    def state_dict(self) -> dict[str, Any]:
        """The loop's and the hooks' state, and under ``_trainer`` that of whatever makes the step."""
        inner = self._step_trainer
        step = capture(self) if inner is None else inner.state_dict()
        step.pop("hooks", None)  # they are this trainer's
        return {**TrainerBase.state_dict(self), "_trainer": {**step, "iteration": self._finished_iteration()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        step = {key: value for key, value in state["_trainer"].items() if key != "hooks"}
        if self._step_trainer is None:
            restore(self, step)
        else:
            self._step_trainer.load_state_dict(step)
            self._restored_events = self._step_trainer._restored_events
        TrainerBase.load_state_dict(self, state)  # last: hooks act on what is restored, schedules on the rates
        self.restored_parts = (*state["_trainer"], *(f"hook {key}" for key in state.get("hooks", {})))
