"""A whole training over images of which some cannot be read, while its loader processes are killed again and again."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.synthetic import SyntheticDataset, make_synthetic
from drivetrain.engine.defaults import DefaultTrainer, get_cfg
from drivetrain.engine.hooks import CallbackHook
from drivetrain.runtime.seeding import seed_all_rng
from drivetrain.testing import TinyModel

ITERATIONS = 30


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SyntheticDataset:
    """40 images, two of them damaged."""
    made = make_synthetic(tmp_path_factory.mktemp("shapes"), train=40, val=2, size=(64, 48), seed=3)
    images = sorted(Path(made.train_images).glob("*.jpg"))
    images[5].write_bytes(b"no image")
    images[17].write_bytes(images[17].read_bytes()[:300])
    return made


def kill_a_worker(trainer: Any) -> None:
    """Every third iteration, one that runs."""
    pool = trainer.data_loader._running._pool
    if trainer.iter % 3 == 0 and pool is not None and pool._workers:
        os.kill(pool._workers[trainer.iter % len(pool._workers)]._process.pid, signal.SIGKILL)


def train(data: SyntheticDataset, folder: Path, workers: int, *hooks: Any) -> DefaultTrainer:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(folder)
    cfg.DATASETS.REGISTER = {"faulty": {"json": data.train_json, "images": data.train_images}}
    cfg.merge_from_list(
        [
            "DATASETS.TRAIN=('faulty',)",
            f"DATALOADER.NUM_WORKERS={workers}",
            "DATALOADER.MAX_BAD_IMAGES=0.05",
            "INPUT.MIN_SIZE_TRAIN=(48,)",
            "INPUT.RANDOM_FLIP=both",
            "INPUT.COLOR.CONTRAST=0.3",
            "SOLVER.IMS_PER_BATCH=4",
            f"SOLVER.MAX_ITER={ITERATIONS}",
            "SOLVER.WARMUP_ITERS=0",
            "SEED=3",
        ]
    )
    DatasetCatalog.clear()
    MetadataCatalog.clear()
    seed_all_rng(3)
    model = TinyModel()
    trainer = DefaultTrainer(
        cfg, model=model, optimizer=torch.optim.SGD(model.parameters(), 0.05, 0.9), hooks=list(hooks)
    )
    trainer.train()
    DatasetCatalog.clear()
    MetadataCatalog.clear()
    return trainer


def losses(trainer: DefaultTrainer) -> list[str]:
    return [value.hex() for value, _ in trainer.storage.history("total_loss").values()]


def test_it_ends_with_the_losses_of_the_training_that_nobody_disturbed(
    data: SyntheticDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calm = train(data, tmp_path / "calm", 0)
    caplog.clear()
    disturbed = train(data, tmp_path / "disturbed", 2, CallbackHook(after_step=kill_a_worker))
    assert losses(disturbed) == losses(calm) and len(losses(calm)) == ITERATIONS
    expected = calm.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in disturbed.model.state_dict().items())
    assert caplog.text.count("was ended by SIGKILL") >= 3
    listed = [
        {json.loads(line)["file"] for line in (tmp_path / name / "quarantine.jsonl").read_text().splitlines()}
        for name in ("calm", "disturbed")
    ]
    assert listed[0] == listed[1] and len(listed[0]) == 2


def test_the_list_survives_and_is_not_written_again(data: SyntheticDataset, tmp_path: Path) -> None:
    train(data, tmp_path / "out", 0)
    before = (tmp_path / "out" / "quarantine.jsonl").read_bytes()
    shutil.copytree(tmp_path / "out", tmp_path / "again")
    train(data, tmp_path / "again", 0)
    assert (tmp_path / "again" / "quarantine.jsonl").read_bytes() == before
