"""``drivetrain train``: what it leaves, how it goes on, and every way of giving it something wrong."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from drivetrain.cli.train import build_config, parser, train
from drivetrain.engine.defaults.config import get_cfg

# What it leaves


def test_files_of_a_training(trained: Path) -> None:
    names = {p.name for p in trained.iterdir()}
    assert {"model_final.pth", "last_checkpoint", "config.yaml", "log.txt", "metrics.json", "report.html"} <= names
    assert len(list((trained / "predictions").glob("*.jpg"))) == 4
    lines = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    assert lines[-1]["iteration"] == 3 and {"total_loss", "lr"} <= set().union(*lines)
    assert not list(trained.rglob("*.tmp"))


def test_report_names_the_places(command: Any) -> None:
    code, out, _ = command(*command.train_args())
    assert code == 0
    assert "bbox AP50 = " in out and "model_final.pth" in out and "drivetrain predict" in out


def test_without_validation_set(command: Any) -> None:
    code, _, err = command(*command.train_args(val_json=None, val_images=None))
    assert code == 0, err
    assert (command.folder / "out" / "report.html").exists()


def test_goes_on_from_its_own_config(command: Any, trained: Path) -> None:
    shutil.copytree(trained, command.folder / "out")
    more = ("--resume", "SOLVER.MAX_ITER=5", f"OUTPUT_DIR={command.folder / 'out'}")
    code, out, err = command("train", "--config-file", "out/config.yaml", *more)
    assert code == 0, err
    assert "Continues at iteration 4 of 5, 1 left" in out and "SOLVER.MAX_ITER: 4 -> 5" in out
    iterations = [json.loads(line)["iteration"] for line in (command.folder / "out/metrics.json").open()]
    assert iterations == sorted(iterations) and iterations[-1] == 4


@pytest.mark.parametrize("how", ["weights", "resume"])
def test_eval_only(command: Any, trained: Path, how: str) -> None:
    shutil.copytree(trained, command.folder / "out")
    given = ("--resume",) if how == "resume" else (f"MODEL.WEIGHTS={trained / 'model_final.pth'}",)
    before = (command.folder / "out/model_final.pth").stat().st_mtime_ns
    (command.folder / "out/inference/coco_instances_results.json").unlink()
    code, out, err = command(*command.train_args("--eval-only", *given))
    assert code == 0, err
    assert "Evaluation results on val" in out and "Starting training" not in out
    result = "inference/coco_instances_results.json"
    assert (command.folder / "out" / result).read_bytes() == (trained / result).read_bytes()
    assert (command.folder / "out/model_final.pth").stat().st_mtime_ns == before


@pytest.mark.slow
def test_two_processes(command: Any) -> None:
    code, _, err = command(*command.train_args("--num-gpus", "2"))
    assert code == 0, err
    state = torch.load(command.folder / "out/model_final.pth", weights_only=True)
    assert state["iteration"] == 1
    assert (command.folder / "out/log.txt.rank1").exists()
    sentence = command.refused(*command.train_args("--num-gpus", "2", "MODEL.WEIGHTS=nothere.pth", output="other"))
    assert "nothere.pth" in sentence


# The config


def built(*arguments: str) -> Any:
    return build_config(parser().parse_args(["--train-json=a", "--train-images=b", *arguments]))


def test_short_ways_and_overrides() -> None:
    cfg = built("--model", "retinanet_tiny", "--max-iter=40", "SOLVER.IMS_PER_BATCH", "3", "--output", "here")
    assert (cfg.MODEL.NAME, cfg.SOLVER.MAX_ITER, cfg.OUTPUT_DIR) == ("retinanet_tiny", 40, "here")
    assert cfg.SOLVER.IMS_PER_BATCH == 3 and cfg.SOLVER.OPTIMIZER == "AdamW" and cfg.is_frozen()


def test_a_config_file_is_not_changed_by_the_quick_settings(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("SOLVER: {BASE_LR: 0.5}\n")
    cfg = built(f"--config-file={tmp_path / 'c.yaml'}", "--max-iter=7", "--model=fcos_resnet50_fpn")
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.MODEL.NAME) == (0.5, 7, "fcos_resnet50_fpn")
    assert cfg.SOLVER.OPTIMIZER == get_cfg().SOLVER.OPTIMIZER


# Bad input: one sentence, exit code 2, nothing left


def test_missing_json(command: Any) -> None:
    assert "nothere.json" in command.refused(*command.train_args(train_json="nothere.json"))
    assert "nothere.json" in command.refused(*command.train_args(val_json="nothere.json"))


@pytest.mark.parametrize("split", ["train", "val"])
def test_malformed_json(command: Any, split: str) -> None:
    (command.folder / "bad.json").write_text('{"images": [')
    sentence = command.refused(*command.train_args(**{f"{split}_json": "bad.json"}))
    assert "bad.json" in sentence and "not valid JSON" in sentence and "line 1" in sentence


@pytest.mark.parametrize("more", [(), ("MODEL.NUM_CLASSES=4",)])
def test_unknown_category(command: Any, more: tuple[str, ...]) -> None:
    path = command.changed_json("cat.json", lambda c: c["annotations"][2].update(category_id=99))
    sentence = command.refused(*command.train_args(*more, train_json=path))
    assert "cat.json" in sentence and "annotations[2]" in sentence and "99" in sentence and "circle" in sentence


def test_missing_images(command: Any) -> None:
    assert "nofolder" in command.refused(*command.train_args(train_images="nofolder"))
    path = command.changed_json("gone.json", lambda c: c["images"][1].update(file_name="gone.jpg"))
    assert "gone.jpg" in command.refused(*command.train_args(train_json=path))


def test_empty_dataset(command: Any) -> None:
    path = command.changed_json("none.json", lambda c: c.update(images=[], annotations=[]))
    assert "none.json" in command.refused(*command.train_args(train_json=path))
    path = command.changed_json("bare.json", lambda c: c.update(annotations=[]))
    assert "FILTER_EMPTY_ANNOTATIONS" in command.refused(*command.train_args(train_json=path))


def test_mistakes_in_the_config_are_listed_together(command: Any) -> None:
    sentence = command.refused(
        *command.train_args("SOLVER.BASE_LRR=1", "MODEL.NUM_CLASSES=many", "SOLVER.IMS_PER_BATCH", "0")
    )
    assert "3 mistakes" in sentence and "'SOLVER.BASE_LR'" in sentence and "'many'" in sentence
    assert "IMS_PER_BATCH must be at least 1, received 0" in sentence
    Path("c.yaml").write_text("SOLVER:\n  BASE_LRR: 1\n  IMS_PER_BATCH: many\n")
    sentence = command.refused("train", "--config-file", "c.yaml")
    assert "c.yaml:2" in sentence and "c.yaml:3" in sentence
    assert "nothere.yaml" in command.refused("train", "--config-file", "nothere.yaml")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("SOLVER.IMS_PER_BATCH=0",), ("IMS_PER_BATCH", "0")),
        (("--max-iter", "0"), ("--max-iter 0", "at least 1")),
        (("SOLVER.MAX_ITER=0",), ("MAX_ITER", "at least 1")),
        (("--model", "fcos_tinny"), ("'fcos_tinny'", "'fcos_tiny'")),
        (("DATASETS.TRAIN=('trian',)",), ("DATASETS.TRAIN", "'trian'", "'train'")),
        (("DATASETS.TEST=('vall',)",), ("DATASETS.TEST", "'vall'", "'val'")),
        (("MODEL.NUM_CLASSES=2",), ("NUM_CLASSES is 2", "classes")),
        (("MODEL.DEVICE=warp",), ("'warp'", "MODEL.DEVICE")),
        (("SOLVER.BASE_LR",), ("SOLVER.BASE_LR", "no value")),
        (("--num-gpus", "-1"), ("-1",)),
        (("--num-machines", "2"), ("dist_url", "tcp://")),
        (("--eval-only",), ("no weights",)),
        (("TEST.EXPECTED_RESULTS=[['bbox','AP',1,1]]", "DATASETS.TEST=()"), ("EXPECTED_RESULTS", "DATASETS.TEST")),
    ],
)
def test_wrong_values(command: Any, more: tuple[str, ...], words: tuple[str, ...]) -> None:
    sentence = command.refused(*command.train_args(*more))
    assert all(word in sentence for word in words), sentence


def test_nothing_or_half_of_it_to_train_on(command: Any) -> None:
    assert "--train-json" in command.refused("train")
    assert "--train-images" in command.refused("train", "--train-json", command.data.train_json)


def test_weights(command: Any, trained: Path) -> None:
    assert "nothere.pth" in command.refused(*command.train_args("MODEL.WEIGHTS=nothere.pth"))
    content = (trained / "model_final.pth").read_bytes()
    (command.folder / "short.pth").write_bytes(content[: len(content) // 2])
    sentence = command.refused(*command.train_args("MODEL.WEIGHTS=short.pth"))
    assert "short.pth" in sentence and "damaged" in sentence
    sentence = command.refused(*command.train_args(f"MODEL.WEIGHTS={trained / 'model_final.pth'}", "--model=ssdlite"))
    assert "model_final.pth" in sentence and "MODEL.NAME" in sentence


def test_output_that_cannot_be_written(command: Any) -> None:
    (command.folder / "file").write_text("x")
    for output in ("file", "file/below", "/proc/none"):
        sentence = command.refused(*command.train_args(output=output))
        assert f"'{output}'" in sentence and "OUTPUT_DIR" in sentence


def test_a_finished_training(command: Any, trained: Path) -> None:
    shutil.copytree(trained, command.folder / "out")
    sentence = command.refused(*command.train_args())
    assert "'out'" in sentence and "drivetrain resume out" in sentence and "--output" in sentence
    sentence = command.refused(*command.train_args("--resume", "SOLVER.BASE_LR=0.5", max_iter=4))
    assert "no iteration is left" in sentence and "finished iteration 3" in sentence and "MAX_ITER is 4" in sentence


def test_processes_that_were_started_again_resume(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command(*command.train_args("SOLVER.CHECKPOINT_PERIOD=1"))[0] == 0
    (command.folder / "out" / "model_final.pth").unlink()
    (command.folder / "out" / "last_checkpoint").write_text("model_0000000.pth")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    code, out, err = command(*command.train_args("SOLVER.CHECKPOINT_PERIOD=1"))
    assert code == 0, err
    assert "Continues at iteration 1 of 2" in out
    code, out, err = command(*command.train_args(output="fresh"))  # it failed before its first checkpoint
    assert code == 0, err
    assert "Resuming" not in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--output", "an output"),
        ("resume", "out", "A=1"),
        ("extend", "out"),
        ("finetune", "model_final.pth", "--output", "an output"),
    ],
)
def test_a_signal_while_libraries_are_imported(arguments: tuple[str, ...]) -> None:
    """What has to be run again is said, and the exit code says so too; torch is not even imported."""
    code = f"""
import os, signal, sys
import drivetrain.cli.finetune, drivetrain.cli.resume, drivetrain.cli.train

def slow(*_):
    assert "torch" not in sys.modules
    os.kill(os.getpid(), signal.SIGTERM)

drivetrain.cli.train.build_config = drivetrain.cli.finetune.build_config = slow
drivetrain.cli.resume.config_of_folder = slow
from drivetrain.cli.main import main
sys.exit(main({list(arguments)!r}))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 75 and result.stdout == ""
    assert result.stderr == (
        "\nSIGTERM before the first step: there is nothing new to save or to resume, start again with: "
        f"{shlex.join(['drivetrain', *arguments])}\n"
    )


@pytest.mark.parametrize(
    ("restarts", "checkpoint", "expected"),
    [("0", True, "drivetrain train x"), ("1", False, "drivetrain train x"), ("1", True, "drivetrain resume {folder}")],
)
def test_a_signal_before_the_first_step_names_what_goes_on(
    restarts: str,
    checkpoint: bool,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A training that was started again has checkpoints, over which the command that started it would not write."""
    if checkpoint:
        (tmp_path / "model_0000001.pth").write_bytes(b"")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
    monkeypatch.setattr("drivetrain.cli.train._train_in_folder", lambda *given: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as ended:
        train(SimpleNamespace(OUTPUT_DIR=str(tmp_path)), Namespace(command="drivetrain train x"), "load")
    assert ended.value.code == 75
    assert capfd.readouterr().err.endswith(f"start again with: {expected.format(folder=tmp_path)}\n")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_does_not_open(command: Any, workers: int) -> None:
    images = command.folder / "images"
    shutil.copytree(command.data.train_images, images)
    (images / "000003.jpg").write_bytes(b"not an image")
    given = command.train_args(f"DATALOADER.NUM_WORKERS={workers}", train_images=images, max_iter=8)
    assert "000003.jpg" in command.refused(*given)  # it is in the first batch, and so in the rehearsal
    code, out, err = command(*given, "REHEARSE=False")
    assert code == 2
    assert err.count("\n") == 1 and "000003.jpg" in err and "not an image" in err
    assert "Total training time" in out or "Overall training speed" in out  # after_train of the timer ran
    assert not (command.folder / "out" / "model_final.pth").exists()
    assert (command.folder / "out" / "log.txt").exists()


def test_a_validation_image_that_does_not_open(command: Any) -> None:
    images = command.folder / "images"
    shutil.copytree(command.data.val_images, images)
    (images / "000002.jpg").write_bytes((images / "000002.jpg").read_bytes()[:200])
    code, _, err = command(*command.train_args(val_images=images))
    assert code == 2 and err.count("\n") == 1 and "000002.jpg" in err and "damaged" in err
