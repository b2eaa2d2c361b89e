"""The common parts of lazy configs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from drivetrain.compat import model_zoo
from drivetrain.compat.lazy import instantiate
from drivetrain.compat.lazy_common import common_config
from drivetrain.errors import ConfigError


def test_optimizers_take_the_model() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    for name, decay in (("SGD", 1e-4), ("AdamW", 0.1)):
        cfg = model_zoo.get_config("common/optim.py")[name]
        cfg.params.model = model
        cfg.lr = 0.5
        optimizer = instantiate(cfg)
        assert isinstance(optimizer, getattr(torch.optim, name)) and cfg.params.model is model
        decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        assert decays[id(model[0].weight)] == decay and decays[id(model[1].weight)] == 0
        assert {group["lr"] for group in optimizer.param_groups} == {0.5}


@pytest.mark.parametrize(
    ("times", "values"),  # at iterations; where the first and the second decay come
    [(1, {500: 0.5005, 59_000: 1.0, 61_000: 0.1, 81_000: 0.01}), (3, {209_000: 1.0, 211_000: 0.1, 251_000: 0.01})],
)
def test_schedules(times: int, values: dict[int, float]) -> None:
    schedule = instantiate(common_config("common/coco_schedule.py")[f"lr_multiplier_{times}x"])
    for iteration, expected in values.items():
        assert schedule(iteration / (90_000 * times)) == pytest.approx(expected, rel=1e-6)


def test_each_call_gives_parts_of_its_own() -> None:
    common_config("common/train.py").train.max_iter = 1
    assert common_config("common/train.py").train.max_iter == 90_000
    with pytest.raises(ConfigError, match=r"did you mean 'common/train\.py'"):
        common_config("common/trains.py")
    with pytest.raises(ConfigError, match=r"model_zoo\.get"):
        model_zoo.get_config("common/models/mask_rcnn_fpn.py")
