"""``metrics.json`` of a training that was killed, at any iteration, and continued is that of one that was not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from drivetrain.engine import DefaultTrainer, get_cfg, hooks
from drivetrain.events import JSONWriter
from drivetrain.runtime.seeding import seed_all_rng
from drivetrain.testing import TinyLoader, TinyModel

LENGTH, SAVED_EACH, EVALUATED_EACH = 47, 7, 6
KilledAt = Callable[[Path, int, str], None]
BY_THE_CLOCK = ("time", "data_time", "rank_data_time", "eta_seconds")


class Trainer(DefaultTrainer):
    """Evaluates by a function of the weights."""

    @classmethod
    def test(cls, cfg: Any, model: Any, evaluators: Any = None) -> Any:
        return {"bbox": {"AP": sum(float(p.detach().double().sum()) for p in model.parameters())}}


def trainer(folder: Path) -> Trainer:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(folder)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS = LENGTH, 5
    cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD = SAVED_EACH, EVALUATED_EACH
    seed_all_rng(3)
    return Trainer(
        cfg, model=TinyModel(), train_loader=TinyLoader(), writers=[JSONWriter(str(folder / "metrics.json"))]
    )


def run(folder: Path) -> None:
    """Train, from the last checkpoint if there is one."""
    own = trainer(folder)
    own.resume_or_load()
    own.train()


@pytest.fixture
def killed_at(kill: Callable[[Any], NoReturn]) -> KilledAt:
    """Trains in a folder until a kill before or after a step."""

    def train(folder: Path, iteration: int, point: str) -> None:
        own = trainer(folder)
        hook = hooks.CallbackHook(**{point: lambda t: kill(own) if t.iter == iteration else None})
        own._hooks.insert(0 if point == "before_step" else len(own._hooks), hook)
        own.resume_or_load()
        with pytest.raises(SystemExit, match="137"):
            own.train()

    return train


def lines(folder: Path) -> list[dict[str, Any]]:
    """The lines, with those numbers that a clock gave set to 0."""
    parsed = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [{name: 0 if name in BY_THE_CLOCK else value for name, value in line.items()} for line in parsed]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """The lines of the training that nobody killed."""
    folder = tmp_path_factory.mktemp("whole")
    state = torch.get_rng_state()
    run(folder)
    torch.set_rng_state(state)
    yield lines(folder)


def test_the_training_that_nobody_killed(whole: list[dict[str, Any]]) -> None:
    """What the others are compared with is what it should be."""
    assert [line["iteration"] for line in whole if "total_loss" in line] == [19, 39, 46]
    evaluated = [line["iteration"] for line in whole if "bbox/AP" in line]
    assert evaluated == [*range(EVALUATED_EACH - 1, LENGTH, EVALUATED_EACH), LENGTH - 1]
    assert len({line["bbox/AP"] for line in whole if "bbox/AP" in line}) == len(evaluated)


@pytest.mark.parametrize("point", ["before_step", "after_step"])
@pytest.mark.parametrize("iteration", [0, 5, 6, 7, 12, 19, 20, 21, 27, 38, 39, 40, 46])
def test_killed_once(
    killed_at: KilledAt, whole: list[dict[str, Any]], tmp_path: Path, iteration: int, point: str
) -> None:
    killed_at(tmp_path, iteration, point)
    run(tmp_path)
    assert lines(tmp_path) == whole


def test_killed_again_and_again(killed_at: KilledAt, whole: list[dict[str, Any]], tmp_path: Path) -> None:
    for iteration in (3, 9, 9, 23, 22, 30, 45):
        killed_at(tmp_path, iteration, "after_step")
    with open(tmp_path / "metrics.json", "ab") as file:
        file.write(b'{"bbox/AP": 4')  # within a write
    run(tmp_path)
    assert lines(tmp_path) == whole


def test_the_comparison_sees_what_is_lost(killed_at: KilledAt, whole: list[dict[str, Any]], tmp_path: Path) -> None:
    """Without the events in the checkpoint, medians after the resume are others."""
    killed_at(tmp_path, 17, "after_step")
    checkpoint = tmp_path / "model_0000013.pth"
    content = torch.load(checkpoint, weights_only=True)
    del content["trainer"]["_trainer"]["events"]
    torch.save(content, checkpoint)
    (tmp_path / "checkpoints.json").unlink()
    run(tmp_path)
    assert lines(tmp_path) != whole
