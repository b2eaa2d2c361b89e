"""DefaultTrainer: its parts, its ways of being changed, its exact resume, and that watching changes nothing."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.checkpoint import DetectionCheckpointer
from drivetrain.data import build_detection_test_loader, build_detection_train_loader
from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.shapes import SHAPE_NAMES
from drivetrain.engine import AMPTrainer, HookBase, SimpleTrainer, TrainerBase, hooks
from drivetrain.engine.defaults import DefaultTrainer, get_cfg
from drivetrain.errors import ConfigError, DatasetError, EvaluationError
from drivetrain.evaluation import DatasetEvaluator
from drivetrain.testing import TinyLoader, TinyModel

MakeCfg = Callable[..., Any]
TIMES = ("time", "data_time", "rank_data_time", "eta_seconds", "last_data_time")


class Counting(DatasetEvaluator):
    """An evaluator whose result is the number of images it saw."""

    def reset(self) -> None:
        self.images = 0

    def process(self, inputs: Any, outputs: Any) -> None:
        self.images += len(inputs)

    def evaluate(self) -> Mapping[str, Any]:
        return {"count": {"images": float(self.images)}}


class Stop(BaseException):
    """What a user stops a training with."""


class StopAt(HookBase):
    def __init__(self, iteration: int, error: BaseException) -> None:
        self.iteration, self.error, self.ended = iteration, error, False

    def after_step(self) -> None:
        if self.trainer.iter == self.iteration:
            raise self.error

    def after_train(self) -> None:
        self.ended = True


class Backwards(HookBase):
    calls = 0

    def after_backward(self) -> None:
        self.calls += 1


def weights(trainer: DefaultTrainer) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in trainer.model.state_dict().items()}


def same(one: Any, other: Any) -> bool:
    """Whether nested values are equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(v, other[k]) for k, v in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def seeded(cfg: Any, cls: type[DefaultTrainer] = DefaultTrainer, **parts: Any) -> DefaultTrainer:
    torch.manual_seed(cfg.SEED)
    return cls(cfg, **parts)


def toy_cfg(tmp_path: Path, *overrides: Any) -> Any:
    """A config for given objects: no dataset is registered."""
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    cfg.merge_from_list(["SOLVER.MAX_ITER=4", "SOLVER.WARMUP_ITERS=0", "SOLVER.CHECKPOINT_PERIOD=2", *overrides])
    return cfg


# Parts


def test_default_hooks_in_their_order(make_cfg: MakeCfg) -> None:
    kinds = [
        hooks.IterationTimer,
        hooks.LRScheduler,
        hooks.PeriodicCheckpointer,
        hooks.EvalHook,
        hooks.Watchdog,
        hooks.PeriodicWriter,
    ]
    assert [type(hook) for hook in seeded(make_cfg())._hooks] == kinds
    every = ("TEST.PRECISE_BN.ENABLED=True", "SOLVER.EMA.ENABLED=True", "SOLVER.BEST_METRIC=bbox/AP")
    kinds[2:2] = [hooks.EMA, hooks.PreciseBN]
    kinds.insert(-2, hooks.BestCheckpointer)
    assert [type(hook) for hook in seeded(make_cfg("out", *every))._hooks] == kinds


@pytest.mark.parametrize(("value", "expected"), [("auto", (True, False)), ("120", (False, True)), ("0", None)])
def test_the_watchdog_only_tells_unless_a_time_is_given(make_cfg: MakeCfg, value: str, expected: Any) -> None:
    found = [hook for hook in seeded(make_cfg("out", f"WATCHDOG={value}"))._hooks if isinstance(hook, hooks.Watchdog)]
    assert [(hook._limits.automatic, hook._abort) for hook in found] == ([] if expected is None else [expected])
    if value == "120":
        assert found[0]._limits.step == 120


def test_attributes_exist_before_hooks_are_built(make_cfg: MakeCfg) -> None:
    seen: dict[str, Any] = {}

    class Trainer(DefaultTrainer):
        def build_hooks(self) -> list[HookBase | None]:
            names = ("checkpointer", "model", "optimizer", "data_loader", "scheduler", "cfg", "start_iter", "max_iter")
            seen.update({name: getattr(self, name) for name in names})
            found = super().build_hooks()
            found.insert(-1, None)
            return found

    cfg = make_cfg()
    cfg.freeze()
    trainer = seeded(cfg, Trainer)
    assert (seen["max_iter"], seen["start_iter"], trainer.iter) == (2, 0, 0)
    assert seen["model"] is trainer.model and trainer._trainer.model is trainer.model
    assert len(SHAPE_NAMES) == trainer.cfg.MODEL.NUM_CLASSES and trainer.cfg.is_frozen() and cfg.MODEL.NUM_CLASSES == 0
    assert isinstance(trainer.checkpointer, DetectionCheckpointer)
    assert [type(h) for h in trainer._hooks][-1] is hooks.PeriodicWriter


def test_every_override_is_called_as_documented(make_cfg: MakeCfg) -> None:
    calls: list[tuple[str, Any]] = []

    class Trainer(DefaultTrainer):
        @classmethod
        def build_model(cls, cfg: Any) -> Any:
            calls.append(("model", cfg.MODEL.NUM_CLASSES))
            return super().build_model(cfg)

        @classmethod
        def build_optimizer(cls, cfg: Any, model: Any) -> Any:
            calls.append(("optimizer", type(model).__name__))
            return torch.optim.SGD(model.parameters(), lr=0.0)

        @classmethod
        def build_lr_scheduler(cls, cfg: Any, optimizer: Any) -> Any:
            calls.append(("scheduler", type(optimizer)))
            return torch.optim.lr_scheduler.ConstantLR(optimizer)

        def build_train_loader(self, cfg: Any, extra: int = 3) -> Any:  # type: ignore[override]
            calls.append(("train_loader", extra))
            return build_detection_train_loader(cfg)

        @classmethod
        def build_test_loader(cls, cfg: Any, name: str) -> Any:
            calls.append(("test_loader", name))
            return build_detection_test_loader(cfg, name)

        @classmethod
        def build_evaluator(cls, *arguments: Any, **keywords: Any) -> Any:
            assert len(arguments) == 2 and not keywords
            calls.append(("evaluator", arguments[1]))
            return Counting()

        def build_writers(self) -> Any:
            calls.append(("writers", self.max_iter))
            return []

    trainer = seeded(make_cfg(), Trainer)
    assert [name for name, _ in calls] == ["model", "train_loader", "optimizer", "scheduler", "writers"]
    assert trainer.train() == {"count": {"images": 4.0}}
    assert ("model", len(SHAPE_NAMES)) in calls and ("train_loader", 3) in calls and ("writers", 2) in calls
    assert calls[-2:] == [("test_loader", "shapes_val"), ("evaluator", "shapes_val")] or calls[-1][1] == "shapes_val"


def test_an_own_train_loader_needs_no_registered_names(make_cfg: MakeCfg) -> None:
    class Trainer(DefaultTrainer):
        @classmethod
        def build_train_loader(cls, cfg: Any) -> Any:
            return build_detection_train_loader(cfg, dataset=DatasetCatalog.get("shapes_val"))

        @classmethod
        def test(cls, cfg: Any, model: Any, evaluators: Any = None) -> Any:
            return {"mine": {"AP": 7.0}}

    cfg = make_cfg("out", "DATASETS.TRAIN=('nowhere_train',)", "DATASETS.TEST=('nowhere_val',)")
    cfg.MODEL.NUM_CLASSES = 4
    MetadataCatalog.get("nowhere_train").thing_classes = list("abcde")  # as of a dataset that it does not learn from
    trainer = seeded(cfg, Trainer)
    assert trainer.train() == {"mine": {"AP": 7.0}}
    assert trainer.storage.latest()["mine/AP"] == (7.0, 1)
    with pytest.raises(DatasetError, match=r"DATASETS\.TRAIN: dataset 'nowhere_train' is not registered"):
        DefaultTrainer(cfg)


def test_the_class_methods_work_alone(make_cfg: MakeCfg) -> None:
    cfg = make_cfg()
    assert len(next(iter(DefaultTrainer.build_train_loader(cfg)))) == 2
    model = DefaultTrainer.build_model(cfg)
    assert set(DefaultTrainer.test(cfg, model)) == {"bbox"}
    assert DefaultTrainer.test(cfg, model, Counting()) == {"count": {"images": 4.0}}
    with pytest.raises(ConfigError, match="2 evaluators were given for 1 datasets"):
        DefaultTrainer.test(cfg, model, [Counting(), Counting()])


# Objects instead of config


def toys() -> dict[str, Any]:
    torch.manual_seed(0)
    model = TinyModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return {
        "model": model,
        "optimizer": optimizer,
        "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2),
        "train_loader": TinyLoader(),
        "test_loaders": [],
        "evaluators": [],
        "hooks": [Backwards()],
        "writers": [],
    }


def test_all_objects_together_without_any_dataset(tmp_path: Path) -> None:
    cfg = toy_cfg(tmp_path, "DATASETS.TRAIN=('nowhere',)")
    cfg.freeze()
    parts = toys()
    trainer = DefaultTrainer(cfg, **parts)
    assert trainer.model is parts["model"] and trainer.optimizer is parts["optimizer"]
    assert trainer.data_loader is parts["train_loader"] and trainer.scheduler is parts["scheduler"]
    trainer.train()
    assert parts["hooks"][0].calls == 4 and trainer.iter == 4
    assert [lr for lr, _ in trainer.storage.history("lr").values()] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    assert isinstance(trainer._hooks[-2], Backwards)
    assert not (tmp_path / "out" / "metrics.json").exists()
    assert (tmp_path / "out" / "model_final.pth").exists()


class Evaluable(torch.nn.Module):
    """The toy, with one output for each input when it is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = TinyModel()

    def forward(self, batch: Any) -> Any:
        return self.inner(batch) if self.training else list(batch)


def test_test_loaders_and_evaluators_without_any_dataset(tmp_path: Path) -> None:
    parts = toys()
    del parts["optimizer"], parts["scheduler"]
    parts |= {"model": Evaluable(), "test_loaders": [[[1, 2], [3]], [[4]]], "evaluators": [Counting(), Counting()]}
    trainer = DefaultTrainer(toy_cfg(tmp_path), **parts)
    assert trainer.train() == {"test0": {"count": {"images": 3.0}}, "test1": {"count": {"images": 1.0}}}
    assert trainer.storage.latest()["test0/count/images"] == (3.0, 3)
    with pytest.raises(ConfigError, match="2 test loaders and 1 evaluators"):
        DefaultTrainer(toy_cfg(tmp_path), **(parts | {"evaluators": [Counting()]}))


@pytest.mark.parametrize("part", ["model", "optimizer", "scheduler", "train_loader", "test_loaders", "evaluators"])
def test_each_object_alone(make_cfg: MakeCfg, part: str) -> None:
    cfg = make_cfg()
    pattern = seeded(cfg)
    if part == "optimizer":
        parts: dict[str, Any] = {"model": pattern.model, "optimizer": pattern.optimizer}
    elif part == "scheduler":
        parts = {"model": pattern.model, "optimizer": pattern.optimizer, "scheduler": pattern.scheduler}
    else:
        given = {
            "model": pattern.model,
            "train_loader": pattern.data_loader,
            "test_loaders": [build_detection_test_loader(pattern.cfg, "shapes_train")],
            "evaluators": [Counting()],
        }
        parts = {part: given[part]}
    trainer = seeded(make_cfg("other"), **parts)
    if part in ("model", "optimizer", "scheduler"):
        assert getattr(trainer, part) is parts[part]
    if part == "test_loaders":  # eight images with boxes that are not in the annotations of the four
        with pytest.raises((EvaluationError, DatasetError)):
            trainer.train()
        return
    results = trainer.train()
    assert results == {"count": {"images": 4.0}} if part == "evaluators" else set(results) == {"bbox"}


# Code made for the original


@pytest.mark.parametrize("kind", ["simple", "amp"])
def test_another_trainer_makes_the_step_and_resumes(make_cfg: MakeCfg, kind: str) -> None:
    class Trainer(DefaultTrainer):
        def __init__(self, cfg: Any) -> None:
            super().__init__(cfg)
            parts = (self.model, self.data_loader, self.optimizer)
            bf16 = {"precision": torch.bfloat16}
            self._trainer = SimpleTrainer(*parts) if kind == "simple" else AMPTrainer(*parts, **bf16)  # type: ignore[arg-type]

    def build(output: str) -> tuple[DefaultTrainer, Backwards]:
        trainer = seeded(make_cfg(output, "SOLVER.MAX_ITER=4", "SOLVER.CHECKPOINT_PERIOD=2", *QUIET), Trainer)
        hook = Backwards()
        trainer.register_hooks([hook])
        return trainer, hook

    whole, counted = build("whole")
    assert whole.model is whole._trainer.model and whole.optimizer is whole._trainer.optimizer
    whole.train()
    assert counted.calls == 4 and whole._trainer is not whole
    state = whole.state_dict()
    assert state["iteration"] == 3 and "optimizer" in state["_trainer"] and "hooks" not in state["_trainer"]

    broken, _ = build("broken")
    broken.register_hooks([StopAt(2, Stop())])
    with pytest.raises(Stop):
        broken.train()
    resumed, _ = build("broken")
    resumed.resume_or_load()
    assert resumed.start_iter == 2
    resumed.train()
    assert same(weights(resumed), weights(whole))
    replaced = torch.nn.Linear(1, 1)
    resumed.model = replaced
    assert resumed._trainer.model is replaced


QUIET = ("DATASETS.TEST=()",)


@pytest.mark.parametrize("way", ["base", "simple"])
def test_init_is_bypassed(make_cfg: MakeCfg, way: str) -> None:
    class Trainer(DefaultTrainer):
        def __init__(self, cfg: Any) -> None:
            model, loader = self.build_model(cfg), self.build_train_loader(cfg)
            optimizer = self.build_optimizer(cfg, model)
            if way == "base":
                TrainerBase.__init__(self)
                self._trainer = SimpleTrainer(model, loader, optimizer)
            else:
                super(DefaultTrainer, self).__init__(model, loader, optimizer)
            self.scheduler = self.build_lr_scheduler(cfg, optimizer)
            self.checkpointer = DetectionCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
            self.start_iter = 0
            self.max_iter = cfg.SOLVER.MAX_ITER
            self.cfg = cfg
            self.register_hooks(self.build_hooks())

    cfg = make_cfg("out", "SOLVER.MAX_ITER=4", "SOLVER.CHECKPOINT_PERIOD=2", "MODEL.NUM_CLASSES=4")
    cfg.freeze()
    trainer = seeded(cfg, Trainer)
    trainer.register_hooks([StopAt(2, ValueError("enough"))])
    with pytest.raises(ValueError, match="enough"):
        trainer.train()
    again = seeded(cfg, Trainer)
    again.resume_or_load()
    assert again.start_iter == 2
    assert set(again.train()) == {"bbox"}
    assert again.iter == 4 and again.storage.latest()["total_loss"][1] == 3


def test_a_checkpointer_made_without_the_trainer_goes_on_too(tmp_path: Path) -> None:
    def build() -> DefaultTrainer:
        trainer = DefaultTrainer(toy_cfg(tmp_path), **toys())
        trainer.checkpointer = DetectionCheckpointer(trainer.model, str(tmp_path / "out"), optimizer=trainer.optimizer)
        trainer._hooks = [hooks.PeriodicCheckpointer(trainer.checkpointer, 2)]
        return trainer

    first = build()
    first.register_hooks([StopAt(2, Stop())])
    with pytest.raises(Stop):
        first.train()
    second = build()
    second.resume_or_load()
    assert second.start_iter == 2
    third = build()
    third.resume_or_load(resume=False)
    assert third.start_iter == 0


@pytest.mark.parametrize("error", [Stop(), StopIteration("enough"), ValueError("enough")])
def test_any_exception_stops_and_leaves_no_final_model(tmp_path: Path, error: BaseException) -> None:
    trainer = DefaultTrainer(toy_cfg(tmp_path), **toys())
    hook = StopAt(2, error)
    trainer.register_hooks([hook])
    with pytest.raises(type(error)) as raised:
        trainer.train()
    assert raised.value is error and hook.ended and trainer.iter == 2
    assert trainer.storage.latest()["total_loss"][1] == 2  # readable after training
    assert not (tmp_path / "out" / "model_final.pth").exists()


def test_a_hook_moves_the_end(tmp_path: Path) -> None:
    trainer = DefaultTrainer(toy_cfg(tmp_path), **toys())
    trainer.register_hooks([hooks.CallbackHook(after_step=lambda t: setattr(t, "max_iter", 2))])
    trainer.train()
    assert trainer.iter == trainer.max_iter == 2 and (tmp_path / "out" / "model_final.pth").exists()


def test_attributes_set_by_hooks_land_on_the_trainer(tmp_path: Path) -> None:
    trainer = DefaultTrainer(toy_cfg(tmp_path), **toys())
    trainer.register_hooks([hooks.CallbackHook(before_train=lambda t: setattr(t, "mine", 5))])
    trainer.train()
    assert trainer.mine == 5  # type: ignore[attr-defined]


# Training


def test_results_and_lengths_in_epochs(make_cfg: MakeCfg) -> None:
    trainer = seeded(make_cfg("out", "SOLVER.MAX_ITER=1ep", "TEST.EVAL_PERIOD=0.5ep", "DATALOADER.NUM_WORKERS=1"))
    assert (trainer.max_iter, trainer.cfg.TEST.EVAL_PERIOD) == (4, 2)
    results = trainer.train()
    assert results is trainer._last_eval_results and "AP50" in results["bbox"]
    assert [iteration for _, iteration in trainer.storage.history("bbox/AP").values()] == [1, 3]


def test_several_test_sets(make_cfg: MakeCfg) -> None:
    results = seeded(make_cfg("out", "DATASETS.TEST=('shapes_val','shapes_train')", "SOLVER.MAX_ITER=1")).train()
    assert list(results) == ["shapes_val", "shapes_train"] and "AP" in results["shapes_train"]["bbox"]


def test_expected_results(make_cfg: MakeCfg) -> None:
    class Trainer(DefaultTrainer):
        @classmethod
        def build_evaluator(cls, cfg: Any, dataset_name: str) -> Any:
            return Counting()

    entry = "TEST.EXPECTED_RESULTS=[['count','images',{},0.1]]"
    assert seeded(make_cfg("a", entry.format(4)), Trainer).train()["count"]
    with pytest.raises(EvaluationError, match=r"count/images is 4\.0000, expected 5"):
        seeded(make_cfg("b", entry.format(5)), Trainer).train()
    nothing = seeded(make_cfg("c", entry.format(4), *QUIET), Trainer)
    with pytest.raises(ConfigError, match="EXPECTED_RESULTS is set, but nothing is evaluated"):
        nothing.train()
    assert nothing.iter == 0


def test_an_evaluation_that_cannot_run_is_found_before_iteration_0(make_cfg: MakeCfg) -> None:
    records = [{"file_name": "x.jpg", "image_id": 1, "height": 4, "width": 4}]
    DatasetCatalog.register("odd", lambda: records)
    MetadataCatalog.get("odd").evaluator_type = "coc"
    trainer = seeded(make_cfg("out", "DATASETS.TEST=('odd',)"))
    with pytest.raises(DatasetError, match=r"evaluator_type 'coc'; did you mean 'coco'"):
        trainer.train()
    assert trainer.iter == 0
    trainer._hooks = [hook for hook in trainer._hooks if not isinstance(hook, hooks.EvalHook)]
    trainer.train()  # nothing would be evaluated
    assert trainer.iter == 2


def test_evaluation_uses_the_model_that_was_assigned(make_cfg: MakeCfg) -> None:
    seen: list[Any] = []

    class Trainer(DefaultTrainer):
        @classmethod
        def test(cls, cfg: Any, model: Any, evaluators: Any = None) -> Any:
            seen.append(model)
            return {}

    trainer = seeded(make_cfg(), Trainer)
    other = trainer.build_model(trainer.cfg)
    trainer.model = other
    trainer.train()
    assert seen == [other]


def test_numbers_for_another_number_of_ranks(make_cfg: MakeCfg) -> None:
    trainer = seeded(make_cfg("out", "SOLVER.REFERENCE_WORLD_SIZE=2", "SOLVER.IMS_PER_BATCH=4"))
    assert trainer.max_iter == 4 and len(next(iter(trainer.data_loader))) == 2


def test_older_mixed_precision_key(make_cfg: MakeCfg) -> None:
    trainer = seeded(make_cfg("out", "SOLVER.AMP.ENABLED=True", *QUIET))
    trainer.train()
    plain = seeded(make_cfg("plain", *QUIET))
    plain.train()
    assert not same(weights(trainer), weights(plain))


# Promises

AUGMENTED = (
    "INPUT.MIN_SIZE_TRAIN=(48,56,64)",
    "INPUT.CROP.ENABLED=True",
    "INPUT.COLOR.BRIGHTNESS=0.4",
    "SOLVER.EMA.ENABLED=True",
    "SOLVER.EMA.DECAY=0.5",
    "SOLVER.MAX_ITER=5",
    "SOLVER.CHECKPOINT_PERIOD=2",
    "TEST.EVAL_PERIOD=2",
)


def metrics(cfg: Any) -> list[dict[str, Any]]:
    """The lines of metrics.json without what a clock says."""
    lines = [json.loads(line) for line in (Path(cfg.OUTPUT_DIR) / "metrics.json").open()]
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def final(cfg: Any) -> dict[str, Any]:
    return dict(torch.load(Path(cfg.OUTPUT_DIR) / "model_final.pth", weights_only=True))


def interrupted(cfg: Any, change: Callable[[dict[str, Any]], None] | None = None, workers: int = 0) -> dict[str, Any]:
    """The final checkpoint of a training that is stopped in iteration 3 and goes on from the checkpoint of 1."""
    first = seeded(cfg)
    first.register_hooks([StopAt(2, Stop())])
    with pytest.raises(Stop):
        first.train()
    del first
    if change is not None:
        path = Path(cfg.OUTPUT_DIR) / "model_0000001.pth"
        content = torch.load(path, weights_only=True)
        change(content["trainer"])
        torch.save(content, path)
        (Path(cfg.OUTPUT_DIR) / "checkpoints.json").unlink()
    later = cfg.clone()
    later.DATALOADER.NUM_WORKERS = workers
    torch.manual_seed(99)  # a new process is seeded otherwise
    second = DefaultTrainer(later)
    second.resume_or_load()
    assert second.start_iter == 2
    second.train()
    return final(cfg)


@pytest.fixture(scope="session")
def uninterrupted() -> dict[str, Any]:
    """Filled by the first test that needs it."""
    return {}


def whole_run(make_cfg: MakeCfg, kept: dict[str, Any]) -> dict[str, Any]:
    if not kept:
        cfg = make_cfg("whole", *AUGMENTED)
        seeded(cfg).train()
        kept |= {"final": final(cfg), "metrics": metrics(cfg)}
    return kept


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_training_is_the_uninterrupted_one(
    make_cfg: MakeCfg, uninterrupted: dict[str, Any], workers: int
) -> None:
    whole = whole_run(make_cfg, uninterrupted)
    cfg = make_cfg("broken", *AUGMENTED)
    found = interrupted(cfg, workers=workers)
    assert same(found["model"], whole["final"]["model"])
    for part in ("optimizer", "data_loader", "rng"):
        assert same(found["trainer"]["_trainer"][part], whole["final"]["trainer"]["_trainer"][part])
    assert same(found["trainer"]["hooks"]["EMA"], whole["final"]["trainer"]["hooks"]["EMA"])
    assert metrics(cfg) == whole["metrics"]


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "data position": lambda t: t["_trainer"].pop("data_loader"),
    "momentum": lambda t: t["_trainer"]["optimizer"].update(state={}),
    "average": lambda t: t["hooks"].pop("EMA"),
}


@pytest.mark.parametrize("missing", CHANGES)
def test_without_one_restored_part_it_is_not(make_cfg: MakeCfg, uninterrupted: dict[str, Any], missing: str) -> None:
    whole = whole_run(make_cfg, uninterrupted)["final"]
    found = interrupted(make_cfg("broken", *AUGMENTED), CHANGES[missing])
    if missing == "average":
        assert same(found["model"], whole["model"])
        assert not same(found["trainer"]["hooks"]["EMA"], whole["trainer"]["hooks"]["EMA"])
    else:
        assert not same(found["model"], whole["model"])


def test_watching_never_changes_training(make_cfg: MakeCfg, uninterrupted: dict[str, Any]) -> None:
    whole = whole_run(make_cfg, uninterrupted)["final"]
    bare = seeded(make_cfg("bare", *AUGMENTED), writers=[])
    bare._hooks = [hook for hook in bare._hooks if isinstance(hook, hooks.LRScheduler)]
    bare.train()
    assert same(bare.model.state_dict(), dict(whole["model"]))


def test_precise_statistics_take_nothing_from_the_training(make_cfg: MakeCfg) -> None:
    batch_norm = ("MODEL.BACKBONE.NORM=BN", "SOLVER.MAX_ITER=3", "TEST.EVAL_PERIOD=1", *QUIET)
    precise = ("TEST.PRECISE_BN.ENABLED=True", "TEST.PRECISE_BN.NUM_ITER=2")
    trained = []
    for output, more in (("without", ()), ("with", precise)):
        trainer = seeded(make_cfg(output, *batch_norm, *more))
        trainer.train()
        trained.append(weights(trainer))
    without, with_them = trained
    running = [name for name in without if "running_" in name]
    assert running and not all(torch.equal(without[n], with_them[n]) for n in running)
    assert all(torch.equal(without[n], with_them[n]) for n in without if "running_" not in n)


def test_a_trainer_is_freed_with_its_workers(make_cfg: MakeCfg) -> None:
    trainer = seeded(make_cfg("out", "DATALOADER.NUM_WORKERS=1"))
    trainer.train()
    workers = list(trainer.data_loader._running.batches._workers)  # type: ignore[attr-defined]
    assert workers and all(worker.is_alive() for worker in workers)
    watched = [weakref.ref(trainer), weakref.ref(trainer.model), weakref.ref(trainer.data_loader)]
    del trainer
    gc.collect()
    assert [ref() for ref in watched] == [None, None, None]
    for worker in workers:
        worker.join(10)
    assert not any(worker.is_alive() for worker in workers)


SCRIPT = """
import sys, torch
from drivetrain.engine.defaults import DefaultTrainer, get_cfg
if __name__ == "__main__":
    cfg = get_cfg()
    cfg.merge_from_file(sys.argv[1])
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load()
    trainer.train()
    print("TRAINED", flush=True)
"""


def test_a_process_with_workers_ends_promptly(make_cfg: MakeCfg, tmp_path: Path) -> None:
    cfg = make_cfg("out", "DATALOADER.NUM_WORKERS=2")
    (tmp_path / "cfg.yaml").write_text(cfg.dump())
    (tmp_path / "script.py").write_text(SCRIPT)
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "cfg.yaml")],
        env={"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0 and "TRAINED" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_of_ones_own_learns_from_what_it_likes(tmp_path: Path) -> None:
    """What ``MODEL.NAME`` learns from says nothing about a model that a subclass builds."""

    class Trainer(DefaultTrainer):
        @classmethod
        def build_model(cls, cfg: Any) -> Any:
            return TinyModel()

    records = [{"file_name": f"{k}.jpg", "image_id": k, "height": 8, "width": 8} for k in range(4)]
    DatasetCatalog.register("without_annotations", lambda: records)
    cfg = get_cfg()
    cfg.DATASETS.TRAIN, cfg.MODEL.NUM_CLASSES, cfg.DATALOADER.NUM_WORKERS = ("without_annotations",), 1, 0
    cfg.OUTPUT_DIR, cfg.SOLVER.IMS_PER_BATCH = str(tmp_path), 2
    assert len(Trainer(cfg).data_loader.dataset) == 4  # type: ignore[attr-defined]
    with pytest.raises(DatasetError, match="learns from boxes"):
        DefaultTrainer(cfg)
