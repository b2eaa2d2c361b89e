"""``drivetrain data shapes``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drivetrain.cli.data_shapes import _TASKS
from drivetrain.cli.main import main
from drivetrain.data.formats import synthetic
from drivetrain.data.formats.sources import find_source

FEW = ("--train", "3", "--val", "2", "--size", "32")


def test_every_task_is_drawn_as_its_function_draws_it(command: Any, tmp_path: Path) -> None:
    code, out, err = command("data", "shapes", "drawn", *FEW, "--seed", "4")
    assert code == 0, err
    assert sorted(path.name for path in Path("drawn").iterdir()) == sorted(_TASKS)
    for task in _TASKS:
        assert f"drawn/{task}: 3 + 2 images with" in out
    functions = {
        "instances": synthetic.make_synthetic,
        "segmentation": synthetic.make_synthetic_segmentation,
        "panoptic": synthetic.make_synthetic_panoptic,
        "classes": synthetic.make_synthetic_classification,
    }
    for task, make in functions.items():
        make(tmp_path / "again" / task, train=3, val=2, size=(32, 32), seed=4)
        files = sorted(p.relative_to(f"drawn/{task}") for p in Path("drawn", task).rglob("*") if p.is_file())
        again = sorted(p.relative_to(tmp_path / "again" / task) for p in (tmp_path / "again" / task).rglob("*.*"))
        assert files == again and len(files) >= 5
        for name in files:
            assert Path("drawn", task, name).read_bytes() == (tmp_path / "again" / task / name).read_bytes()


def test_one_task_in_its_own_size(command: Any) -> None:
    assert command("data", "shapes", "drawn", "--task", "instances", "--train", "1", "--val", "1")[0] == 0
    image = json.loads(Path("drawn/instances/instances_train.json").read_text())["images"][0]
    assert (image["width"], image["height"]) == (128, 128)
    assert [path.name for path in Path("drawn").iterdir()] == ["instances"]


@pytest.mark.parametrize("task", _TASKS)
def test_the_next_command_is_one_that_runs(command: Any, task: str) -> None:
    out = command("data", "shapes", "shapes", "--task", task, *FEW)[1]
    words = out.splitlines()[-1].removeprefix("next: drivetrain ").split()
    assert words[:2] == ["data", "inspect"] and command(*words)[0] == 0 and Path("sheet.jpg").exists()


def test_the_recipes_it_names_are_there() -> None:
    named = [Path(task.recipe) for task in _TASKS.values() if task.recipe]
    assert len(named) == 3 and all((Path(__file__).parents[2] / recipe).is_file() for recipe in named)


def test_beside_the_recipes_the_next_command_trains(command: Any) -> None:
    Path("recipes").mkdir()
    Path("recipes/shapes_classifier.yaml").touch()
    out = command("data", "shapes", "./shapes", "--task", "classes", *FEW)[1]
    assert out.endswith(
        "next: drivetrain train --config-file recipes/shapes_classifier.yaml --output output/shapes_classifier\n"
    )
    out = command("data", "shapes", "elsewhere", "--task", "classes", *FEW)[1]
    assert "next: drivetrain data inspect elsewhere/classes" in out  # the recipes do not look there


def test_bad_input_leaves_nothing(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command.refused("data", "shapes", "new", "--train", "0") == "--train 0 must be at least 1"
    assert command.refused("data", "shapes", "new", "--val", "-1") == "--val -1 must be at least 1"
    assert command.refused("data", "shapes", "new", "--size", "31") == "--size 31 must be at least 32"
    assert command.refused("data", "shapes", "new", "--seed", "-1") == "--seed -1 must be at least 0"
    Path("file").touch()
    assert "cannot be written" in command.refused("data", "shapes", "file", *FEW)
    Path("old/panoptic").mkdir(parents=True)
    Path("old/panoptic/mine.txt").touch()
    assert "'old/panoptic' exists already" in command.refused("data", "shapes", "old", *FEW)

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "make_synthetic_panoptic", interrupt)
    assert main(["data", "shapes", "new", *FEW]) == 130
    assert not Path("new").exists()


def test_sources_are_found_in_what_is_drawn(command: Any) -> None:
    command("data", "shapes", "drawn", *FEW)
    found = {task: find_source(str(Path("drawn", task, kind.look))).format for task, kind in _TASKS.items()}
    assert found == {
        "instances": "coco",
        "segmentation": "sem_seg",
        "panoptic": "coco_panoptic",
        "classes": "folder",
    }
