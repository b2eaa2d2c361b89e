"""Points 2 to 8 of what code made for detectron2 relies on: trainers that are bypassed, overridden and taken apart.

Each test is written as such code is, down to its habits; the numbers are those of the list of contracts.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.checkpoint import DetectionCheckpointer
from drivetrain.data import build_detection_train_loader
from drivetrain.engine import AMPTrainer, DefaultTrainer, HookBase, SimpleTrainer, hooks
from drivetrain.errors import TrainingError
from drivetrain.evaluation import COCOEvaluator, DatasetEvaluators
from drivetrain.events import EventWriter, get_event_storage
from drivetrain.runtime import comm
from drivetrain.testing import tiny_trainer

MakeCfg = Callable[..., Any]


def test_02_default_trainer_is_built_as_a_simple_trainer(make_cfg: MakeCfg) -> None:
    class Trainer(DefaultTrainer):
        def __init__(self, cfg: Any) -> None:
            model = self.build_model(cfg)
            optimizer = self.build_optimizer(cfg, model)
            data_loader = self.build_train_loader(cfg)
            super(DefaultTrainer, self).__init__(model, data_loader, optimizer)
            self.scheduler = self.build_lr_scheduler(cfg, optimizer)
            self.checkpointer = DetectionCheckpointer(
                model, cfg.OUTPUT_DIR, optimizer=optimizer, scheduler=self.scheduler
            )
            self.start_iter = 0
            self.max_iter = cfg.SOLVER.MAX_ITER
            self.cfg = cfg
            self.register_hooks(self.build_hooks())

        def run_step(self) -> None:
            loss_dict = self.model(next(self._data_loader_iter))
            losses = sum(loss_dict.values())
            self.optimizer.zero_grad()
            losses.backward()
            self._write_metrics(loss_dict, 0.0)
            self.optimizer.step()

    trainer = Trainer(make_cfg())
    trainer.resume_or_load(resume=False)
    assert isinstance(trainer, SimpleTrainer) and set(trainer.train()) == {"bbox"}
    resumed = Trainer(make_cfg("out", "SOLVER.MAX_ITER=3"))
    resumed.resume_or_load()
    assert resumed.start_iter == 2 and resumed.optimizer.state_dict()["state"]


def test_03_builders_are_called_with_the_arguments_of_the_original(make_cfg: MakeCfg, tmp_path: Path) -> None:
    calls: list[Any] = []

    class Trainer(DefaultTrainer):
        @classmethod
        def build_evaluator(cls, cfg: Any, dataset_name: str, output_folder: str | None = None) -> Any:
            assert output_folder is None
            calls.append(dataset_name)
            output_folder = str(Path(cfg.OUTPUT_DIR) / "inference")
            return DatasetEvaluators([COCOEvaluator(dataset_name, cfg, True, output_folder)])

        def build_train_loader(self, cfg: Any, mapper: Any = None) -> Any:  # type: ignore[override]
            calls.append(mapper)
            return build_detection_train_loader(cfg, mapper=mapper)

    trainer = Trainer(make_cfg())
    assert set(trainer.train()) == {"bbox"}
    assert calls[0] is None and set(calls[1:]) == {"shapes_val"}
    assert (tmp_path / "out" / "inference" / "coco_instances_results.json").exists()


def test_04_parts_exist_before_hooks_are_built(make_cfg: MakeCfg) -> None:
    class Trainer(DefaultTrainer):
        def build_hooks(self) -> Any:
            assert self.cfg.is_frozen()
            ret = super().build_hooks()
            ret.append(hooks.PeriodicCheckpointer(self.checkpointer, 1, self.max_iter, file_prefix="more"))
            self.seen = (self.model, self.max_iter)
            return ret

    trainer = Trainer(make_cfg())
    assert trainer.seen == (trainer.model, 2)


class LossEvalHook(HookBase):
    """The validation loss as nearly everybody copies it: the model in training mode, losses reduced over ranks."""

    def __init__(self, eval_period: int, model: torch.nn.Module, data_loader: Any) -> None:
        self._model, self._period, self._data_loader = model, eval_period, data_loader

    def _do_loss_eval(self) -> None:
        losses = []
        for inputs in self._data_loader:
            with torch.no_grad():
                metrics = self._model(inputs)
            metrics = {k: v.detach().cpu().item() if isinstance(v, torch.Tensor) else v for k, v in metrics.items()}
            losses.append(sum(metrics.values()))
        self.trainer.storage.put_scalar("validation_loss", sum(losses) / len(losses))
        comm.synchronize()

    def after_step(self) -> None:
        next_iter = self.trainer.iter + 1
        is_final = next_iter == self.trainer.max_iter
        if is_final or (self._period > 0 and next_iter % self._period == 0):
            self._do_loss_eval()
        self.trainer.storage.put_scalars(timetest=12)


def test_05_hook_lists_are_edited_scanned_and_rebuilt(make_cfg: MakeCfg) -> None:
    class OwnEval(hooks.EvalHook):
        calls = 0

        def _do_eval(self) -> Any:
            results = super()._do_eval()
            assert results and "bbox/AP" in results
            OwnEval.calls += 1
            return results

    class Trainer(DefaultTrainer):
        def build_hooks(self) -> Any:
            found = super().build_hooks()
            found.insert(-1, LossEvalHook(1, self.model, [next(iter(self.build_train_loader(self.cfg)))]))
            for i, hook in enumerate(found):
                if isinstance(hook, hooks.EvalHook):
                    found[i] = OwnEval(hook._period, hook._func)
            return found

    trainer = Trainer(make_cfg("out", "TEST.EVAL_PERIOD=1"))
    kinds = [type(hook) for hook in trainer._hooks]
    assert kinds[-2:] == [LossEvalHook, hooks.PeriodicWriter] and OwnEval in kinds
    extra = hooks.CallbackHook(after_step=lambda t: t.storage.put_scalar("seen", 1.0))
    trainer.register_hooks(hooks=[None, extra, None])
    assert trainer._hooks[-1] is extra
    trainer._hooks = trainer._hooks[:-2] + trainer._hooks[-2:][::-1]  # swap the last two
    assert isinstance(trainer._hooks[-1], hooks.PeriodicWriter)
    with pytest.raises((TrainingError, AssertionError)):
        trainer.register_hooks([lambda: None])  # type: ignore[list-item]
    trainer.train()
    assert OwnEval.calls == 2
    assert [i for _, i in trainer.storage.history("validation_loss").values()] == [0, 1]
    assert trainer.storage.latest()["seen"] == (1.0, 1) and trainer.storage.latest()["timetest"][0] == 12


def test_05_a_second_evaluation_with_augmented_images(make_cfg: MakeCfg) -> None:
    class Trainer(DefaultTrainer):
        @classmethod
        def build_evaluator(cls, cfg: Any, dataset_name: str, output_folder: str | None = None) -> Any:
            output_folder = output_folder or str(Path(cfg.OUTPUT_DIR) / "inference")
            return COCOEvaluator(dataset_name, output_dir=output_folder)

        @classmethod
        def test_with_TTA(cls, cfg: Any, model: torch.nn.Module) -> Any:
            evaluators = [
                cls.build_evaluator(cfg, name, output_folder=str(Path(cfg.OUTPUT_DIR) / "inference_TTA"))
                for name in cfg.DATASETS.TEST
            ]
            res = cls.test(cfg, Mirrored(model), evaluators)
            return OrderedDict({k + "_TTA": v for k, v in res.items()})

    class Mirrored(torch.nn.Module):
        """In place of a model that averages over augmented images."""

        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, batch: Any) -> Any:
            return self.model([{**item, "image": item["image"].flip(-1)} for item in batch])

    trainer = Trainer(make_cfg("out", "TEST.EVAL_PERIOD=1", "SOLVER.BEST_METRIC=bbox/AP"))
    trainer.register_hooks([hooks.EvalHook(0, lambda: trainer.test_with_TTA(trainer.cfg, trainer.model))])
    results = trainer.train()
    assert set(results) == {"bbox"}
    assert [i for _, i in trainer.storage.history("bbox/AP").values()] == [0, 1]
    assert [i for _, i in trainer.storage.history("bbox_TTA/AP").values()] == [1]
    assert (Path(trainer.cfg.OUTPUT_DIR) / "inference_TTA" / "coco_instances_results.json").exists()
    states = trainer.state_dict()["hooks"]
    assert states["EvalHook"] == states["EvalHook#2"] == {"evaluated": 1}


def test_06_the_schedule_hook_with_and_without_arguments() -> None:
    from drivetrain.engine.defaults import hooks as from_defaults

    assert from_defaults is hooks
    rates = []
    for give in (False, True):
        trainer = tiny_trainer()
        scheduler = torch.optim.lr_scheduler.StepLR(trainer.optimizer, 1)
        trainer.scheduler = scheduler  # type: ignore[attr-defined]
        hook = from_defaults.LRScheduler(trainer.optimizer, scheduler) if give else from_defaults.LRScheduler()
        trainer.register_hooks([hook])
        trainer.train(0, 3)
        rates.append([value for value, _ in trainer.storage.history("lr").values()])
    assert rates[0] == rates[1] == pytest.approx([0.1, 0.01, 0.001])


def own_step(self: Any) -> None:
    """detectron2's own ``run_step``, as it is copied and changed."""
    assert self.model.training, "[SimpleTrainer] model was changed to eval mode!"
    start = time.perf_counter()
    data = next(self._data_loader_iter)
    data_time = time.perf_counter() - start
    if self.zero_grad_before_forward:
        self.optimizer.zero_grad()
    amp = isinstance(self, AMPTrainer)
    with torch.autocast("cpu", dtype=self.precision if amp else torch.bfloat16, enabled=amp):
        loss_dict = self.model(data)
        losses = sum(loss_dict.values())
    if not self.zero_grad_before_forward:
        self.optimizer.zero_grad()
    (self.grad_scaler.scale(losses) if amp else losses).backward()
    if amp and self.log_grad_scaler:
        get_event_storage().put_scalar("[metric]grad_scaler", self.grad_scaler.get_scale())
    self.after_backward()
    if self.async_write_metrics:
        self.concurrent_executor.submit(self._write_metrics, loss_dict, data_time, iter=self.iter)
    else:
        self._write_metrics(loss_dict, data_time)
    if amp:
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
    else:
        self.optimizer.step()


@pytest.mark.parametrize("zero_first", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("amp", [False, True])
def test_07_copies_of_run_step(amp: bool, asynchronous: bool, zero_first: bool) -> None:
    base: Any = AMPTrainer if amp else SimpleTrainer
    more = (torch.amp.GradScaler("cpu"), torch.bfloat16, True) if amp else ()

    class Copied(base):  # type: ignore[misc]
        run_step = own_step

    runs = []
    for kind in (base, Copied):
        parts = tiny_trainer()
        trainer = kind(parts.model, parts.data_loader, parts.optimizer, 1, zero_first, *more, asynchronous)
        backwards: list[int] = []
        trainer.register_hooks([hooks.CallbackHook(after_backward=lambda t, seen=backwards: seen.append(t.iter))])
        trainer.train(0, 4)
        if kind is Copied and asynchronous:
            trainer.concurrent_executor.shutdown(wait=True)
        runs.append(trainer)
        assert backwards == [0, 1, 2, 3]
    first, second = runs
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert first.storage.history("total_loss").values() == second.storage.history("total_loss").values()
    assert ("[metric]grad_scaler" in second.storage.latest()) is amp


def test_07_old_code_makes_the_iterator_itself(make_cfg: MakeCfg) -> None:
    class Trainer(DefaultTrainer):
        def __init__(self, cfg: Any) -> None:
            super().__init__(cfg)
            self._data_loader_iter = iter(self.data_loader)

        run_step = own_step

    trainer = Trainer(make_cfg("out", "DATASETS.TEST=()"))
    mine = trainer._data_loader_iter
    trainer.train()
    assert trainer._data_loader_iter is mine and trainer.iter == 2


def test_07_state_of_ones_own_travels_in_checkpoints(make_cfg: MakeCfg) -> None:
    class Trainer(DefaultTrainer):
        burned_in = 0

        def run_step(self) -> None:
            super().run_step()
            self.burned_in += 10

        def state_dict(self) -> Any:
            ret = super().state_dict()
            ret["burned_in"] = self.burned_in
            return ret

        def load_state_dict(self, state_dict: Any) -> None:
            super().load_state_dict(state_dict)
            self.burned_in = state_dict["burned_in"]

        def build_writers(self) -> Any:
            return [*super().build_writers(), Lines()]

    class Lines(EventWriter):
        written: list[int] = []

        def write(self) -> None:
            Lines.written.append(get_event_storage().iter)

    cfg = make_cfg("out", "DATASETS.TEST=()")
    Trainer(cfg).train()
    assert Lines.written[0] == 1
    longer = make_cfg("out", "DATASETS.TEST=()", "SOLVER.MAX_ITER=3")
    again = Trainer(longer)
    again.resume_or_load()
    assert (again.start_iter, again.burned_in) == (2, 20)


def test_08_loader_and_model_are_assigned(make_cfg: MakeCfg) -> None:
    trainer = DefaultTrainer(make_cfg("out", "DATASETS.TEST=()"))
    batch = next(iter(trainer.build_train_loader(trainer.cfg)))
    used: list[Any] = []

    class Loader:
        def __iter__(self) -> Any:
            while True:
                used.append(1)
                yield batch

    trainer.data_loader = Loader()
    trainer.model = trainer.build_model(trainer.cfg)
    trainer.optimizer = trainer.build_optimizer(trainer.cfg, trainer.model)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.model.train()
    trainer.train()
    assert len(used) == 2
    assert any(not torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
