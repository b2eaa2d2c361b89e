"""From a config to a model."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from drivetrain.compat.schema import CompatRoot
from drivetrain.config import CfgNode
from drivetrain.engine.defaults.config import get_cfg
from drivetrain.errors import ModelError, UserInputError
from drivetrain.modeling import MODELS, build_model
from drivetrain.modeling.build import class_count, class_count_key, has_meta_architecture
from drivetrain.modeling.detectron2 import GeneralizedRCNN


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


@pytest.fixture
def described():
    """A small config as detectron2 writes it."""
    cfg = CfgNode.from_schema(CompatRoot)
    sizes = {"WIDTH_PER_GROUP": 8, "RES2_OUT_CHANNELS": 32, "STEM_OUT_CHANNELS": 8}
    cfg.merge_from_other_cfg({"MODEL": {"DEVICE": "cpu", "RESNETS": sizes, "ROI_HEADS": {"NUM_CLASSES": 2}}})
    return cfg


def test_a_described_model_is_built_on_its_device_and_needs_no_number_elsewhere(described) -> None:
    model = build_model(described)
    assert type(model) is GeneralizedRCNN and model.training and model.num_classes == 2
    assert has_meta_architecture(described) and class_count_key(described) == "MODEL.ROI_HEADS.NUM_CLASSES"
    described.MODEL.META_ARCHITECTURE = "RetinaNet"
    assert class_count_key(described) == "MODEL.RETINANET.NUM_CLASSES" and class_count(described) == 80
    described.MODEL.META_ARCHITECTURE, described.MODEL.FCOS.NUM_CLASSES = "FCOS", 7
    assert class_count_key(described) == "MODEL.FCOS.NUM_CLASSES" and class_count(described) == 7
    described.MODEL.META_ARCHITECTURE = "RetinaNett"
    with pytest.raises(ModelError, match=r"'RetinaNett' has no counterpart .*did you mean 'RetinaNet'"):
        build_model(described)


def test_a_name_comes_before_a_description(described) -> None:
    described.MODEL.NAME, described.MODEL.NUM_CLASSES = "fcos_tiny", 3
    assert not has_meta_architecture(described) and class_count_key(described) == "MODEL.NUM_CLASSES"
    described.MODEL.merge_from_other_cfg({"ANCHOR_GENERATOR": {"SIZES": [], "ASPECT_RATIOS": []}})
    with pytest.raises(ModelError, match="is not a registered model"):
        described.MODEL.NAME = "nothing"
        build_model(described)


def test_a_registered_architecture_is_called_with_the_config(described, registered) -> None:
    registered("Own", lambda cfg: nn.Linear(cfg.MODEL.ROI_HEADS.NUM_CLASSES, 1))
    described.MODEL.META_ARCHITECTURE = "Own"
    assert build_model(described).in_features == 2 and class_count_key(described) is class_count(described) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_default_device_is_what_there_is(described, caplog, make_cfg) -> None:
    described.MODEL.DEVICE = "cuda"
    logging.getLogger("drivetrain.modeling.build").__dict__.pop("_drivetrain_counts", None)
    for _ in range(2):
        assert next(build_model(described).parameters()).device.type in ("cpu", "mps")
    assert [r.getMessage() for r in caplog.records].count(
        "MODEL.DEVICE is 'cuda', but there is no CUDA device here: 'auto' is taken"
    ) == 1
    with pytest.raises(UserInputError, match="'cuda'"):  # a config of this package that asks for it means it
        build_model(make_cfg("fcos_tiny", MODEL__DEVICE="cuda"))


def test_parameters_are_frozen_by_pattern() -> None:
    cfg = get_cfg()
    cfg.MODEL.NUM_CLASSES, cfg.MODEL.DEVICE, cfg.MODEL.FREEZE = 2, "cpu", ("backbone.*",)
    model = build_model(cfg)
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"head"}
    cfg.MODEL.FREEZE = ("bone.*",)
    with pytest.raises(ModelError, match="fits no parameter"):
        build_model(cfg)
