"""From a config to a model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from drivetrain.errors import ModelError, UserInputError
from drivetrain.modeling import MODELS, build_model


@pytest.fixture
def registered():
    """Registers builders for one test."""
    names = []

    def register(name, builder):
        MODELS.register(name)(builder)
        names.append(name)

    yield register
    for name in names:
        MODELS.remove(name)


def test_model_is_in_training_mode_on_its_device(make_cfg) -> None:
    model = build_model(make_cfg("fcos_tiny"))
    assert model.training
    assert {p.device.type for p in model.parameters()} == {"cpu"}


def test_preset_values_hold_where_the_config_says_nothing(make_cfg) -> None:
    cfg = make_cfg("fcos_tiny", MODEL__HEAD__NUM_CONVS=2)
    cfg.freeze()
    before = cfg.dump()
    model = build_model(cfg)
    assert len([m for m in model.head.classification_head.conv if isinstance(m, nn.Conv2d)]) == 2
    assert model.backbone.out_channels == 64
    assert cfg.dump() == before


def test_own_model_by_name(make_cfg, registered) -> None:
    registered("own", lambda cfg: nn.Linear(cfg.MODEL.NUM_CLASSES, 1))
    assert build_model(make_cfg("own", MODEL__NUM_CLASSES=5)).in_features == 5


def test_builder_must_give_a_module(make_cfg, registered) -> None:
    registered("broken", lambda cfg: "a model")
    with pytest.raises(ModelError, match="'broken' returned 'a model'"):
        build_model(make_cfg("broken"))


@pytest.mark.parametrize("classes", [0, -1, None, True])
def test_number_of_classes_is_needed(make_cfg, classes) -> None:
    with pytest.raises(ModelError, match=r"MODEL.NUM_CLASSES is .*DATASETS.TRAIN"):
        build_model(make_cfg("fcos_tiny", MODEL__NUM_CLASSES=classes))


def test_bad_name_and_device(make_cfg) -> None:
    with pytest.raises(ModelError, match="did you mean 'fcos_tiny'"):
        build_model(make_cfg("fcos-tiny"))
    with pytest.raises(UserInputError, match="gpu7"):
        build_model(make_cfg("fcos_tiny", MODEL__DEVICE="gpu7"))


def test_channels_last(make_cfg, make_batch) -> None:
    torch.manual_seed(0)
    plain = build_model(make_cfg("fcos_tiny")).eval()
    last = build_model(make_cfg("fcos_tiny", MODEL__CHANNELS_LAST=True)).eval()
    last.load_state_dict(plain.state_dict())
    weight = last.head.classification_head.cls_logits.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    batch = make_batch((64, 64))
    with torch.no_grad():
        a, b = (m(batch)[0]["instances"].scores.sort().values for m in (plain, last))
    assert len(a) and torch.allclose(a, b, atol=1e-4)


def test_compiled_by_config_keys(make_cfg) -> None:
    plain, compiled = build_model(make_cfg("fcos_tiny")), build_model(make_cfg("fcos_tiny", MODEL__COMPILE=True))
    assert plain.backbone._compiled_call_impl is None
    assert compiled._compiled_call_impl is None  # but the parts that a compiler can make something of
    assert compiled.backbone._compiled_call_impl is not None and compiled.head._compiled_call_impl is not None
    assert list(compiled.state_dict()) == list(plain.state_dict())
    with pytest.raises(ModelError, match=r"'inducter' \(MODEL.COMPILE_BACKEND\); did you mean 'inductor'"):
        build_model(make_cfg("fcos_tiny", MODEL__COMPILE=True, MODEL__COMPILE_BACKEND="inducter"))
