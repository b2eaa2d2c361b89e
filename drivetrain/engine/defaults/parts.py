"""The parts of a DefaultTrainer as a config describes them, each a method to override."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import torch

from drivetrain.config import CfgNode
from drivetrain.data import build_detection_test_loader, build_detection_train_loader
from drivetrain.engine.precision import device_of
from drivetrain.evaluation import DatasetEvaluator, build_evaluator
from drivetrain.modeling import build_model
from drivetrain.solver import build_lr_scheduler, build_optimizer

from .data import register_datasets, with_classes
from .scaling import scale_to_ranks

__all__ = ["Parts", "precision_name"]

logger = logging.getLogger(__name__)


class Parts:
    """Builds model, optimizer, schedule, loaders and evaluators from a config."""

    @classmethod
    def build_model(cls, cfg: CfgNode) -> torch.nn.Module:
        """The model of ``cfg.MODEL``, on its device."""
        model = build_model(with_classes(cfg))
        count = sum(p.numel() for p in model.parameters())
        logger.info("Model %s: %s parameters", cfg.MODEL.NAME or cfg.MODEL.get("META_ARCHITECTURE"), f"{count:,}")
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
        """The optimizer of ``cfg.SOLVER``."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        """The learning rate schedule of ``cfg.SOLVER``."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[Any]:
        """The loader over ``DATASETS.TRAIN``."""
        register_datasets(cfg)
        return build_detection_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Any]:
        """The loader over one of ``DATASETS.TEST``."""
        register_datasets(cfg)
        return build_detection_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """The evaluator that the dataset's metadata asks for."""
        register_datasets(cfg)
        return build_evaluator(cfg, dataset_name)

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """The config scaled to ``num_workers`` ranks, if it asks for it; see :func:`scale_to_ranks`."""
        return scale_to_ranks(cfg, num_workers)


def precision_name(cfg: CfgNode, model: torch.nn.Module) -> str:
    """``SOLVER.PRECISION``; the older ``SOLVER.AMP.ENABLED`` means fp16 on CUDA and bf16 elsewhere."""
    if cfg.SOLVER.PRECISION == "fp32" and cfg.SOLVER.AMP.ENABLED:
        return "fp16" if device_of(model).type == "cuda" else "bf16"
    return str(cfg.SOLVER.PRECISION)
