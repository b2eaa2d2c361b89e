from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from drivetrain.runtime import environment
from drivetrain.runtime.environment import Row, collect_env_info, environment_rows, redacted


def row(name):
    return next(r for r in environment_rows() if r.name == name)


def test_the_rows_tell_the_truth():
    assert torch.__version__ in row("torch").value
    assert row("torch").ok is True
    assert row("numpy").value == metadata.version("numpy")
    assert row("python").ok is True
    names = [r.name for r in environment_rows()]
    assert len(names) == len(set(names))
    assert {"platform", "drivetrain", "torchvision", "cpu cores", "memory", "simplejpeg"} <= set(names)


def test_the_table_is_aligned_and_one_line_a_row():
    rows, table = environment_rows(), collect_env_info().splitlines()
    assert len(table) == len(rows)
    width = max(len(r.name) for r in rows)
    for r, line in zip(rows, table, strict=True):
        assert line[:width].rstrip() == r.name
        assert line[width : width + 2] == "  "


def test_what_is_missing_has_advice(monkeypatch):
    monkeypatch.setattr(environment, "_version", lambda name: None)
    needed, optional = row("timm"), row("simplejpeg")
    assert (needed.value, needed.ok, needed.advice) == ("not installed", False, "pip install timm")
    assert optional.ok is None
    assert "drivetrain[fast]" in optional.advice
    assert "[pip install timm]" in collect_env_info()


def test_an_old_torch_and_little_shared_memory_are_pointed_out(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    assert row("torch").ok is False

    class Usage:
        free, total = 10 * 2**20, 64 * 2**20

    if Path("/dev/shm").is_dir():
        monkeypatch.setattr(environment.shutil, "disk_usage", lambda path: Usage)
        assert row("shared memory").ok is False
        assert "--shm-size" in row("shared memory").advice


def test_the_memory_limit_of_a_container_counts(monkeypatch):
    monkeypatch.setattr(environment, "_read_int", lambda path: 3 * 2**30)
    assert row("memory").value == "3.0 GiB"
    monkeypatch.setattr(environment, "_read_int", lambda path: None)
    assert float(row("memory").value.split()[0]) > 0.1


def test_numbers_are_read_from_files(tmp_path):
    (tmp_path / "a").write_text("12\n")
    (tmp_path / "b").write_text("max\n")
    assert [environment._read_int(str(tmp_path / n)) for n in "abc"] == [12, None, None]


def test_gpus_are_counted_by_kind(monkeypatch):
    class Properties:
        name, total_memory = "Card X", 80 * 2**30

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Properties)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91000)
    assert row("gpu") == Row("gpu", "4 x Card X, 80 GiB", True)


@pytest.mark.slow
def test_no_library_is_imported_for_its_version():
    code = "import sys; from drivetrain.runtime import collect_env_info as c; c(); print(*sys.modules)"
    root = Path(__file__).resolve().parents[2]
    loaded = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert not {"torchvision", "timm", "rich", "PIL", "simplejpeg"} & set(loaded.stdout.split())


def test_secrets_do_not_get_into_the_log() -> None:
    words = ["train.py", "--api-key", "abc", "--num-gpus", "2", "WANDB.TOKEN=abc", "PASSWORD", "abc", "token.txt", "x"]
    assert redacted(words) == [
        "train.py",
        "--api-key",
        "***",
        "--num-gpus",
        "2",
        "WANDB.TOKEN=***",
        "PASSWORD",
        "***",
        "token.txt",
        "x",
    ]
    assert redacted(["--token", "--resume", "yes"]) == ["--token", "--resume", "yes"]
    assert redacted(["SOLVER.MAX_ITER", 3, 1e-4]) == ["SOLVER.MAX_ITER", 3, 1e-4]
