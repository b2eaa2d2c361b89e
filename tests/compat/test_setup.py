"""The beginning of a job."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from drivetrain.compat.config import get_cfg
from drivetrain.compat.setup import default_setup
from drivetrain.runtime.seeding import preserve_rng


def test_keys_without_meaning_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.SEED = str(tmp_path), 3
    with preserve_rng():
        default_setup(cfg, {})
        assert "change nothing here" not in caplog.text
        cfg.MODEL.LOAD_PROPOSALS = True
        default_setup(cfg, [])
    assert "MODEL.LOAD_PROPOSALS" in caplog.messages[-1]
    assert "META_ARCHITECTURE" in (tmp_path / "config.yaml").read_text()


def test_a_config_in_python(tmp_path: Path) -> None:
    with preserve_rng():
        default_setup({"train": {"output_dir": str(tmp_path / "out"), "seed": 4}}, None)
    assert "Random seed of this process: 4" in (tmp_path / "out" / "log.txt").read_text()
    saved = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert saved == {"train": {"output_dir": str(tmp_path / "out"), "seed": 4}}
