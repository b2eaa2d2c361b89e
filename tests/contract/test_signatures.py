"""Names, arguments and defaults of the engine's contract, as code written for detectron2 calls them."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any

import pytest

from drivetrain import engine, events
from drivetrain.engine import defaults, hooks, train_loop

HALF_AN_HOUR = timedelta(minutes=30)
P = inspect.Parameter

# Arguments that may be given by position, in this order, and those by name alone (after "*"); there may be more, with
# defaults.
CONTRACT: dict[Any, str] = {
    engine.TrainerBase: "",
    engine.TrainerBase.register_hooks: "self, hooks",
    engine.TrainerBase.train: "self, start_iter, max_iter",
    engine.TrainerBase.request_stop: "self, reason",
    engine.TrainerBase.load_state_dict: "self, state",
    engine.SimpleTrainer: "model, data_loader, optimizer, gather_metric_period=1, zero_grad_before_forward=False, "
    "async_write_metrics=False",
    engine.SimpleTrainer._write_metrics: "self, loss_dict, data_time, prefix='', iter=None",
    engine.SimpleTrainer.reset_data_loader: "self, data_loader_builder",
    engine.AMPTrainer: "model, data_loader, optimizer, gather_metric_period=1, zero_grad_before_forward=False, "
    "grad_scaler=None, precision=torch.float16, log_grad_scaler=False, async_write_metrics=False",
    engine.launch: "main_func, num_gpus_per_machine, num_machines=1, machine_rank=0, dist_url=None, args=(), "
    "timeout=datetime.timedelta(seconds=1800), *, max_restarts=0",
    engine.default_argument_parser: "epilog=None",
    engine.default_setup: "cfg, args",
    engine.default_writers: "output_dir, max_iter=None",
    engine.create_ddp_model: "model, *, fp16_compression=False",
    engine.DefaultTrainer: "cfg",
    engine.DefaultTrainer.resume_or_load: "self, resume=True",
    engine.DefaultTrainer.train: "self",
    engine.DefaultTrainer.run_step: "self",
    engine.DefaultTrainer.build_hooks: "self",
    engine.DefaultTrainer.build_writers: "self",
    engine.DefaultTrainer.build_model: "cfg",
    engine.DefaultTrainer.build_optimizer: "cfg, model",
    engine.DefaultTrainer.build_lr_scheduler: "cfg, optimizer",
    engine.DefaultTrainer.build_train_loader: "cfg",
    engine.DefaultTrainer.build_test_loader: "cfg, dataset_name",
    engine.DefaultTrainer.build_evaluator: "cfg, dataset_name",
    engine.DefaultTrainer.test: "cfg, model, evaluators=None",
    engine.DefaultTrainer.auto_scale_workers: "cfg, num_workers",
    engine.DefaultPredictor: "cfg",
    hooks.CallbackHook: "*, before_train=None, after_train=None, before_step=None, after_step=None",
    hooks.IterationTimer: "warmup_iter=3",
    hooks.PeriodicWriter: "writers, period=20",
    hooks.PeriodicCheckpointer: "checkpointer, period, max_iter=None, max_to_keep=None, file_prefix='model'",
    hooks.BestCheckpointer: "eval_period, checkpointer, val_metric, mode='max', file_prefix='model_best'",
    hooks.LRScheduler: "optimizer=None, scheduler=None",
    hooks.AutogradProfiler: "enable_predicate, output_dir, *, use_cuda=True",
    hooks.TorchProfiler: "enable_predicate, output_dir, *, activities=None, save_tensorboard=True",
    hooks.EvalHook: "eval_period, eval_function, eval_after_train=True",
    hooks.PreciseBN: "period, model, data_loader, num_iter",
    hooks.PreciseBN.update_stats: "self",
    hooks.TorchMemoryStats: "period=20, max_runs=10",
    hooks.EarlyStopping: "metric, patience, min_delta=0.0, mode='max'",
    hooks.EMA: "decay=0.9998",
    hooks.ValidationLoss: "loader, period",
    hooks.Watchdog: "timeout",
    hooks.PreemptionCheckpointer: "checkpointer, time_limit=None",
    hooks.SamplePredictions: "period, inputs=None",
    events.EventStorage: "start_iter=0",
    events.EventStorage.put_scalar: "self, name, value, smoothing_hint=True, cur_iter=None",
    events.EventStorage.put_scalars: "self, *, smoothing_hint=True, cur_iter=None",
    events.EventStorage.put_image: "self, img_name, img_tensor",
    events.EventStorage.put_histogram: "self, hist_name, hist_tensor, bins=1000",
    events.EventStorage.history: "self, name",
    events.EventStorage.histories: "self",
    events.EventStorage.latest: "self",
    events.EventStorage.latest_with_smoothing_hint: "self, window_size=20",
    events.EventStorage.count_samples: "self, name, window_size=20",
    events.EventStorage.smoothing_hints: "self",
    events.EventStorage.step: "self",
    events.EventStorage.name_scope: "self, name",
    events.EventStorage.clear_images: "self",
    events.EventStorage.clear_histograms: "self",
    events.ScalarHistory.latest: "self",
    events.ScalarHistory.median: "self, window_size",
    events.ScalarHistory.avg: "self, window_size",
    events.ScalarHistory.global_avg: "self",
    events.ScalarHistory.values: "self",
    events.EventWriter.write: "self",
    events.EventWriter.close: "self",
    events.CommonMetricPrinter: "max_iter=None, window_size=20",
    events.JSONWriter: "json_file, window_size=20",
    events.TensorboardXWriter: "log_dir, window_size=20",
    **{getattr(engine.HookBase, point): "self" for point in ("before_train", "after_train", "before_step")},
    **{getattr(engine.HookBase, point): "self" for point in ("after_backward", "after_step", "state_dict")},
    engine.HookBase.load_state_dict: "self, state",
}


def shown(parameter: P) -> str:
    return str(parameter.replace(annotation=P.empty)).replace(" ", "")


@pytest.mark.parametrize("symbol", CONTRACT, ids=lambda symbol: symbol.__qualname__)
def test_arguments(symbol: Any) -> None:
    listed, _, by_name = (part.strip(", ") for part in CONTRACT[symbol].partition("*"))
    parameters = list(inspect.signature(symbol).parameters.values())
    positional = [shown(p) for p in parameters if p.kind is P.POSITIONAL_OR_KEYWORD]
    expected = [part.replace(" ", "") for part in listed.split(", ") if part]
    keyword = {shown(p) for p in parameters if p.kind is P.KEYWORD_ONLY}
    wanted = {part.replace(" ", "") for part in by_name.split(", ") if part}
    assert positional[: len(expected)] == expected
    added = positional[len(expected) :]
    assert all("=" in more for more in added), f"{added} came without defaults"
    assert wanted <= keyword
    assert all("=" in more for more in keyword - wanted)


@pytest.mark.parametrize(
    "function", [engine.create_ddp_model, events.TensorboardXWriter, events.EventStorage.put_scalars]
)
def test_further_keywords_go_on(function: Any) -> None:
    assert any(p.kind is P.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


def test_kinds_of_methods() -> None:
    trainer = engine.DefaultTrainer
    classmethods = ("model", "optimizer", "lr_scheduler", "train_loader", "test_loader", "evaluator")
    for name in (*(f"build_{part}" for part in classmethods), "test"):
        assert isinstance(inspect.getattr_static(trainer, name), classmethod), name
    assert isinstance(inspect.getattr_static(trainer, "auto_scale_workers"), staticmethod)
    for name in (
        "build_hooks",
        "build_writers",
        "train",
        "resume_or_load",
        "run_step",
        "state_dict",
        "load_state_dict",
    ):
        assert inspect.isfunction(inspect.getattr_static(trainer, name)), name
    assert issubclass(trainer, engine.SimpleTrainer) and issubclass(engine.AMPTrainer, engine.SimpleTrainer)
    assert issubclass(hooks.AutogradProfiler, hooks.HookBase) and engine.HookBase is hooks.HookBase


def test_where_the_names_are() -> None:
    assert engine.DEFAULT_TIMEOUT == HALF_AN_HOUR
    assert train_loop.AMPTrainer is engine.AMPTrainer
    assert {name: getattr(engine, name) for name in train_loop.__all__} == {
        name: getattr(train_loop, name) for name in train_loop.__all__
    }
    assert defaults.hooks is hooks and all(
        getattr(engine, name) is getattr(defaults, name) for name in defaults.__all__
    )
    hook_names = "CallbackHook IterationTimer PeriodicWriter PeriodicCheckpointer BestCheckpointer LRScheduler"
    hook_names += " AutogradProfiler TorchProfiler EvalHook PreciseBN TorchMemoryStats EarlyStopping EMA ValidationLoss"
    hook_names += " Watchdog PreemptionCheckpointer SamplePredictions HookBase"
    assert set(hooks.__all__) == set(hook_names.split())
    assert issubclass(engine.TrainerBase, object) and callable(events.get_event_storage)
    assert events.has_event_storage() is False
    assert {point for point in ("state_dict", "load_state_dict") if hasattr(hooks.HookBase(), point)} and (
        hooks.HookBase().state_dict() == {} and hooks.HookBase.trainer is None
    )
