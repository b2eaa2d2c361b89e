"""Best checkpoint, early stopping and plateau schedule act on one and the same evaluation, across a resume too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from drivetrain.checkpoint import read_checkpoint
from drivetrain.engine import DefaultTrainer, HookBase, get_cfg, hooks
from drivetrain.runtime.seeding import seed_all_rng
from drivetrain.testing import TinyLoader, TinyModel

PERIOD, PATIENCE = 3, 3
# What the evaluations after iterations 2, 5, 8 ... give; NaN is no progress, and neither is what equals the best.
VALUES = (10.0, 20.0, float("nan"), 40.0, 30.0, 35.0, 40.0, 50.0)
STOPPED_AT = 3 * 7  # the third in a row without improvement


class Hears(HookBase):
    """Notes what every evaluation gave, as the hooks are told it."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, float]] = []

    def after_evaluation(self, results: Mapping[str, float]) -> None:
        latest, iteration = self.trainer.storage.latest()["bbox/AP"]
        assert str(latest) == str(results["bbox/AP"])  # nothing stale
        self.heard.append((iteration, latest))

    def state_dict(self) -> dict[str, Any]:
        return {"heard": [list(entry) for entry in self.heard]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.heard = [(int(i), float(v)) for i, v in state["heard"]]


class Trainer(DefaultTrainer):
    """The n-th evaluation gives the n-th value."""

    @classmethod
    def test(cls, cfg: Any, model: Any, evaluators: Any = None) -> Any:
        return {"bbox": {"AP": VALUES[int(model.done) // PERIOD - 1]}}


class Counting(TinyModel):
    """Knows after how many steps it is; a checkpoint holds that."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("done", torch.zeros((), dtype=torch.long))

    def forward(self, batch: Any) -> Any:
        self.done += self.training
        return super().forward(batch)


def build(folder: Path) -> tuple[Trainer, Hears]:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(folder)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD = 100, 2, PERIOD
    cfg.SOLVER.BEST_METRIC = "bbox/AP"
    seed_all_rng(0)
    model = Counting()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", factor=0.5, patience=0)
    hears = Hears()
    parts: dict[str, Any] = {"optimizer": optimizer, "scheduler": plateau, "train_loader": TinyLoader(), "writers": []}
    trainer = Trainer(cfg, model=model, hooks=[hooks.EarlyStopping("bbox/AP", PATIENCE), hears], **parts)
    return trainer, hears


def outcome(trainer: Trainer, hears: Hears) -> dict[str, Any]:
    best = next(hook for hook in trainer._hooks if isinstance(hook, hooks.BestCheckpointer))
    saved = read_checkpoint(Path(trainer.cfg.OUTPUT_DIR) / "model_best.pth")
    return {
        "end": (trainer.iter, trainer.max_iter),
        "best": (best.best_metric, best.best_iter, saved["iteration"], saved["metric"]),
        "rates": [value for value, _ in trainer.storage.history("lr").values()][-8:],
        "heard": [(i, str(value)) for i, value in hears.heard],
        "last": str(trainer._last_eval_results["bbox"]["AP"]),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    state = torch.get_rng_state()
    trainer, hears = build(tmp_path_factory.mktemp("whole"))
    trainer.train()
    torch.set_rng_state(state)
    yield outcome(trainer, hears)


def test_the_uninterrupted_training(whole: dict[str, Any]) -> None:
    assert whole["end"] == (STOPPED_AT, STOPPED_AT)
    assert whole["best"] == (40.0, 11, 11, {"bbox/AP": 40.0})
    assert whole["heard"] == [(3 * n + 2, str(value)) for n, value in enumerate(VALUES[:7])]
    # NaN, 30, 35 and 40 are no progress; the last one comes after the last step.
    assert whole["rates"] == [0.2, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05]


@pytest.mark.parametrize(
    ("iteration", "point"),
    [
        *((i, "after_step") for i in (1, 2, 5, 6, 7, 9, 11, 12, 14, 17, 20)),
        *((i, "after_evaluation") for i in (2, 5, 11, 14, 17)),
    ],
)
def test_a_resumed_one_decides_alike(
    kill: Callable[[Any], NoReturn], whole: dict[str, Any], tmp_path: Path, iteration: int, point: str
) -> None:
    """Killed after an evaluation's checkpoint and before, during and after the evaluation itself."""
    trainer, _ = build(tmp_path)
    hook = HookBase()
    setattr(hook, point, lambda *results: kill(trainer) if trainer.iter == iteration else None)
    trainer._hooks.insert(0, hook)
    with pytest.raises(SystemExit, match="137"):
        trainer.train()
    resumed, hears = build(tmp_path)
    resumed.resume_or_load()
    assert resumed.start_iter == (iteration + (point == "after_evaluation")) // 2 * 2
    resumed.train()
    assert outcome(resumed, hears) == whole


def test_a_metric_that_is_missing_stops_nothing_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer, _ = build(tmp_path)
    trainer._hooks = [h for h in trainer._hooks if not isinstance(h, Hears)]
    trainer.test = lambda cfg, model: {"bbox": {"AP50": 3.0}}  # type: ignore[method-assign, assignment, misc]
    trainer.scheduler = torch.optim.lr_scheduler.ConstantLR(trainer.optimizer)
    trainer.max_iter = 12
    with caplog.at_level(logging.WARNING, logger="drivetrain"):
        trainer.train()
    assert trainer.iter == 12 and not (tmp_path / "model_best.pth").exists()
    assert "the evaluation has no metric 'bbox/AP'; did you mean 'bbox/AP50'" in caplog.text
