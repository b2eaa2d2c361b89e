"""How a training begins: resume, extend, finetune."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.engine.defaults import DefaultTrainer
from drivetrain.engine.defaults.resume import EndMark
from drivetrain.engine.hooks import CallbackHook
from drivetrain.errors import CheckpointError, ConfigError, IncompatibleWeightsError

COSINE = ("SOLVER.LR_SCHEDULER_NAME=WarmupCosineLR", "DATASETS.TEST=()", "SOLVER.CHECKPOINT_PERIOD=2")


def trained(cfg: Any) -> DefaultTrainer:
    torch.manual_seed(0)
    trainer = DefaultTrainer(cfg)
    trainer.train()
    return trainer


def rates(cfg: Any) -> dict[int, float]:
    lines = [json.loads(line) for line in (Path(cfg.OUTPUT_DIR) / "metrics.json").open()]
    return {line["iteration"]: line["lr"] for line in lines if "lr" in line}


def test_resume_needs_a_checkpoint_and_iterations(make_cfg: Any) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint in .*out.*nothing to continue"):
        DefaultTrainer(make_cfg()).resume()
    with pytest.raises(CheckpointError, match="nothing to extend"):
        DefaultTrainer(make_cfg()).extend()
    trained(make_cfg("out", *COSINE))
    with pytest.raises(ConfigError, match="no iteration is left.*finished iteration 1 and SOLVER.MAX_ITER is 2"):
        DefaultTrainer(make_cfg("out", *COSINE)).resume()


def test_what_comes_after_the_last_iteration_is_made_up_for_once(make_cfg: Any, caplog: Any) -> None:
    """The process was killed in its last evaluation, as the checkpoint of the last iteration was on the disk."""

    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    cfg = make_cfg("out", "TEST.EVAL_PERIOD=2", "SOLVER.CHECKPOINT_PERIOD=1")
    torch.manual_seed(0)
    killed = DefaultTrainer(cfg)
    killed._evaluate = kill  # type: ignore[method-assign]
    with pytest.raises(Killed):
        killed.train()
    trainer = DefaultTrainer(cfg)
    with caplog.at_level(logging.INFO):
        trainer.resume()
    assert "All 2 iterations are done, but the training ended before its last evaluation" in caplog.text
    results = trainer.train()
    assert trainer.iter == 2 and "AP" in results["bbox"]
    assert [i for _, i in trainer.storage.history("bbox/AP").values()] == [1]
    expected = killed.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in trainer.model.state_dict().items())
    lines = [json.loads(line) for line in (Path(cfg.OUTPUT_DIR) / "metrics.json").open()]
    assert sum("bbox/AP" in line for line in lines) == 1
    with pytest.raises(ConfigError, match="no iteration is left"):
        DefaultTrainer(cfg).resume()
    again = DefaultTrainer(cfg)
    again.resume(end_again=True)
    assert again.train() == results
    lines = [json.loads(line) for line in (Path(cfg.OUTPUT_DIR) / "metrics.json").open()]
    assert sum("bbox/AP" in line for line in lines) == 1


def test_a_training_that_begins_is_not_over(make_cfg: Any) -> None:
    cfg = make_cfg("out", *COSINE)
    trained(cfg)
    assert EndMark(cfg.OUTPUT_DIR).iteration == 1
    anew = DefaultTrainer(cfg)
    seen: list[Any] = []
    anew.register_hooks([CallbackHook(after_step=lambda t: seen.append(EndMark(cfg.OUTPUT_DIR).iteration))])
    anew.after_backward = lambda: 1 / 0 if anew.iter == 1 else None  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(ZeroDivisionError):
        anew.train()
    assert seen == [None] and EndMark(cfg.OUTPUT_DIR).iteration is None


def test_extend_follows_the_schedule_of_the_new_length_at_once(make_cfg: Any, caplog: Any) -> None:
    trained(make_cfg("out", *COSINE))
    longer = make_cfg("out", *COSINE, "SOLVER.MAX_ITER=4")
    trainer = DefaultTrainer(longer)
    with caplog.at_level(logging.INFO):
        trainer.extend()
    assert "Extended from 2 to 4 iterations" in caplog.text and "the next learning rate 0.005" in caplog.text
    assert "optimizer" in trainer.restored_parts and trainer.start_iter == 2
    trainer.train()
    trained(make_cfg("whole", *COSINE, "SOLVER.MAX_ITER=4"))
    whole = rates(make_cfg("whole"))
    assert rates(longer)[3] == whole[3]
    assert trainer.storage.history("lr").values()[-2:] == [(pytest.approx(0.005), 2), (whole[3], 3)]


def test_extend_to_what_it_was_made_for(make_cfg: Any) -> None:
    trained(make_cfg("out", *COSINE))
    with pytest.raises(
        ConfigError, match="MAX_ITER is 2, but the training .* was made for 2 iterations and has done 2"
    ):
        DefaultTrainer(make_cfg("out", *COSINE)).extend()


def test_finetune_takes_the_averaged_weights_and_leaves_layers_for_other_classes(make_cfg: Any, caplog: Any) -> None:
    source = trained(make_cfg("out", *COSINE, "SOLVER.EMA.ENABLED=True"))
    path = str(Path(source.cfg.OUTPUT_DIR) / "model_final.pth")
    average = next(hook for hook in source._hooks if type(hook).__name__ == "EMA").average
    torch.manual_seed(1)
    trainer = DefaultTrainer(make_cfg("tuned", *COSINE, "MODEL.NUM_CLASSES=5"))
    fresh = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with caplog.at_level(logging.INFO):
        trainer.finetune(path)
    state = trainer.model.state_dict()
    for name, value in average.items():
        other = fresh[name].shape != value.shape
        assert torch.equal(state[name], fresh[name] if other else value), name
        assert other == ("cls_logits" in name)
    assert "other shape" in caplog.text and "cls_logits" in caplog.text
    assert trainer.start_iter == 0 and not trainer.optimizer.state


def test_finetune_from_something_else(make_cfg: Any, tmp_path: Path) -> None:
    trainer = DefaultTrainer(make_cfg("out", *COSINE))
    with pytest.raises(CheckpointError, match="nothere"):
        trainer.finetune("nothere.pth")
    torch.save({"model": {"other": torch.ones(2)}}, tmp_path / "other.pth")
    with pytest.raises(IncompatibleWeightsError, match=r"other\.pth"):
        trainer.finetune(str(tmp_path / "other.pth"))


@pytest.mark.parametrize("root", ["model.", "module.model.", "model._orig_mod."])
def test_finetune_takes_weights_whose_names_begin_with_what_was_around_the_model(make_cfg: Any, root: str) -> None:
    source, trainer = DefaultTrainer(make_cfg("out", *COSINE)), DefaultTrainer(make_cfg("tuned", *COSINE))
    wanted = {name: value + 1 for name, value in source.model.state_dict().items()}
    path = Path(source.cfg.OUTPUT_DIR) / "other.pth"
    torch.save({"state_dict": {root + name: value for name, value in wanted.items()}}, path)
    trainer.finetune(str(path))
    assert all(torch.equal(value, wanted[name]) for name, value in trainer.model.state_dict().items())
