"""Trainers that make the step within a DefaultTrainer, and overrides that use ``self._trainer``, as the original's do.

Points 1 and 7 of what code made for detectron2 relies on; each test is written as such code is, down to its habits.
"""

from __future__ import annotations

import contextlib
import logging
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.checkpoint import DetectionCheckpointer
from drivetrain.engine import AMPTrainer, DefaultTrainer, SimpleTrainer, TrainerBase, get_cfg, hooks
from drivetrain.evaluation import verify_results
from drivetrain.events import EventStorage
from drivetrain.runtime import comm
from drivetrain.runtime.seeding import seed_all_rng
from drivetrain.testing import TinyLoader, TinyModel

MakeCfg = Callable[..., Any]


class Teacher(DefaultTrainer):
    """The semi-supervised trainers' pattern: DefaultTrainer's __init__ is replaced whole, and so is the loop."""

    base_init: Callable[[Any], None]

    def __init__(self, cfg: Any) -> None:
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        self.model_teacher = self.build_model(cfg)
        type(self).base_init(self)
        self._trainer = (AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer)(model, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = DetectionCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.early_stop = False
        self.register_hooks(self.build_hooks())

    def train(self) -> Any:
        self.train_loop(self.start_iter, self.max_iter)
        if hasattr(self, "_last_eval_results") and comm.is_main_process():
            verify_results(self.cfg, self._last_eval_results)
            return self._last_eval_results
        return None

    def train_loop(self, start_iter: int, max_iter: int) -> None:
        logger = logging.getLogger(__name__)
        logger.info("Starting training from iteration %d", start_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                for self.iter in range(start_iter, max_iter):
                    self.before_step()
                    self.run_step_full_semisup()
                    self.after_step()
                    if self.early_stop:
                        break
            except Exception:
                logger.exception("Exception during training:")
                raise
            finally:
                self.after_train()

    def run_step_full_semisup(self) -> None:
        self._trainer.iter = self.iter
        assert self.model.training
        start = time.perf_counter()
        data = next(self._trainer._data_loader_iter)
        data_time = time.perf_counter() - start
        record_dict = self.model(data)
        losses = sum(record_dict.values())
        self.optimizer.zero_grad()
        losses.backward()
        self._trainer._write_metrics(record_dict, data_time)
        self.optimizer.step()


def bare_init(self: Any) -> None:
    TrainerBase.__init__(self)


def super_init(self: Any) -> None:
    super(DefaultTrainer, self).__init__()


@pytest.mark.parametrize("base_init", [bare_init, super_init])
def test_01_the_constructor_is_bypassed(make_cfg: MakeCfg, base_init: Any, tmp_path: Path) -> None:
    class Trainer(Teacher):
        pass

    Trainer.base_init = base_init
    cfg = make_cfg("out", "SOLVER.MAX_ITER=4", "SOLVER.CHECKPOINT_PERIOD=2", "TEST.EVAL_PERIOD=3")
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    assert "AP50" in results["bbox"]
    assert [i for _, i in trainer.storage.history("bbox/AP").values()] == [2, 3]
    assert [i for _, i in trainer.storage.history("total_loss").values()] == [0, 1, 2, 3]
    assert (tmp_path / "out" / "model_0000001.pth").exists() and (tmp_path / "out" / "model_final.pth").exists()

    # Everything else of DefaultTrainer works too: it continues, evaluates, and gives and takes its state.
    (tmp_path / "out" / "last_checkpoint").write_text("model_0000001.pth")
    again = Trainer(cfg)
    again.resume_or_load()
    assert again.start_iter == 2
    again.train()
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    assert set(Trainer.test(cfg, again.model)) == {"bbox"}
    assert again.state_dict()["iteration"] == 3


def test_01_the_stop_of_an_own_loop_is_no_end_of_training(make_cfg: MakeCfg, tmp_path: Path) -> None:
    class Trainer(Teacher):
        base_init = bare_init

        def after_step(self) -> None:
            super().after_step()
            self.early_stop = self.iter == 1

    trainer = Trainer(make_cfg("out", "SOLVER.MAX_ITER=9"))
    trainer.train()
    assert trainer.iter == 1 and "bbox/AP" not in trainer.storage.latest()
    assert not (tmp_path / "out" / "model_final.pth").exists()


def test_07_a_copy_of_run_step_for_the_trainer_within(make_cfg: MakeCfg) -> None:
    class Trainer(DefaultTrainer):
        def __init__(self, cfg: Any) -> None:
            super().__init__(cfg)
            self._trainer = SimpleTrainer(self.model, self.data_loader, self.optimizer)

        def run_step(self) -> None:
            inner = self._trainer
            inner.iter = self.iter
            losses = inner.model(next(inner._data_loader_iter))
            inner.optimizer.zero_grad()
            sum(losses.values()).backward()  # type: ignore[union-attr]
            inner.after_backward()
            inner._write_metrics(losses, 0.0)
            inner.optimizer.step()

    trainer = Trainer(make_cfg("out", "DATASETS.TEST=()", "SOLVER.MAX_ITER=3"))
    trainer.train()
    assert trainer.storage.latest()["total_loss"][1] == 2 and trainer.iter == trainer.max_iter == 3


def build(tmp_path: Path, cls: type[DefaultTrainer], name: str, **parts: Any) -> DefaultTrainer:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path / name)
    cfg.merge_from_list(["SOLVER.MAX_ITER=6", "SOLVER.WARMUP_ITERS=0", "SOLVER.CHECKPOINT_PERIOD=2"])
    seed_all_rng(0)
    return cls(cfg, model=TinyModel(), train_loader=TinyLoader(), test_loaders=[], evaluators=[], writers=[])


def test_07_run_step_calls_the_inner_trainers(tmp_path: Path) -> None:
    class Trainer(DefaultTrainer):
        def run_step(self) -> None:
            self._trainer.iter = self.iter
            self._trainer.run_step()

    plain, own = build(tmp_path, DefaultTrainer, "a"), build(tmp_path, Trainer, "b")
    for trainer in (plain, own):
        seed_all_rng(1)
        trainer.train()
    assert isinstance(own._trainer, SimpleTrainer)
    for key, value in plain.model.state_dict().items():
        assert torch.equal(value, own.model.state_dict()[key])


def test_07_the_pieces_of_the_step_may_be_overridden_beside_it(tmp_path: Path) -> None:
    class Trainer(DefaultTrainer):
        fetched = 0

        def fetch(self) -> Any:
            self.fetched += 1
            return super().fetch()

        def run_step(self) -> None:
            self._trainer.run_step()

    trainer = build(tmp_path, Trainer, "a")
    trainer.train()
    assert trainer.fetched == 6


def test_07_state_dict_holds_the_inner_trainers(tmp_path: Path) -> None:
    class Trainer(DefaultTrainer):
        def state_dict(self) -> Any:
            ret = super().state_dict()
            ret["_trainer"] = self._trainer.state_dict()
            ret["mine"] = 5
            return ret

        def load_state_dict(self, state_dict: Any) -> None:
            super().load_state_dict(state_dict)
            self._trainer.load_state_dict(state_dict["_trainer"])
            self.mine = state_dict["mine"]

    whole = build(tmp_path, Trainer, "a")
    seed_all_rng(1)
    whole.train()
    broken = build(tmp_path, Trainer, "b")

    def stop(t: Any) -> None:
        if t.iter == 4:
            raise ValueError

    broken.register_hooks([hooks.CallbackHook(after_step=stop)])
    seed_all_rng(1)
    with contextlib.suppress(ValueError):
        broken.train()
    resumed = build(tmp_path, Trainer, "b")
    seed_all_rng(9)
    resumed.resume_or_load()
    assert resumed.mine == 5 and resumed.start_iter == 4
    resumed.train()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key])
