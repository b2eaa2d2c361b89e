"""Trying everything before iteration 0, and leaving nothing of it."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from drivetrain.checkpoint import Checkpointer
from drivetrain.engine import AMPTrainer, SimpleTrainer, hooks
from drivetrain.engine.defaults import DefaultTrainer, get_cfg
from drivetrain.engine.defaults.rehearsal import rehearse
from drivetrain.errors import CheckpointError, OutputError
from drivetrain.evaluation import DatasetEvaluator
from drivetrain.runtime.seeding import capture_rng_state, seed_all_rng
from drivetrain.testing import TinyLoader, TinyModel


class Count(DatasetEvaluator):
    def reset(self) -> None:
        self.seen = 0

    def process(self, inputs: Any, outputs: Any) -> None:
        self.seen += len(inputs)

    def evaluate(self) -> Mapping[str, Any]:
        return {"count": {"images": float(self.seen)}}


class Noting(TinyModel):
    """Counts and keeps in attributes what no state holds, and draws from every generator."""

    steps = 0

    def forward(self, batch: Any) -> Any:
        self.steps += 1
        self.last = torch.rand(2)
        random.random()
        return super().forward(batch)


class HookedOnce(TinyModel):
    """Puts a hook on itself in its first call and notes that it has, as models of the transformers library do."""

    hooked = False

    def forward(self, batch: Any) -> Any:
        if not self.hooked:
            self.hooked = True
            self.register_forward_hook(lambda *_: None)
        return super().forward(batch)


def tiny(folder: Path, *overrides: Any, cls: type[DefaultTrainer] = DefaultTrainer, **parts: Any) -> Any:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(folder)
    cfg.merge_from_list(["SOLVER.MAX_ITER=4", "SOLVER.WARMUP_ITERS=0", "SOLVER.EMA.ENABLED=True", *overrides])
    seed_all_rng(0)
    model = parts.pop("model", None) or Noting()
    return cls(
        cfg,
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        **{
            "train_loader": TinyLoader(),
            "test_loaders": [[TinyLoader().batch(9)]],
            "evaluators": [Count()],
            **parts,
        },
    )


def everything(trainer: Any) -> dict[str, Any]:
    """What a training goes on from."""
    return {
        "state": trainer.state_dict(),
        "model": trainer.model.state_dict(),
        "gradients": {name: p.grad for name, p in trainer.model.named_parameters()},
        "training": [module.training for module in trainer.model.modules()],
        "notes": (trainer.model.steps, getattr(trainer.model, "last", None)),
        "place": (trainer.iter, trainer.data_loader.position, vars(trainer).get("_data_loader_iter")),
        "rng": capture_rng_state(),
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    return type(value)(map(copied, value)) if type(value) in (list, tuple) else value


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("trained", [0, 2])
def test_everything_is_as_before(tmp_path: Path, trained: int, precision: str, caplog: Any) -> None:
    trainer = tiny(tmp_path, f"SOLVER.PRECISION={precision}", "SOLVER.ACCUMULATE=2")
    if trained:  # with momentum, gradients and an average in place
        SimpleTrainer.train(trainer, 0, trained)
    before = copied(everything(trainer))
    files = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with caplog.at_level(logging.INFO):
        rehearse(trainer)
    assert "a step, an evaluation batch, a checkpoint, the writers" in caplog.text
    assert same(everything(trainer), before)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == files


def test_the_comparison_sees_what_would_be_left(tmp_path: Path) -> None:
    """The negative control: the same step without being put back."""
    trainer = tiny(tmp_path)
    before = copied(everything(trainer))
    SimpleTrainer.train(trainer, 0, 1)
    after = everything(trainer)
    assert [key for key in before if not same(before[key], after[key])] == [
        "state",
        "model",
        "gradients",
        "notes",
        "place",
        "rng",
    ]


def test_a_training_is_the_same_with_and_without_it(make_cfg: Any) -> None:
    ends = []
    for rehearsed in (True, False):
        cfg = make_cfg(f"out{rehearsed}", f"REHEARSE={rehearsed}", "INPUT.RANDOM_FLIP=both", "SOLVER.MAX_ITER=3")
        seed_all_rng(0)
        trainer = DefaultTrainer(cfg)
        trainer.train()
        lines = [json.loads(line) for line in (Path(cfg.OUTPUT_DIR) / "metrics.json").open()]
        ends.append((trainer.model.state_dict(), [line.get("total_loss") for line in lines], capture_rng_state()))
        assert not list(Path(cfg.OUTPUT_DIR).glob(".rehearsal*"))
    assert same(*ends)


def test_what_fails_is_named_before_anything_is_trained(tmp_path: Path, caplog: Any) -> None:
    class Broken(Noting):
        def forward(self, batch: Any) -> Any:
            if not self.training:
                raise RuntimeError("no way")
            return super().forward(batch)

    trainer = tiny(tmp_path, model=Broken())
    before = copied(everything(trainer))
    with pytest.raises(RuntimeError, match="no way"):
        trainer.train()
    assert "The rehearsal before iteration 0 failed at: an evaluation batch" in caplog.text
    assert same(everything(trainer), before)
    trainer = tiny(tmp_path, "REHEARSE=False", model=Broken())
    with pytest.raises(RuntimeError):
        trainer.train()
    assert trainer.iter == 4


def test_a_checkpoint_that_could_not_be_saved_or_written(tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    trainer = tiny(tmp_path)
    trainer.checkpointer.add_checkpointable("odd", _Odd())
    with pytest.raises(CheckpointError, match="odd"):
        trainer.train()
    assert trainer.iter == 0
    trainer = tiny(tmp_path / "other")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    rehearse(trainer)
    assert "the disk of" in caplog.text and "has 0 MB left" in caplog.text
    (tmp_path / "file").write_text("")
    trainer = tiny(tmp_path / "third")
    trainer.cfg.defrost()
    trainer.cfg.OUTPUT_DIR = str(tmp_path / "file")
    with pytest.raises(OutputError):
        rehearse(trainer)


class _Odd:
    def state_dict(self) -> Any:
        return {"odd": object()}

    def load_state_dict(self, state: Any) -> None:
        raise AssertionError


def test_a_loss_that_is_not_finite_is_left_to_the_training(tmp_path: Path) -> None:
    class Wild(Noting):
        def forward(self, batch: Any) -> Any:
            out = super().forward(batch)
            return {**out, "loss_box": out["loss_box"] * float("nan")} if self.training else out

    trainer = tiny(tmp_path, "SOLVER.NON_FINITE=skip", model=Wild())
    trainer.train()
    assert trainer.state_dict()["_trainer"]["non_finite"] == {"skipped": 4}


@pytest.mark.parametrize("kind", ["list", "DataLoader", "iterator"])
def test_loaders(tmp_path: Path, kind: str, caplog: Any) -> None:
    items = [item for index in range(6) for item in TinyLoader().batch(index)]
    loaders: dict[str, Any] = {
        "list": [TinyLoader().batch(index) for index in range(6)],
        "DataLoader": DataLoader(items, batch_size=4, shuffle=True, collate_fn=list, generator=torch.Generator()),
        "iterator": iter([TinyLoader().batch(index) for index in range(6)]),
    }
    ends = []
    for rehearsed in (True, False):
        loader = iter(loaders["list"]) if kind == "iterator" else loaders[kind]
        if kind == "DataLoader":
            loader.generator.manual_seed(3)
        trainer = tiny(tmp_path / f"{rehearsed}", f"REHEARSE={rehearsed}", train_loader=loader)
        with caplog.at_level(logging.INFO):
            trainer.train()
        ends.append(trainer.model.state_dict())
    assert same(*ends)
    assert ("a step, " in caplog.text) == (kind != "iterator")


def test_what_belongs_to_the_user_is_not_tried(tmp_path: Path, caplog: Any) -> None:
    class Own(DefaultTrainer):
        calls = 0

        def run_step(self) -> None:
            self.calls += 1
            super().run_step()

        @classmethod
        def test(cls, cfg: Any, model: Any, evaluators: Any = None) -> Any:
            raise AssertionError

        def build_writers(self) -> Any:
            return []

    trainer = tiny(tmp_path, cls=Own)
    with caplog.at_level(logging.INFO):
        rehearse(trainer)
    assert trainer.calls == 0 and trainer.model.steps == 0
    assert ": a checkpoint" in caplog.text


def test_another_trainer_that_makes_the_step(tmp_path: Path, caplog: Any) -> None:
    trainer = tiny(tmp_path)
    trainer._trainer = AMPTrainer(trainer.model, TinyLoader(), trainer.optimizer, precision=torch.bfloat16)
    before = copied(trainer.model.state_dict())
    with caplog.at_level(logging.INFO):
        rehearse(trainer)
    assert "a step, " in caplog.text and same(trainer.model.state_dict(), before)
    assert trainer._trainer.data_loader.position == 0


def test_without_an_evaluation_none_is_tried(tmp_path: Path, caplog: Any) -> None:
    trainer = tiny(tmp_path)
    trainer._hooks = [hook for hook in trainer._hooks if not isinstance(hook, hooks.EvalHook)]
    with caplog.at_level(logging.INFO):
        rehearse(trainer)
    assert "a step, a checkpoint" in caplog.text
    assert isinstance(trainer.checkpointer, Checkpointer) and not list(tmp_path.glob("*.pth"))


def test_hooks_of_the_model_are_put_back_with_what_it_notes_of_them(tmp_path: Path) -> None:
    trainer = tiny(tmp_path, model=HookedOnce())
    rehearse(trainer)
    assert not trainer.model.hooked and not trainer.model._forward_hooks
    trainer.train()
    assert trainer.model.hooked and len(trainer.model._forward_hooks) == 1
