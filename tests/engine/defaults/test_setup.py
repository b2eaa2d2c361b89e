"""What a job does once at its beginning."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.engine.defaults.config import get_cfg
from drivetrain.engine.defaults.setup import create_ddp_model, default_setup, default_writers, make_output_dir
from drivetrain.errors import OutputError
from drivetrain.events.writers import CommonMetricPrinter, JSONWriter, TensorboardXWriter


@pytest.fixture
def cfg(tmp_path: Path) -> Any:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path / "a" / "out")
    cfg.SEED = 11
    return cfg


def test_folder_log_and_config(cfg: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("SEED: 11  # a remark\n")
    cfg.freeze()
    default_setup(cfg, argparse.Namespace(config_file=str(file), resume=False))
    folder = Path(cfg.OUTPUT_DIR)
    text = (folder / "log.txt").read_text()
    assert "# a remark" in text and "Command line:" in text and torch.__version__ in text and "resume" in text
    again = get_cfg()
    again.merge_from_file(str(folder / "config.yaml"))
    assert again == cfg
    assert {p.name for p in folder.iterdir()} == {"log.txt", "config.yaml"}


@pytest.mark.parametrize("args", [{}, [], None, argparse.Namespace()])
def test_arguments_of_any_kind(cfg: Any, args: Any) -> None:
    default_setup(cfg, args)
    assert (Path(cfg.OUTPUT_DIR) / "config.yaml").exists()


def test_secrets_among_the_arguments_are_not_logged(cfg: Any) -> None:
    default_setup(cfg, argparse.Namespace(api_key="hidden1", opts=["WANDB.TOKEN", "hidden2"], num_gpus=2, password=""))
    text = (Path(cfg.OUTPUT_DIR) / "log.txt").read_text()
    assert "hidden" not in text and "'api_key': '***'" in text and "'num_gpus': 2" in text and "'password': ''" in text


def test_twice_does_not_double_the_lines(cfg: Any, capsys: pytest.CaptureFixture[str]) -> None:
    default_setup(cfg, {})
    default_setup(cfg, {})
    capsys.readouterr()
    logging.getLogger("drivetrain.somewhere").info("said once")
    assert capsys.readouterr().out.count("said once") == 1
    assert (Path(cfg.OUTPUT_DIR) / "log.txt").read_text().count("said once") == 1


def test_the_seed_fixes_every_generator(cfg: Any) -> None:
    def drawn() -> tuple[float, float]:
        default_setup(cfg, {})
        return torch.rand(()).item(), float(np.random.rand())

    first = drawn()
    assert drawn() == first
    cfg.SEED = 12
    assert drawn() != first
    cfg.SEED = -1
    assert drawn() != drawn()
    assert "Random seed of this process: 11" in (Path(cfg.OUTPUT_DIR) / "log.txt").read_text()


def test_backend_flags(cfg: Any) -> None:
    before, precision = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    try:
        cfg.CUDNN_BENCHMARK, cfg.FLOAT32_PRECISION = not before, "medium"
        default_setup(cfg, argparse.Namespace(eval_only=True))
        assert torch.backends.cudnn.benchmark is before
        default_setup(cfg, {})
        assert torch.backends.cudnn.benchmark is not before
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.backends.cudnn.benchmark = before
        torch.set_float32_matmul_precision(precision)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"file/out' \(OUTPUT_DIR\) cannot be written: Not a directory"):
        make_output_dir(str(tmp_path / "file" / "out"))
    with pytest.raises(OutputError, match="File exists"):
        default_writers(str(tmp_path / "file"))


def test_writers(tmp_path: Path) -> None:
    writers = default_writers(str(tmp_path / "out"), 10)
    assert [type(w) for w in writers] == [CommonMetricPrinter, JSONWriter, TensorboardXWriter]


def test_one_process_needs_no_ddp() -> None:
    model = torch.nn.Linear(1, 1)
    assert create_ddp_model(model, fp16_compression=True, broadcast_buffers=False) is model


def test_ddp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivetrain.runtime.comm.get_world_size", lambda: 2)  # the group below has one member
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        model = create_ddp_model(torch.nn.Linear(1, 1), fp16_compression=True, broadcast_buffers=False)
        assert isinstance(model, torch.nn.parallel.DistributedDataParallel) and not model.broadcast_buffers
        assert model._comm_hooks
    finally:
        torch.distributed.destroy_process_group()
