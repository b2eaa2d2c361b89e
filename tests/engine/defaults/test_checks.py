"""What has to fit together."""

from __future__ import annotations

import pytest

from drivetrain.compat.schema import CompatRoot
from drivetrain.config import CfgNode
from drivetrain.data.catalog import MetadataCatalog
from drivetrain.engine.defaults.checks import check_classes, check_pairs
from drivetrain.engine.defaults.config import get_cfg
from drivetrain.errors import ConfigError


def test_an_output_for_each_class() -> None:
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ("checks",)
    MetadataCatalog.get("checks").thing_classes = [f"c{i}" for i in range(7)]
    for count in (7, 80):
        cfg.MODEL.NUM_CLASSES = count
        check_classes(cfg)
    cfg.MODEL.NUM_CLASSES = 6
    with pytest.raises(ConfigError, match=r"NUM_CLASSES is 6, but the dataset has 7 classes \(c0, .*c4, \.\.\.\)"):
        check_classes(cfg)


@pytest.mark.parametrize(
    ("names", "loaders", "evaluators", "fine"),
    [
        ((), None, None, True),
        (("a",), None, None, True),
        ((), [0], [0], True),
        (("a", "b"), [0, 0], None, True),
        (("a",), None, [0], True),
        (("a",), None, [0, 0], False),
        ((), [0], None, False),
        ((), [0, 0], [0], False),
    ],
)
def test_pairs(names: tuple[str, ...], loaders: list[int] | None, evaluators: list[int] | None, fine: bool) -> None:
    cfg = get_cfg()
    cfg.DATASETS.TEST = names
    if fine:
        check_pairs(cfg, loaders, evaluators)
        return
    with pytest.raises(ConfigError, match=r"\d test loaders and \d evaluators do not make pairs"):
        check_pairs(cfg, loaders, evaluators)


@pytest.mark.parametrize(
    ("architecture", "key"),
    [("GeneralizedRCNN", "MODEL.ROI_HEADS.NUM_CLASSES"), ("RetinaNet", "MODEL.RETINANET.NUM_CLASSES")],
)
def test_a_described_model_is_counted_where_its_description_counts(architecture: str, key: str) -> None:
    cfg = CfgNode.from_schema(CompatRoot)
    cfg.MODEL.META_ARCHITECTURE, cfg.DATASETS.TRAIN = architecture, ("checks",)
    MetadataCatalog.get("checks").thing_classes = ["a", "b", "c"]
    check_classes(cfg)
    cfg.merge_from_list([key, "2"])
    with pytest.raises(ConfigError, match=rf"{key} is 2, but the dataset has 3 classes \(a, b, c\): set it to their"):
        check_classes(cfg)


def test_an_architecture_of_ones_own_is_left_alone() -> None:
    cfg = CfgNode.from_schema(CompatRoot)
    cfg.MODEL.META_ARCHITECTURE, cfg.DATASETS.TRAIN = "Own", ("checks",)
    MetadataCatalog.get("checks").thing_classes = ["a"] * 200
    check_classes(cfg)
