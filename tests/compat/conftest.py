"""Drawn images for the scripts, and running a script as either form does."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.compat.builtin_datasets import register_builtin
from drivetrain.compat.config import get_cfg
from drivetrain.compat.importer import install, uninstall
from drivetrain.config import CfgNode
from drivetrain.data.formats.synthetic import make_synthetic
from drivetrain.modeling.registry import MODELS

SCRIPTS = Path(__file__).parent / "scripts"

Run = Callable[..., dict[str, Any]]

STAGES = ["res2", "res3", "res4", "res5"]
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.OUT_FEATURES", STAGES, "MODEL.FPN.IN_FEATURES", STAGES),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 32, "MODEL.FPN.OUT_CHANNELS", 32),
    *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
    *("MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"], "MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"]),
    *("MODEL.ANCHOR_GENERATOR.SIZES", [[8], [16], [32], [64], [128]], "MODEL.ROI_BOX_HEAD.NUM_FC", 1),
    *("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7, "MODEL.ROI_BOX_HEAD.FC_DIM", 16),
]


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and their annotations in COCO's format."""
    folder = tmp_path_factory.mktemp("shapes")
    make_synthetic(folder, train=6, val=2, size=(96, 80), seed=3)
    return folder


@pytest.fixture
def finder() -> Iterator[None]:
    """The imports of detectron2 resolve within the test."""
    install()
    yield
    uninstall()


@pytest.fixture
def run_here(shapes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a script in this process, in an empty folder: ``run_here(path, *arguments)`` gives what it reports."""
    before = dict(sys.modules)
    register_builtin()  # as at the import in a new process; each test forgets the datasets that it registered
    models = set(MODELS.names())
    monkeypatch.setenv("SHAPES", str(shapes_folder))
    monkeypatch.chdir(tmp_path)

    def run(path: Path, *arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        monkeypatch.syspath_prepend(str(path.parent))
        sys.modules.pop("shapes", None)
        with torch.random.fork_rng():
            runpy.run_path(str(path), run_name="__main__")
        result: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
        return result

    yield run
    for name in set(sys.modules) - set(before):
        if name == "shapes":
            del sys.modules[name]
    for name in set(MODELS.names()) - models:
        MODELS.remove(name)


@pytest.fixture
def scripts_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the scripts, to be rewritten."""
    folder = tmp_path_factory.mktemp("project") / "scripts"
    shutil.copytree(SCRIPTS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def environment(shapes_folder: Path) -> dict[str, str]:
    """The environment of a script in a process of its own."""
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "SHAPES": str(shapes_folder), "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def small_cfg() -> Callable[..., CfgNode]:
    """Makes configs of a small two-stage detector: ``small_cfg(key, value, ...)``."""

    def make(*overrides: object) -> CfgNode:
        cfg = get_cfg()
        cfg.merge_from_list([*SMALL, *overrides])
        return cfg

    return make
