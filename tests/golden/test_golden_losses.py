"""The first 20 losses of a model of each family, as they were when they were last looked at.

A change of data order, augmentation, model, loss, optimizer or schedule shows here, whether it was meant or not. When
it was, ``GOLDEN=update python -m pytest tests/golden`` writes the new values, and the commit says why they changed.

Random factors of 1 + 1e-6 on all weights change Faster R-CNN's losses by at most 0.4 % in five steps, and by 24 % in
twenty. In SSDLite it is batch norm over few samples that amplifies what is rounded: it is frozen in the backbone.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drivetrain.data.formats.synthetic import SyntheticDataset, make_synthetic
from drivetrain.engine.defaults import get_cfg
from drivetrain.engine.defaults.quickstart import quickstart

from .steps import STEPS, Losses, assert_comparison_can_fail, compare, first_losses, updating

STORED = Path(__file__).with_name("losses.json")
# The models, with what is changed in the config, and how many steps are compared closely.
MODELS: dict[str, tuple[tuple[str, ...], int]] = {
    "fcos_tiny": ((), STEPS),
    "retinanet_tiny": ((), STEPS),
    "faster_rcnn_tiny": ((), 4),
    "ssdlite": (("SOLVER.IMS_PER_BATCH=2", "MODEL.BACKBONE.NORM=FrozenBN"), STEPS),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SyntheticDataset:
    return make_synthetic(tmp_path_factory.mktemp("golden"), train=32, val=2, size=(96, 128), seed=7)


def losses(model: str, data: SyntheticDataset, folder: Path) -> Losses:
    """Of each of the first steps."""
    cfg = get_cfg()
    quickstart(cfg, model, STEPS)
    cfg.OUTPUT_DIR = str(folder)
    cfg.DATASETS.REGISTER = {"golden": {"json": data.train_json, "images": data.train_images}}
    cfg.merge_from_list(
        [
            "DATASETS.TRAIN=('golden',)",
            "MODEL.DEVICE=cpu",
            "INPUT.MIN_SIZE_TRAIN=(80,96)",
            "INPUT.RANDOM_FLIP=both",
            "INPUT.COLOR.BRIGHTNESS=0.2",
            "INPUT.CROP.ENABLED=True",
            "SOLVER.IMS_PER_BATCH=4",
            "DATALOADER.NUM_WORKERS=0",
            "REHEARSE=False",
            "SEED=7",
            *MODELS[model][0],
        ]
    )
    return first_losses(cfg)


@pytest.mark.parametrize("model", MODELS)
def test_losses_are_the_stored_ones(model: str, data: SyntheticDataset, tmp_path: Path) -> None:
    found = losses(model, data, tmp_path / "out")
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    if updating():
        STORED.write_text(json.dumps({**stored, model: found}, indent=1, sort_keys=True) + "\n")
        pytest.skip("the stored values were replaced")
    compare(found, stored[model], MODELS[model][1])
    assert found[-1] != found[0]


@pytest.mark.parametrize("model", MODELS)
def test_the_comparison_can_fail(model: str) -> None:
    assert_comparison_can_fail(json.loads(STORED.read_text())[model], MODELS[model][1])
