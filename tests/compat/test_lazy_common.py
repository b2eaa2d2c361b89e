"""The common parts of lazy configs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from drivetrain.compat import model_zoo
from drivetrain.compat.lazy import LazyConfig, instantiate
from drivetrain.compat.lazy_common import common_config
from drivetrain.compat.rewrite import rewrite
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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("common/models/cascade_rcnn.py", r"is not here: Cascade R-CNN .* take common/models/mask_rcnn_fpn\.py"),
        ("common/models/mask_rcnn_vitdet.py", r"is not here: ViT backbones .* model\.backbone"),
        ("common/data/coco_panoptic_separated.py", "is not here: panoptic models are those of transformers"),
    ],
)
def test_what_is_not_here_says_what_to_take(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        common_config(name)


def test_each_call_gives_parts_of_its_own() -> None:
    common_config("common/train.py").train.max_iter = 1
    assert common_config("common/train.py").train.max_iter == 90_000
    with pytest.raises(ConfigError, match=r"did you mean 'common/train\.py'"):
        common_config("common/trains.py")
    one, other = (model_zoo.get_config("common/models/fcos.py").model for _ in range(2))
    one.backbone.bottom_up.stages.depth = 101
    assert other.backbone.bottom_up.stages.depth == 50
    constants = common_config("common/data/constants.py").constants
    constants.imagenet_bgr256_std[0] = 5.0
    assert common_config("common/models/fcos.py").model.pixel_std == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "lr", "masks", "freeze_at"),
    [
        ("COCO-Detection/fcos_R_50_FPN_1x.py", 0.01, False, "model.backbone.bottom_up"),
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.py", 0.02, True, "model.backbone"),
    ],
)
def test_whole_configs(name: str, lr: float, masks: bool, freeze_at: str, tmp_path: Path) -> None:
    cfg = model_zoo.get_config(name)
    assert set(cfg) == {"model", "dataloader", "optimizer", "lr_multiplier", "train"}
    assert (cfg.optimizer.lr, cfg.dataloader.train.mapper.use_instance_mask) == (lr, masks)
    node = cfg
    for part in freeze_at.split("."):
        node = node[part]
    assert node.freeze_at == 2 and cfg.train.init_checkpoint.endswith("MSRA/R-50.pkl")
    LazyConfig.save(cfg, tmp_path / "config.yaml")  # as default_setup does
    assert LazyConfig.load(tmp_path / "config.yaml").optimizer.lr == lr


def test_published_weights() -> None:
    trained = model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_1x.py", trained=True)
    assert trained.train.init_checkpoint.endswith("/190397773/model_final_bfca0b.pkl")
    with pytest.raises(ConfigError, match="no published weights"):
        model_zoo.get_config("COCO-Detection/fcos_R_50_FPN_1x.py", trained=True)


LAZY_SCRIPT = Path(__file__).parent / "scripts" / "lazy" / "lazy_train.py"


def lazy_training(run_here: Callable[..., dict[str, Any]], script: Path) -> None:
    """Train four iterations, then two more from there, then evaluate alone."""
    config = ["--config-file", str(script.parent / "config.py")]
    first = run_here(script, *config)
    assert (first["start"], first["end"], first["tasks"]) == (0, 4, ["bbox", "segm"])
    assert first["rates"] == pytest.approx([0.005, 0.01, 0.001, 0.001])  # half as warm-up, whole, a tenth
    assert first["losses"] == ["loss_box_reg", "loss_cls", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"]
    more = run_here(script, *config, "--resume", "train.max_iter=6", "train.eval_period=0")
    assert (more["start"], more["end"]) == (4, 6)
    evaluated = run_here(script, *config, "--eval-only", "train.init_checkpoint=output/model_final.pth")
    assert evaluated == {"results": ["bbox", "segm"]}


def test_a_training_script_with_a_config_in_python(
    finder: None, run_here: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(LAZY_SCRIPT.parents[1]))  # where the module shapes is
    lazy_training(run_here, LAZY_SCRIPT)


@pytest.mark.slow
def test_the_same_rewritten(
    scripts_copy: Path, run_here: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in scripts_copy.rglob("*.py"):
        done = rewrite(path.read_text(), path.name)
        assert path.parent.name != "lazy" or not done.problems
        path.write_text(done.text)
    monkeypatch.syspath_prepend(str(scripts_copy))
    lazy_training(run_here, scripts_copy / "lazy" / "lazy_train.py")
