"""Eight drawn images and a config that trains the tiny detector on them in a second."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.config import CfgNode
from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.synthetic import SyntheticDataset, make_synthetic
from drivetrain.engine.defaults.config import get_cfg

MakeCfg = Callable[..., CfgNode]


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> SyntheticDataset:
    """The images."""
    return make_synthetic(tmp_path_factory.mktemp("shapes"), train=8, val=4, size=(80, 64), seed=3)


@pytest.fixture(autouse=True)
def leave_nothing() -> Iterator[None]:
    """Forget datasets, log files and random state of a test."""
    names, metadata, rng = DatasetCatalog.list(), MetadataCatalog.list(), torch.get_rng_state()
    logger = logging.getLogger("drivetrain")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    for name in set(DatasetCatalog.list()) - set(names):
        DatasetCatalog.remove(name)
    for name in set(MetadataCatalog.list()) - set(metadata):
        MetadataCatalog.remove(name)
    for handler in set(logger.handlers) - set(handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)
    logger.propagate = propagate
    torch.set_rng_state(rng)


@pytest.fixture
def make_cfg(shapes: SyntheticDataset, tmp_path: Path) -> MakeCfg:
    """Makes configs: ``make_cfg("out", "KEY=VALUE", ...)`` writes to ``tmp_path / "out"``."""

    def make(output: str = "out", *overrides: Any) -> CfgNode:
        cfg = get_cfg()
        cfg.OUTPUT_DIR = str(tmp_path / output)
        cfg.DATASETS.REGISTER = {
            "shapes_train": {"json": shapes.train_json, "images": shapes.train_images},
            "shapes_val": {"json": shapes.val_json, "images": shapes.val_images},
        }
        cfg.merge_from_list(
            [
                "DATASETS.TRAIN=('shapes_train',)",
                "DATASETS.TEST=('shapes_val',)",
                "MODEL.NAME=fcos_tiny",
                "MODEL.DEVICE=cpu",
                "MODEL.SCORE_THRESH_TEST=0.0",
                "INPUT.MIN_SIZE_TRAIN=(64,)",
                "INPUT.MIN_SIZE_TEST=64",
                "DATALOADER.NUM_WORKERS=0",
                "SOLVER.IMS_PER_BATCH=2",
                "SOLVER.MAX_ITER=2",
                "SOLVER.BASE_LR=0.01",
                "SOLVER.WARMUP_ITERS=0",
                "SEED=7",
                *overrides,
            ]
        )
        return cfg

    return make
