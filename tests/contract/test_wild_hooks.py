"""Points 9 to 14 of what code made for detectron2 relies on: hooks, the event storage, logging.

Each test is written as such code is, down to its habits; the numbers are those of the list of contracts.
"""

from __future__ import annotations

import json
import logging
import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import drivetrain
from drivetrain.checkpoint import Checkpointer
from drivetrain.config import CfgNode
from drivetrain.data.catalog import MetadataCatalog
from drivetrain.engine import DefaultTrainer, HookBase, hooks
from drivetrain.evaluation import DatasetEvaluator
from drivetrain.events import EventStorage, get_event_storage
from drivetrain.testing import tiny_trainer

MakeCfg = Callable[..., Any]


def test_09_the_trainer_of_a_hook() -> None:
    class GivenTheTrainer(HookBase):
        def __init__(self, trainer: Any) -> None:
            self.trainer = trainer
            self.model = trainer.model

        def before_train(self) -> None:
            self.trainer.APs = []

        def after_step(self) -> None:
            self.trainer.APs.append(self.trainer.storage.iter)

    trainer = tiny_trainer()
    registered, inserted = GivenTheTrainer(trainer), GivenTheTrainer(trainer)
    trainer.register_hooks([registered])
    trainer._hooks.insert(0, inserted)
    trainer.train(0, 2)
    assert trainer.APs == [0, 0, 1, 1]  # type: ignore[attr-defined]
    assert isinstance(registered.trainer, weakref.ProxyTypes)
    assert registered.trainer.iter == trainer.iter == 2


class EarlyStop(BaseException):
    """Made so that no ``except Exception`` on the way catches it."""


@pytest.mark.parametrize("error", [EarlyStop, StopIteration, ValueError, SystemExit])
def test_10_an_exception_from_after_step_stops(
    make_cfg: MakeCfg, tmp_path: Path, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[int] = []

    class Stopper(HookBase):
        def after_step(self) -> None:
            if self.trainer.iter + 1 == 2:
                raise error("early stop")

        def after_train(self) -> None:
            ended.append(self.trainer.iter)

    trainer = DefaultTrainer(make_cfg("out", "SOLVER.MAX_ITER=4"))
    trainer.register_hooks([Stopper(), hooks.CallbackHook(after_train=lambda t: ended.append(t.iter))])
    with pytest.raises(error, match="early stop"):
        trainer.train()
    assert ended == [1, 1] and trainer.iter == 1
    logged = [record.exc_info for record in caplog.records if record.message == "Exception during training:"]
    # What is no Exception (Ctrl-C, an exit) is no error to be logged.
    assert [info[0] for info in logged if info] == ([error] if issubclass(error, Exception) else [])
    assert not (tmp_path / "out" / "model_final.pth").exists()
    assert "bbox/AP" not in trainer.storage.latest()


@pytest.mark.parametrize(("name", "value", "end"), [("max_iter", 2, 2), ("max_iter", 5, 5), ("iter", 10**6, None)])
def test_10_a_hook_that_moves_the_numbers(tmp_path: Path, name: str, value: int, end: int | None) -> None:
    trainer = tiny_trainer()
    done: list[int] = []
    saver = hooks.PeriodicCheckpointer(Checkpointer(trainer.model, str(tmp_path)), 100)
    move = hooks.CallbackHook(after_step=lambda t: setattr(t, name, value) if t.iter == 1 else None)
    trainer.register_hooks([hooks.CallbackHook(before_step=lambda t: done.append(t.iter)), saver, move])
    trainer.train(0, 4)
    assert done == list(range(end or 2))
    assert trainer.iter == trainer.max_iter == (end or 4)
    assert (tmp_path / "model_final.pth").exists()


def test_11_reading_the_storage() -> None:
    seen: list[Any] = []

    class Reader(HookBase):
        def after_step(self) -> None:
            storage = get_event_storage()
            loss, iteration = storage.latest()["total_loss"]
            assert storage.history("total_loss").values()[-1] == (loss, iteration) == (loss, self.trainer.iter)
            assert storage.history("total_loss").latest() == loss
            window = storage.latest_with_smoothing_hint(2)["total_loss"]
            seen.append((window, storage.histories()["total_loss"].median(2)))
            with pytest.raises(KeyError):
                storage.history("no_such_metric")
            with EventStorage(self.trainer.iter) as inner:  # hides what a model logs while it is looked at
                get_event_storage().put_scalar("total_loss", -1.0)
                assert inner.latest() == {"total_loss": (-1.0, self.trainer.iter)}
            assert get_event_storage() is storage is self.trainer.storage
            with storage.name_scope("probe"):
                storage.put_scalar("total_loss", -2.0)
            assert storage.latest()["total_loss"] == (loss, iteration)

    trainer = tiny_trainer()
    trainer.register_hooks([Reader()])
    trainer.train(0, 3)
    assert [window[0] == median and window[1] == i for i, (window, median) in enumerate(seen)] == [True] * 3
    assert len(trainer.storage.history("total_loss").values()) == 3  # after train() has returned
    assert trainer.storage.history("probe/total_loss").values() == [(-2.0, 0), (-2.0, 1), (-2.0, 2)]
    try:
        storage = get_event_storage()
    except AssertionError:
        storage = EventStorage()
    assert storage.latest() == {}


class Segments(DatasetEvaluator):
    """Results under the names that a detector with masks has."""

    def process(self, inputs: Any, outputs: Any) -> None:
        pass

    def evaluate(self) -> Mapping[str, Any]:
        return {"segm": {"AP": 3.0, "AP50": 5.0}}


def test_12_names_of_scalars(make_cfg: MakeCfg) -> None:
    trainer = DefaultTrainer(make_cfg("out", "SOLVER.MAX_ITER=4"))
    trainer.register_hooks([hooks.ValidationLoss([next(iter(trainer.data_loader))], 2)])
    trainer._hooks.append(trainer._hooks.pop(-2))  # the writers last
    trainer.train()
    names = set(trainer.storage.latest())
    plain = {"total_loss", "lr", "time", "data_time", "eta_seconds", "validation_loss"}
    classes = {f"bbox/AP-{name}" for name in MetadataCatalog.get("shapes_val").thing_classes}
    assert plain | classes | {"bbox/AP", "bbox/AP50", "bbox/AP75"} <= names
    lines = [json.loads(line) for line in (Path(trainer.cfg.OUTPUT_DIR) / "metrics.json").open()]
    assert lines and all("iteration" in line for line in lines)
    assert any("bbox/AP50" in line for line in lines) and any("total_loss" in line for line in lines)

    class WithMasks(DefaultTrainer):
        @classmethod
        def build_evaluator(cls, cfg: Any, dataset_name: str) -> Any:
            return [super().build_evaluator(cfg, dataset_name), Segments()]

    several = WithMasks(make_cfg("several", "DATASETS.TEST=('shapes_val','shapes_train')", "SOLVER.MAX_ITER=1"))
    several.train()
    assert {"shapes_val/bbox/AP50", "shapes_train/bbox/AP50", "shapes_val/segm/AP"} <= set(several.storage.latest())


def test_13_console_lines_have_a_logger_of_their_own(make_cfg: MakeCfg) -> None:
    """Code in the wild adds its handler to the logger of the console lines, or silences it."""
    lines: list[str] = []

    class Catch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    catch = Catch()
    logging.getLogger("drivetrain.events").addHandler(catch)
    try:
        DefaultTrainer(make_cfg("out", "DATASETS.TEST=()")).train()
    finally:
        logging.getLogger("drivetrain.events").removeHandler(catch)
    (line,) = [text for text in lines if "total_loss" in text]
    assert line.startswith("eta: 0:00:00  iter: 1  total_loss: ") and "  lr: 0.001" in line


class TrackerHook(HookBase):
    """What hooks for experiment trackers do: flatten the config, upload a checkpoint, delete it."""

    def __init__(self) -> None:
        self.flat: dict[str, Any] = {}
        self.logged: list[dict[str, float]] = []

    def flatten(self, cfg: Any, prefix: str = "") -> None:
        for key, value in cfg.items():
            if type(value) == CfgNode:  # noqa: E721 - as it is written in the wild
                self.flatten(value, f"{prefix}{key}.")
            else:
                self.flat[prefix + key] = value

    def before_train(self) -> None:
        assert isinstance(self.trainer.cfg, dict)
        assert isinstance(self.trainer.checkpointer, Checkpointer)
        self.flatten(self.trainer.cfg)

    def after_step(self) -> None:
        storage = self.trainer.storage
        self.logged.append({name: value for name, (value, _) in storage.latest().items()})
        if self.trainer.iter == 3:
            self.trainer.checkpointer.save("to_upload", iteration=self.trainer.iter)
            os.remove(os.path.join(self.trainer.cfg.OUTPUT_DIR, "to_upload.pth"))


def test_14_hooks_of_experiment_trackers(make_cfg: MakeCfg) -> None:
    assert drivetrain.__version__ and drivetrain.CfgNode is CfgNode
    cfg = make_cfg("out", "SOLVER.MAX_ITER=9", "SOLVER.CHECKPOINT_PERIOD=3", "DATASETS.TEST=()")

    class Broken(HookBase):
        def after_step(self) -> None:
            if self.trainer.iter == 4:
                raise RuntimeError("the machine went away")

    tracker = TrackerHook()
    trainer = DefaultTrainer(cfg)
    trainer.register_hooks([tracker, Broken()])
    with pytest.raises(RuntimeError, match="went away"):
        trainer.train()
    assert tracker.flat["SOLVER.BASE_LR"] == 0.001 and tracker.flat["MODEL.BACKBONE.FREEZE_AT"] == 0
    assert len(tracker.logged) == 5 and tracker.logged[-1]["total_loss"] > 0

    # `last_checkpoint` points at the deleted file: the training goes on from the one before.
    assert (Path(cfg.OUTPUT_DIR) / "last_checkpoint").read_text().strip() == "to_upload.pth"
    resumed = DefaultTrainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 3
