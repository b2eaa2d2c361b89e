"""``drivetrain demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivetrain.cli import demo


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four images to evaluate on instead of 200, and loading in this process."""
    from drivetrain.data.formats import synthetic

    make = synthetic.make_synthetic
    monkeypatch.setattr(synthetic, "make_synthetic", lambda *args, **kw: make(*args, **(kw | {"val": 4})))
    settings = demo._settings
    monkeypatch.setattr(demo, "_settings", lambda *args: [*settings(*args), "DATALOADER.NUM_WORKERS=0"])


def test_from_nothing_to_pictures_and_again(command: Any) -> None:
    code, out, err = command("demo", "--max-iter", "1", "--images", "8")
    assert code == 0, err
    folder = command.folder / "demo_output"
    assert "bbox AP50 = " in out and "report.html" in out
    assert (folder / "model_final.pth").exists() and len(list((folder / "predictions").glob("*.jpg"))) == 4
    (folder / "left_over").touch()
    before = set(folder.rglob("*"))
    assert "--max-iter 0" in command.refused("demo", "--max-iter", "0")  # and the first one's output is still there
    assert set(folder.rglob("*")) == before
    assert demo._fresh_folder(folder) == folder and [p.name for p in folder.iterdir()] == [".drivetrain_demo"]


def test_bad_input(command: Any) -> None:
    assert "--images 0" in command.refused("demo", "--images", "0")
    assert "--seed -1" in command.refused("demo", "--seed", "-1")
    Path("mine").mkdir()
    Path("mine/photo.jpg").touch()
    assert "mine is not empty" in command.refused("demo", "--output", "mine")
    assert "cannot be written" in command.refused("demo", "--output", "mine/photo.jpg")
