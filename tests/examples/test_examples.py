"""The examples run and do what they say; the commands and code in README exist."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from drivetrain import DatasetCatalog, DefaultTrainer, MetadataCatalog, get_cfg
from drivetrain.checkpoint import read_checkpoint
from drivetrain.cli.main import COMMANDS
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


@pytest.fixture(autouse=True, scope="module")
def on_the_cpu() -> Iterator[None]:
    """MODEL.DEVICE "auto" is the CPU here, where equal means equal bit for bit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drivetrain.runtime.device._count", lambda kind: int(kind == "cpu"))
        yield


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
        # In one process, the name of a dataset stands for one folder.
        for name in ("grid_train", "grid_val"):
            if name in DatasetCatalog.list():
                DatasetCatalog.remove(name)
                MetadataCatalog.remove(name)
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


# README.md and the other guides

GUIDES = ["README.md", "CONTRIBUTING.md", "examples/README.md"]


def blocks(guide: str, language: str) -> list[str]:
    text = (ROOT / guide).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def shell_lines(guide: str) -> list[str]:
    """Command lines of a guide's sh blocks, continued lines joined, comments left out."""
    text = "\n".join(blocks(guide, "sh")).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def drivetrain_commands() -> list[str]:
    lines = [line for guide in GUIDES for line in shell_lines(guide)]
    return sorted({line for line in lines if line.startswith("drivetrain ")})


@pytest.mark.parametrize("guide", GUIDES)
def test_python_blocks_compile_and_their_imports_exist(guide: str) -> None:
    """Each block compiles, and what it imports from the package is there."""
    for i, block in enumerate(blocks(guide, "python")):
        compile(block, f"{guide} block {i}", "exec")
        for module, names in re.findall(r"^from (drivetrain[\w.]*) import ([\w, ]+)$", block, re.MULTILINE):
            for name in names.split(","):
                assert hasattr(importlib.import_module(module), name.strip()), f"{guide}: {module}.{name}"


def test_readme_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The blocks run one after the other as they stand, but for fewer images and iterations."""
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks("README.md", "python"))
    for pattern, value in ((r"MAX_ITER = \d+", "MAX_ITER = 2"), (r"train=\d+, val=\d+", "train=8, val=2")):
        code, count = re.subn(pattern, value, code)
        assert count == 1, pattern
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    assert "AP50" in names["results"]["bbox"]
    assert (tmp_path / "output/shapes_run/seen.jpg").is_file()
    lines = (tmp_path / "output/regression/metrics.json").read_text().splitlines()
    losses = [entry["loss_square"] for entry in map(json.loads, lines) if "loss_square" in entry]
    assert losses[-1] < losses[0] / 10
    assert names["trainer"].iter < 500  # its hook ended it
    assert capsys.readouterr().out


def test_readme_has_code_in_it() -> None:
    assert len(blocks("README.md", "python")) >= 3
    assert len(drivetrain_commands()) >= 6
    assert {line.split()[1] for line in drivetrain_commands()} >= set(COMMANDS)


@pytest.mark.parametrize("line", drivetrain_commands())
def test_documented_commands_parse(line: str) -> None:
    """The command exists, and so do its options; nothing is run."""
    _, command, *arguments = shlex.split(line, comments=True)
    assert command in COMMANDS
    module = importlib.import_module(f"drivetrain.cli.{command}")
    if hasattr(module, "parser"):
        module.parser().parse_args(arguments)
    else:
        assert not arguments


@pytest.mark.parametrize("block", blocks("README.md", "yaml"))
def test_documented_configs_are_valid(block: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(block)
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "config.yaml"))
    cfg.validate()


def test_files_that_guides_name_exist() -> None:
    """Relative links, and paths in the commands of the repository's own folders."""
    for guide in GUIDES:
        text = (ROOT / guide).read_text(encoding="utf-8")
        named = re.findall(r"\]\((?!http|#)([^)#]+)", text)
        missing = [path for path in named if not (ROOT / guide).parent.joinpath(path).exists()]
        own = re.findall(r"(?<![\w/])(?:recipes|examples|benchmarks)/[\w/]+\.\w+", text)
        missing += [path for path in own if not (ROOT / path).exists()]
        assert not missing, f"{guide} names files that do not exist: {missing}"


def test_make_targets_that_guides_name_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for guide in GUIDES:
        for line in shell_lines(guide):
            if line.startswith("make "):
                for target in line.split("#")[0].split()[1:]:
                    assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{guide}: make {target}"
