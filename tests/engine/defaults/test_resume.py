"""What a resume says before it does it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.engine.defaults import DefaultTrainer
from drivetrain.engine.defaults.resume import EndMark, ResumePlan, config_differences
from drivetrain.errors import CheckpointError, IncompatibleWeightsError


def test_differences_of_nested_configs() -> None:
    old = {"A": 1, "B": {"C": [1, 2], "D": "x"}, "GONE": 3}
    new = {"A": 1, "B": {"C": [1, 3], "D": "x", "E": {}}, "A2": None}
    assert set(config_differences(old, new)) == {
        "B.C: [1, 2] -> [1, 3]",
        "B.E: '(none)' -> {}",
        "GONE: 3 -> '(none)'",
        "A2: '(none)' -> None",
    }
    assert list(config_differences(old, old)) == []


def test_the_log_names_file_length_parts_and_changes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        ResumePlan("out/m.pth", 4, 9, ("model", "optimizer"), ("hook EMA",), ("SEED: 1 -> 2",)).log()
    text = caplog.text
    assert "Continues at iteration 4 of 9, 5 left, from out/m.pth\n" in text
    assert "restored: model, optimizer" in text and "starts anew: hook EMA" in text and "SEED: 1 -> 2" in text


def test_the_mark_of_a_training_that_is_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mark = EndMark(tmp_path)
    assert mark.iteration is None
    mark.set(8)
    assert EndMark(tmp_path).iteration == 8
    assert [path.name for path in tmp_path.iterdir()] == ["finished.json"]
    for content in ("", "[]", "{}", '{"iteration": "8"}', '{"iteration": 8'):
        (tmp_path / "finished.json").write_text(content)
        assert mark.iteration is None
    mark.remove()
    mark.remove()
    assert list(tmp_path.iterdir()) == []
    EndMark(tmp_path / "none").set(3)  # no folder is made for it
    assert list(tmp_path.iterdir()) == [] and not caplog.text


def test_a_full_disk_ends_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(Path, "unlink", full)
    EndMark(tmp_path).set(3)
    EndMark(tmp_path).remove()
    assert caplog.text.count("No space left on device") == 2


def test_the_plan_of_a_real_resume(make_cfg: Any, caplog: pytest.LogCaptureFixture) -> None:
    DefaultTrainer(make_cfg("out", "DATASETS.TEST=()")).train()
    trainer = DefaultTrainer(
        make_cfg("out", "DATASETS.TEST=()", "SOLVER.MAX_ITER=5", "SOLVER.EMA.ENABLED=True", "SOLVER.BASE_LR=0.02")
    )
    with caplog.at_level(logging.INFO):
        trainer.resume_or_load()
    assert (trainer.start_iter, trainer.max_iter) == (2, 5)
    text = caplog.text
    assert f"Continues at iteration 2 of 5, 3 left, from {trainer.cfg.OUTPUT_DIR}/model_final.pth\n" in text
    assert "restored: model, optimizer" in text and "data position" in text and "hook LRScheduler" in text
    assert "starts anew: hook EMA" in text
    assert "SOLVER.MAX_ITER: 2 -> 5" in text and "SOLVER.BASE_LR: 0.01 -> 0.02" in text
    assert "OUTPUT_DIR" not in text and "SEED" not in text  # nothing that is the same


def test_without_resume_weights_alone_are_taken(make_cfg: Any) -> None:
    first = DefaultTrainer(make_cfg("out", "DATASETS.TEST=()"))
    first.train()
    cfg = make_cfg("new", "DATASETS.TEST=()", f"MODEL.WEIGHTS={first.cfg.OUTPUT_DIR}/model_final.pth")
    for resume in (True, False):  # nothing to continue in this folder
        trainer = DefaultTrainer(cfg)
        trainer.resume_or_load(resume=resume)
        assert trainer.start_iter == 0 and trainer.restored_parts == ()
        for name, value in first.model.state_dict().items():
            assert torch.equal(value, trainer.model.state_dict()[name])


def test_a_damaged_checkpoint_falls_back_and_never_to_0(make_cfg: Any) -> None:
    cfg = make_cfg("out", "DATASETS.TEST=()", "SOLVER.CHECKPOINT_PERIOD=1")
    DefaultTrainer(cfg).train()
    folder = Path(cfg.OUTPUT_DIR)
    for name in ("model_final.pth", "model_0000001.pth"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-100])
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load()
    assert trainer.start_iter == 1
    (folder / "model_0000000.pth").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="none of them can be used"):
        DefaultTrainer(cfg).resume_or_load()


def test_of_another_model(make_cfg: Any) -> None:
    DefaultTrainer(make_cfg("out", "DATASETS.TEST=()")).train()
    trainer = DefaultTrainer(make_cfg("out", "DATASETS.TEST=()", "MODEL.NAME=retinanet_tiny"))
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    with pytest.raises(IncompatibleWeightsError, match="model_final.pth"):
        trainer.resume_or_load()
    assert trainer.start_iter == 0
    assert all(torch.equal(v, trainer.model.state_dict()[k]) for k, v in before.items())
