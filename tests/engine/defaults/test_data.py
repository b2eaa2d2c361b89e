"""Names, classes and lengths of datasets."""

from __future__ import annotations

from typing import Any

import pytest

from drivetrain.data import build_detection_train_loader
from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.shapes import SHAPE_NAMES
from drivetrain.engine.defaults.config import get_cfg
from drivetrain.engine.defaults.data import (
    FromStart,
    as_names,
    class_names,
    register_datasets,
    resolve_config,
    samples_of,
    with_classes,
)
from drivetrain.errors import ConfigError, DatasetError


def test_a_string_is_one_name() -> None:
    assert as_names("abc") == ("abc",) and as_names(["a", "b"]) == ("a", "b") and as_names(()) == ()


def test_resolving_registers_and_counts_the_classes(make_cfg: Any) -> None:
    cfg = make_cfg()
    cfg.freeze()
    resolved = resolve_config(cfg)
    assert len(SHAPE_NAMES) == resolved.MODEL.NUM_CLASSES and resolved.is_frozen() and cfg.MODEL.NUM_CLASSES == 0
    assert class_names(cfg) == list(SHAPE_NAMES)
    assert resolve_config(resolved) == resolved
    cfg = make_cfg("out", "MODEL.NUM_CLASSES=9")
    assert with_classes(cfg).MODEL.NUM_CLASSES == 9 and not with_classes(cfg).is_frozen()


def test_names_are_checked_where_they_are_needed(make_cfg: Any) -> None:
    cfg = make_cfg("out", "DATASETS.TRAIN=('shapes_trian',)", "DATASETS.TEST=('nothing',)")
    with pytest.raises(DatasetError, match=r"DATASETS\.TRAIN: dataset 'shapes_trian' .*'shapes_train'"):
        resolve_config(cfg)
    with pytest.raises(DatasetError, match=r"DATASETS\.TEST: dataset 'nothing'"):
        resolve_config(cfg, ["TEST"])
    assert resolve_config(cfg, []).MODEL.NUM_CLASSES == 0
    cfg.SOLVER.IMS_PER_BATCH = 0
    with pytest.raises(ConfigError, match="IMS_PER_BATCH"):
        resolve_config(cfg, [])


def test_registering_again_is_fine(make_cfg: Any) -> None:
    for _ in range(2):
        register_datasets(make_cfg())
    assert {"shapes_train", "shapes_val"} <= set(DatasetCatalog.list())


def test_class_names_come_from_wherever_they_are_known() -> None:
    cfg = get_cfg()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = "loose", ("only_metadata",)
    assert class_names(cfg) == []
    MetadataCatalog.get("only_metadata").thing_classes = ["v"]
    assert class_names(cfg) == ["v"]
    DatasetCatalog.register("loose", list)
    assert class_names(cfg) == ["v"]
    MetadataCatalog.get("loose").thing_classes = ["t", "u"]
    assert class_names(cfg) == ["t", "u"]


def test_samples() -> None:
    assert samples_of(build_detection_train_loader([1, 2, 3], mapper=None, total_batch_size=1)) == 3
    assert samples_of(iter([1])) is None

    class Endless:
        dataset = iter(())

    assert samples_of(Endless()) is None


def test_from_start_begins_again_in_the_order_of_the_training() -> None:
    def loader(seed: int) -> Any:
        return build_detection_train_loader(list(range(20)), mapper=None, total_batch_size=4, seed=seed)

    training, other = loader(5), loader(6)
    expected = [next(training) for _ in range(3)]
    again = FromStart(other, training)
    for _ in range(2):
        found = [batch for _, batch in zip(range(3), again, strict=False)]
        assert found == expected
    assert training.position == 3  # and nothing is taken away from the training
    assert list(FromStart([1, 2], training)) == [1, 2]
