"""Scripts written for detectron2 run, as they are and rewritten."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivetrain.cli.main import main

SCRIPTS = Path(__file__).parent / "scripts"
Run = Callable[..., dict[str, Any]]
NAMES = sorted(p.stem for p in SCRIPTS.glob("*.py") if p.stem != "shapes")
ARGUMENTS = {"train_net": ["--config-file", str(SCRIPTS / "tiny.yaml"), "SOLVER.MAX_ITER", "2"]}
SHORT_MIGRATED = ("writer", "own_model")  # the others in that form are slow tests

EXPECTED: dict[str, dict[str, Any]] = {
    "tutorial": {
        "tasks": ["bbox", "segm"],
        "zip_url": True,
        "drawn": [40, 48, 3],
        "picture": "uint8",
        "masks": [80, 96],
        "image": [80, 96],
        "last": ["model_final.pth"],
    },
    "train_net": {"ranks": 1, "tasks": ["bbox"], "iteration": 2, "opts": ["SOLVER.MAX_ITER", "2"]},
    "plain_train": {"first": [0, 1], "second": [2, 3], "tasks": ["bbox"]},
    "loss_hook": {"iterations": [1, 3], "finite": True, "order": ["LossEvalHook", "PeriodicWriter"]},
    "early_stop": {
        "ends": {
            "StopByIteration": ["StopIteration", 1, False],
            "StopByException": ["EarlyStopped", 1, False],
            "StopByLength": ["returned", 2, True],
        },
        "after_train": 3,
    },
    "own_step": {"updates": {"SimpleAccumulating": 2, "AMPAccumulating": 2}, "losses": [4, 4]},
    "teacher_student": {
        "iteration": 3,
        "differ": True,
        "prefixes": ["modelStudent", "modelTeacher"],
        "losses": 3,
    },
    "resume_pth": {
        "found": {"start": 2, "weights": True, "momentum": True},
        "trained": 4,
        "decayed": True,
        "steps": 2,
    },
    "custom_mapper": {"finished": [3, 3], "shapes": [[3, 64, 80]]},
    "own_model": {"built": "ScaledRCNN", "trained": "ScaledRCNN", "scale": 0.5, "iteration": 3},
    "own_backbone": {
        "build_slim_fpn_backbone": [3, True, False, 2, 64],
        "build_block_fpn_backbone": [3, True, False, 3, 64],
        "kept": [1, 2],
    },
    "own_heads": {
        "losses": ["loss_box_reg", "loss_cls", "loss_rpn_cls", "loss_rpn_loc"],
        "sampled": True,
        "size": [80, 96],
        "found": True,
        "is_one": True,
        "mask_features": [32, 14, 14],
        "same": True,
    },
    "demo": {
        "train": ["coco_2017_train"],
        "classes": ["person", 80],
        "same": True,
        "known": True,
        "found": True,
        "picture": [96, 115, 3],
        "frame": [80, 96, 3],
        "saved": True,
        "flops": True,
        "parameters": True,
    },
    "service": {
        "found": True,
        "inside": True,
        "fields": ["pred_boxes", "pred_classes", "scores"],
        "metadata": ["circle", "square", "triangle"],
        "input_format": "BGR",
    },
    "writer": {
        "last": "closed",
        "project": "shapes",
        "rate": 0.001,
        "is_dict": True,
        "storage": True,
        "version": "0.6",
    },
}


def check(name: str, found: dict[str, Any]) -> None:
    assert {key: found[key] for key in EXPECTED[name]} == EXPECTED[name]


def test_every_script_is_checked() -> None:
    assert set(NAMES) == set(EXPECTED)


@pytest.mark.parametrize("name", NAMES)
def test_unmodified(name: str, finder: None, run_here: Run) -> None:
    check(name, run_here(SCRIPTS / f"{name}.py", *ARGUMENTS.get(name, ())))


def test_resume_of_the_older_form(finder: None, run_here: Run) -> None:
    check("resume_pth", run_here(SCRIPTS / "resume_pth.py", "old"))


@pytest.mark.parametrize("name", [n if n in SHORT_MIGRATED else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_rewritten(name: str, scripts_copy: Path, run_here: Run, capsys: pytest.CaptureFixture[str]) -> None:
    scripts = sorted(scripts_copy.glob("*.py"))
    assert main(["migrate", *map(str, scripts)]) == 0
    assert all("Cityscapes" in line for line in capsys.readouterr().err.splitlines()), "these are not used"
    for path in scripts:
        assert not re.search(r"^\s*(import|from) detectron2", path.read_text(), flags=re.MULTILINE), path.name
    check(name, run_here(scripts_copy / f"{name}.py", *ARGUMENTS.get(name, ())))


def test_by_the_command(environment: dict[str, str], tmp_path: Path) -> None:
    """The imports resolve in a process that is started for them, whose folder is another one."""
    command = [sys.executable, "-m", "drivetrain.compat", str(SCRIPTS / "train_net.py"), *ARGUMENTS["train_net"]]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=300)
    check("train_net", json.loads((tmp_path / "result.json").read_text()))


@pytest.mark.slow
def test_evaluation_with_augmentation(finder: None, run_here: Run) -> None:
    config = ["--config-file", str(SCRIPTS / "tiny.yaml")]
    run_here(SCRIPTS / "train_net.py", *config, "SOLVER.MAX_ITER", "1")
    keys = ["MODEL.WEIGHTS", "output/model_final.pth", "TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(48, 64)"]
    found = run_here(SCRIPTS / "train_net.py", "--eval-only", *config, *keys)
    assert found == {"results": ["bbox", "bbox_TTA"]}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["script", "module"])
def test_on_two_processes_with_workers(form: str, environment: dict[str, str], tmp_path: Path) -> None:
    """Processes that ``launch`` starts, and workers of their loaders, resolve the imports too."""
    target = [str(SCRIPTS / "train_net.py")] if form == "script" else ["-m", "scripts.train_net"]
    command = [sys.executable, "-m", "drivetrain.compat", *target, "--num-gpus", "2"]
    command += ["--config-file", str(SCRIPTS / "tiny.yaml"), "SOLVER.MAX_ITER", "2", "DATALOADER.NUM_WORKERS", "1"]
    env = {**environment}
    env["PYTHONPATH"] += f":{SCRIPTS.parent}:{SCRIPTS}"
    subprocess.run(command, cwd=tmp_path, env=env, check=True, timeout=300)
    found = json.loads((tmp_path / "result.json").read_text())
    assert (found["ranks"], found["iteration"], found["tasks"]) == (2, 2, ["bbox"])
