"""Options that several commands share."""

from __future__ import annotations

import argparse
import os

import pytest

from drivetrain.cli.options import add_dataset_options, add_file_options, apply_datasets, help_formatter
from drivetrain.engine.defaults.config import get_cfg
from drivetrain.errors import ConfigError


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(formatter_class=help_formatter())
    add_file_options(parser)
    add_dataset_options(parser)
    return parser.parse_args(arguments)


def test_datasets_go_into_the_config_by_absolute_path() -> None:
    cfg = get_cfg()
    apply_datasets(
        cfg, parsed("--train-json", "a.json", "--train-images", "im", "--val-json=/b.json", "--val-images=/v")
    )
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("train",), ("val",))
    assert {
        "train": {"format": "coco", "json": os.path.abspath("a.json"), "images": os.path.abspath("im")},
        "val": {"format": "coco", "json": "/b.json", "images": "/v"},
    } == cfg.DATASETS.REGISTER


def test_nothing_given_changes_nothing() -> None:
    cfg = get_cfg()
    apply_datasets(cfg, parsed("--config-file", "x.yaml"))
    assert cfg == get_cfg()


def test_datasets_of_the_config_stay_beside() -> None:
    cfg = get_cfg()
    cfg.DATASETS.REGISTER = {"mine": {"json": "m.json", "images": "m"}}
    cfg.DATASETS.TRAIN = ("mine",)
    apply_datasets(cfg, parsed("--val-json", "a.json", "--val-images", "im"))
    assert set(cfg.DATASETS.REGISTER) == {"mine", "val"} and cfg.DATASETS.TRAIN == ("mine",)


@pytest.mark.parametrize(("given", "missing"), [("--train-json", "--train-images"), ("--val-images", "--val-json")])
def test_half_a_dataset_is_refused(given: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=f"{given} is given without {missing}"):
        apply_datasets(get_cfg(), parsed(given, "x"))
