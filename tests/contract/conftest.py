"""Drawn images, registered as code in the wild registers its own, and a config that trains on them in a second."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from drivetrain.config import CfgNode
from drivetrain.data.catalog import DatasetCatalog
from drivetrain.data.formats.coco import register_coco_instances
from drivetrain.data.formats.synthetic import SyntheticDataset, make_synthetic
from drivetrain.engine import get_cfg
from drivetrain.engine.hooks import Watchdog

MakeCfg = Callable[..., CfgNode]


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> SyntheticDataset:
    """The images and their annotations in COCO's format."""
    return make_synthetic(tmp_path_factory.mktemp("contract"), train=8, val=4, size=(80, 64), seed=3)


@pytest.fixture(autouse=True)
def same_random_numbers() -> Iterator[None]:
    """Each test draws the same numbers, whichever ran before it; torch's state is put back."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    yield
    torch.set_rng_state(state)


@pytest.fixture
def kill() -> Callable[[Any], NoReturn]:
    """Ends a training, from within it, as SIGKILL does: no ``after_train``, nothing closed; raises SystemExit(137).

    A checkpoint that is being written in the background is waited for, so that it is known from where a resume goes on.
    """

    def end(trainer: Any) -> NoReturn:
        for thread in threading.enumerate():
            if thread not in (threading.current_thread(), threading.main_thread()) and not thread.daemon:
                thread.join(60)
        for hook in trainer._hooks:
            if isinstance(hook, Watchdog):
                hook.after_train()  # its thread would have gone with the process
        trainer.after_train = lambda: None
        raise SystemExit(137)

    return end


@pytest.fixture
def make_cfg(shapes: SyntheticDataset, tmp_path: Path) -> MakeCfg:
    """Makes configs over the registered ``shapes_train`` and ``shapes_val``: ``make_cfg("out", "KEY=VALUE", ...)``."""
    if "shapes_train" not in DatasetCatalog.list():
        register_coco_instances("shapes_train", {}, shapes.train_json, shapes.train_images)
        register_coco_instances("shapes_val", {}, shapes.val_json, shapes.val_images)

    def make(output: str = "out", *overrides: Any) -> CfgNode:
        cfg = get_cfg()
        cfg.OUTPUT_DIR = str(tmp_path / output)
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("shapes_train",), ("shapes_val",)
        cfg.MODEL.NAME = "fcos_tiny"
        cfg.MODEL.DEVICE = "cpu"
        cfg.MODEL.NUM_CLASSES = 3
        cfg.MODEL.SCORE_THRESH_TEST = 0.0
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (64,), 64
        cfg.DATALOADER.NUM_WORKERS = 0
        cfg.SOLVER.IMS_PER_BATCH = 2
        cfg.SOLVER.MAX_ITER = 2
        cfg.SOLVER.WARMUP_ITERS = 0
        cfg.SEED = 7
        cfg.merge_from_list(list(overrides))
        return cfg

    return make
