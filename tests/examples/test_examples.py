"""The examples run and do what they say."""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from drivetrain import DatasetCatalog, DefaultTrainer, MetadataCatalog, get_cfg
from drivetrain.checkpoint import read_checkpoint
from drivetrain.data.formats.shapes import SHAPE_NAMES
from drivetrain.data.formats.synthetic import SyntheticDataset, make_synthetic
from drivetrain.engine import DefaultPredictor, default_setup
from drivetrain.engine.hooks import CallbackHook
from drivetrain.events import EventStorage
from drivetrain.modeling import MODELS, check_losses, check_outputs
from drivetrain.structures import Boxes, Instances, pairwise_iou
from drivetrain.testing import tiny_trainer

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["SEED=3", "DATALOADER.NUM_WORKERS=0", "SOLVER.IMS_PER_BATCH=2", "MODEL.DEVICE=cpu", "SOLVER.WARMUP_ITERS=2"]


def load(name: str) -> ModuleType:
    """A file of examples/ as a module."""
    spec = importlib.util.spec_from_file_location(f"examples_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> SyntheticDataset:
    return make_synthetic(tmp_path_factory.mktemp("drawn"), train=12, val=3, seed=1)


@pytest.fixture(scope="module")
def custom_model() -> Iterator[ModuleType]:
    yield load("custom_model")
    MODELS.remove("grid_detector")


def forget(*names: str) -> None:
    """Let names of datasets be given again: within a process each stands for one folder."""
    for name in set(names) & set(DatasetCatalog.list()):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def final_weights(folder: Path, name: str = "model_final.pth") -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(folder / name)["model"])


def assert_equal_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different


# plain_train.py


@pytest.fixture(scope="module")
def plain_run(drawn: SyntheticDataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any, Any]:
    """Four iterations of the plain loop: its folder, arguments, results and storage."""
    module = load("plain_train")
    storages: list[EventStorage] = []

    class Remembered(EventStorage):
        def __init__(self, start_iter: int = 0) -> None:
            super().__init__(start_iter)
            storages.append(self)

    module.EventStorage = Remembered  # type: ignore[attr-defined]
    folder = tmp_path_factory.mktemp("plain")
    args = module.parser().parse_args(["--max-iter", "4", *plain_overrides(drawn, folder)])
    results = module.main(args)
    return folder, args, results, storages[0]


def plain_overrides(drawn: SyntheticDataset, folder: Path) -> list[str]:
    entries = {
        "plain_train": {"json": drawn.train_json, "images": drawn.train_images},
        "plain_val": {"json": drawn.val_json, "images": drawn.val_images},
    }
    return [
        *SMALL,
        f"OUTPUT_DIR={folder}",
        f"DATASETS.REGISTER={json.dumps(entries)}",
        "DATASETS.TRAIN=plain_train",
        "DATASETS.TEST=plain_val",
        "INPUT.MIN_SIZE_TRAIN=(128,)",
        "INPUT.MIN_SIZE_TEST=128",
        "SOLVER.CHECKPOINT_PERIOD=2",
    ]


def test_plain_loop_writes_metrics_and_checkpoints_and_evaluates(plain_run: tuple[Path, Any, Any, Any]) -> None:
    folder, _, results, _ = plain_run
    last = json.loads((folder / "metrics.json").read_text().splitlines()[-1])
    assert last["iteration"] == 3
    assert {"total_loss", "lr"} < last.keys()
    checkpoint = read_checkpoint(folder / "model_final.pth")
    assert checkpoint["iteration"] == 3
    assert checkpoint["metadata"]["class_names"] == list(SHAPE_NAMES)
    assert "AP50" in results["plain_val"]["bbox"]


def test_plain_loop_equals_the_default_trainer(plain_run: tuple[Path, Any, Any, Any], tmp_path: Path) -> None:
    """Same config, same seed: every loss, every learning rate and the weights are equal bit for bit."""
    folder, args, _, storage = plain_run
    cfg = load("plain_train").setup(args).clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = str(tmp_path)
    default_setup(cfg, args)
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()

    theirs = {name: list(history.values()) for name, history in trainer.storage.histories().items()}
    losses = [name for name in theirs if name.startswith("loss_")]
    assert len(losses) >= 2
    for name in [*losses, "lr"]:
        values = list(storage.histories()[name].values())
        assert len(values) == 4
        assert values == theirs[name], name
    assert len({value for value, _ in theirs[losses[0]]}) == 4  # the loop did learn
    assert_equal_weights(final_weights(folder), final_weights(tmp_path))


def test_plain_loop_resumes(plain_run: tuple[Path, Any, Any, Any], tmp_path: Path, drawn: SyntheticDataset) -> None:
    """Killed after two of four iterations and continued, it ends like the run that was not: weights, state, metrics."""
    folder = plain_run[0]
    shutil.copy(folder / "model_0000001.pth", tmp_path)
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    module = load("plain_train")
    module.main(module.parser().parse_args(["--max-iter", "4", "--resume", *plain_overrides(drawn, tmp_path)]))
    assert_equal_weights(final_weights(folder), final_weights(tmp_path))
    whole, resumed = (read_checkpoint(path / "model_final.pth") for path in (folder, tmp_path))
    for part in ("scheduler", "data_loader", "storage"):
        assert whole[part] == resumed[part]
    assert (tmp_path / "metrics.json").read_text() == (folder / "metrics.json").read_text()


def test_plain_loop_is_short() -> None:
    """What one reads to write one's own: the function that trains."""
    source = inspect.getsource(load("plain_train").train)
    assert len(source.splitlines()) <= 60


def test_plain_loop_draws_its_own_dataset(tmp_path: Path) -> None:
    module = load("plain_train")
    args = module.parser().parse_args(["--max-iter", "1", "--images", "6", *SMALL, f"OUTPUT_DIR={tmp_path}"])
    cfg = module.setup(args)
    assert len(SHAPE_NAMES) == cfg.MODEL.NUM_CLASSES
    assert len(list((tmp_path / "data/images/train").iterdir())) == 6
    assert not get_cfg().DATASETS.REGISTER  # the default config is not touched


# custom_hook.py


def hook_arguments(folder: Path, *more: str) -> argparse.Namespace:
    parser: argparse.ArgumentParser = load("custom_hook").parser()
    return parser.parse_args(["--output", str(folder), "--images", "8", *more])


def test_hooks_record_and_end_the_training(tmp_path: Path) -> None:
    module = load("custom_hook")
    trainer = module.main(hook_arguments(tmp_path, "--max-iter", "500", "--seconds", "0.001"))
    assert trainer.iter == 1  # the first iteration took longer than that
    norms = list(trainer.storage.history("grad_norm").values())
    assert len(norms) == 1 and norms[0][0] > 0
    # It ended as a training does that had this length from the start: with its final checkpoint.
    state = read_checkpoint(tmp_path / "model_final.pth")["trainer"]
    assert state["iteration"] == 0
    assert state["hooks"]["TimeBudget"]["used"] > 0.001


def test_gradient_norm_is_the_norm() -> None:
    trainer = tiny_trainer()
    expected = []

    def norm(trainer: Any) -> None:
        squares = sum(float(p.grad.double().square().sum()) for p in trainer.model.parameters() if p.grad is not None)
        expected.append(squares**0.5)

    trainer.register_hooks([load("custom_hook").GradientNorm(), CallbackHook(after_backward=norm)])
    trainer.train(0, 3)
    assert [v for v, _ in trainer.storage.history("grad_norm").values()] == pytest.approx(expected, rel=1e-5)


def test_time_budget_counts_on_after_a_resume() -> None:
    hook = load("custom_hook").TimeBudget(1000)
    hook.load_state_dict({"used": 999.9999})
    trainer = tiny_trainer()
    trainer.register_hooks([hook])
    trainer.train(0, 10_000)
    assert 0 < trainer.iter < 10_000


# custom_model.py


def test_model_by_name_equals_model_as_object(custom_model: ModuleType, tmp_path: Path) -> None:
    weights = []
    for way in ([], ["--as-object"]):
        folder = tmp_path / f"run{len(weights)}"
        arguments = ["--output", str(folder), "--max-iter", "3", "--images", "8", *way]
        forget("grid_train", "grid_val")
        trainer = custom_model.main(custom_model.parser().parse_args(arguments))
        assert trainer.iter == 3
        weights.append(final_weights(folder))
    assert_equal_weights(*weights)


def grid_batch(boxes: list[list[float]], size: int = 64, scale: float = 1.0) -> list[dict[str, Any]]:
    """One image with coloured rectangles, which are its objects, of class 0 and 1 in turn."""
    image = torch.full((3, size, size), 90, dtype=torch.uint8)
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        colour = torch.tensor([230, 40, 60], dtype=torch.uint8).roll(i)
        image[:, int(y0) : int(y1), int(x0) : int(x1)] = colour[:, None, None]
    classes = torch.arange(len(boxes)) % 2
    instances = Instances((size, size), gt_boxes=Boxes(torch.tensor(boxes)), gt_classes=classes)
    original = int(size * scale)
    return [{"image": image, "instances": instances, "height": original, "width": original, "image_id": 1}]


def test_model_keeps_the_contract(custom_model: ModuleType) -> None:
    model = custom_model.GridDetector(2, [100.0] * 3, [50.0] * 3)
    batch = [*grid_batch([[8, 8, 24, 24]]), *grid_batch([], size=48)]  # sizes differ, and one image is empty
    batch[1]["instances"].gt_boxes = Boxes(torch.zeros(0, 4))
    check_losses(model(batch))
    model.eval()
    outputs = model(batch)
    check_outputs(outputs, batch)
    assert [o["instances"].image_size for o in outputs] == [(64, 64), (48, 48)]


def test_model_learns_an_image_and_answers_in_original_pixels(custom_model: ModuleType) -> None:
    torch.manual_seed(0)
    truth = [[4.0, 6.0, 24.0, 30.0], [34.0, 30.0, 60.0, 58.0]]
    model = custom_model.GridDetector(2, [100.0] * 3, [50.0] * 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    batch = grid_batch(truth) * 2
    for _ in range(80):
        optimizer.zero_grad()
        sum(model(batch).values()).backward()
        optimizer.step()
    model.eval()
    found = model(grid_batch(truth, scale=3.0))[0]["instances"]
    assert found.image_size == (192, 192)
    found = found[found.scores > 0.5]
    assert found.pred_classes.sort().values.tolist() == [0, 1]
    found = found[found.pred_classes.argsort()]
    assert pairwise_iou(found.pred_boxes, Boxes(torch.tensor(truth) * 3)).diagonal().min() > 0.7


# own_model.py


def test_a_model_of_ones_own_takes_forty_lines(tmp_path: Path) -> None:
    path = ROOT / "examples" / "own_model.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40
    module = load("own_model")
    try:
        results = module.main(str(tmp_path), *SMALL, "SOLVER.MAX_ITER=3", images=10)
        weights = final_weights(tmp_path)
        predictor = DefaultPredictor.from_checkpoint(tmp_path / "model_final.pth", ["MODEL.DEVICE=cpu"])
    finally:
        MODELS.remove("own_classifier")
    assert 0 <= results["classification"]["top1"] <= 100
    assert_equal_weights(weights, dict(predictor.model.state_dict()))
    output = predictor(next((tmp_path / "data").rglob("*.jpg")))
    assert output["classes"].shape == (3,) and output["classes"].sum().item() == pytest.approx(1)


# without_config.py


def test_a_detector_is_trained_without_a_config_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    module = load("without_config")
    module.main(str(tmp_path), 2, images=8)
    assert read_checkpoint(tmp_path / "model_final.pth")["trainer"]["iteration"] == 1
    forget("objects_train", "objects_val")
    trainer = module.main(str(tmp_path), 3, images=8)
    assert trainer.start_iter == 2
    assert [iteration for _, iteration in trainer.storage.history("loss_classification").values()] == [0, 1, 2]
    assert trainer.storage.latest()["bbox/AP50"][1] == 2  # evaluated after the last iteration
    assert (tmp_path / "log.txt").is_file()
