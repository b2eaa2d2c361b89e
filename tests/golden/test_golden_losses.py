"""The first 20 losses of a model of each family, as they were when they were last looked at.

A change of data order, augmentation, model, loss, optimizer or schedule shows here, whether it was meant or not. When
it was, ``GOLDEN=update python -m pytest tests/golden`` writes the new values, and the commit says why they changed.

Other processors round otherwise, and steps amplify it. Where the losses of a model jump, for which boxes its second
stage learns from hangs on the last bit of a score, its first steps are compared closely and the others loosely: random
factors of 1 + 1e-6 on all weights change Faster R-CNN's losses by at most 0.4 % in five steps, and by 24 % in twenty.
In SSDLite it is batch norm over few samples that does so: it is frozen in the backbone.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.synthetic import SyntheticDataset, make_synthetic
from drivetrain.engine.defaults import DefaultTrainer, get_cfg
from drivetrain.engine.defaults.quickstart import quickstart
from drivetrain.runtime.seeding import seed_all_rng

STORED = Path(__file__).with_name("losses.json")
STEPS = 20
CLOSE, LOOSE = 2e-3, 0.4  # relative; a changed step is far beyond the first
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


def losses(model: str, data: SyntheticDataset, folder: Path) -> list[dict[str, float]]:
    """Of each of the first steps, rounded to what is compared."""
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
    seed_all_rng(7)
    trainer = DefaultTrainer(cfg, writers=[])
    trainer._hooks = [hook for hook in trainer._hooks if type(hook).__name__ == "LRScheduler"]
    trainer.train()
    histories = {name: h.values() for name, h in trainer.storage.histories().items() if name.startswith("loss_")}
    return [{name: round(values[step][0], 6) for name, values in sorted(histories.items())} for step in range(STEPS)]


@pytest.fixture(autouse=True)
def forget() -> Any:
    yield
    DatasetCatalog.clear()
    MetadataCatalog.clear()


def compare(found: list[dict[str, float]], stored: list[dict[str, float]], close: int) -> None:
    """Fails where losses differ; ``close`` is the number of steps compared closely."""
    for step, (now, then) in enumerate(zip(found, stored, strict=True)):
        tolerance = CLOSE if step < close else LOOSE
        assert now == pytest.approx(then, rel=tolerance, abs=1e-5), f"step {step}"


@pytest.mark.parametrize("model", MODELS)
def test_losses_are_the_stored_ones(model: str, data: SyntheticDataset, tmp_path: Path) -> None:
    found = losses(model, data, tmp_path / "out")
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    if os.environ.get("GOLDEN") == "update":
        STORED.write_text(json.dumps({**stored, model: found}, indent=1, sort_keys=True) + "\n")
        pytest.skip("the stored values were replaced")
    compare(found, stored[model], MODELS[model][1])
    assert found[-1] != found[0]


@pytest.mark.parametrize("model", MODELS)
def test_the_comparison_can_fail(model: str) -> None:
    stored = json.loads(STORED.read_text())[model]
    close = MODELS[model][1]
    name = next(iter(stored[0]))
    for step, factor in [(0, 1.01), (close - 1, 1.01), (STEPS - 1, 2.0)]:
        changed = [dict(values) for values in stored]
        changed[step][name] *= factor
        with pytest.raises(AssertionError, match=f"step {step}"):
            compare(changed, stored, close)
    compare(stored, stored, close)
