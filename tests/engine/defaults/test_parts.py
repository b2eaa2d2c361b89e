"""The parts that a config describes, built by methods that can be called alone."""

from __future__ import annotations

from typing import Any

import torch

from drivetrain.engine.defaults.parts import Parts, precision_name
from drivetrain.evaluation import COCOEvaluator


def test_each_part(make_cfg: Any) -> None:
    cfg = make_cfg()
    model = Parts.build_model(cfg)
    assert model(next(iter(Parts.build_train_loader(cfg)))).keys() == {"loss_cls", "loss_box_reg", "loss_centerness"}
    optimizer = Parts.build_optimizer(cfg, model)
    assert isinstance(optimizer, torch.optim.SGD)
    assert Parts.build_lr_scheduler(cfg, optimizer).get_last_lr()[0] == cfg.SOLVER.BASE_LR
    assert len(list(Parts.build_test_loader(cfg, "shapes_val"))) == 4
    assert isinstance(Parts.build_evaluator(cfg, "shapes_val"), COCOEvaluator)
    assert Parts.auto_scale_workers(cfg, 1) is cfg


def test_a_compiled_model_keeps_its_names(make_cfg: Any) -> None:
    plain = Parts.build_model(make_cfg())
    compiled = Parts.build_model(make_cfg("out", "MODEL.COMPILE=True"))
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    assert compiled.backbone._compiled_call_impl is not None and plain.backbone._compiled_call_impl is None


def test_precision(make_cfg: Any) -> None:
    model = torch.nn.Linear(1, 1)
    assert precision_name(make_cfg(), model) == "fp32"
    assert precision_name(make_cfg("out", "SOLVER.AMP.ENABLED=True"), model) == "bf16"
    assert precision_name(make_cfg("out", "SOLVER.AMP.ENABLED=True", "SOLVER.PRECISION=fp16"), model) == "fp16"
