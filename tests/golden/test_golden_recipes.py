"""The first 20 losses of each recipe for the drawn shapes, as they were when they were last looked at.

A recipe ``recipes/shapes_NAME.yaml`` has its values in ``recipes/shapes_NAME.json`` beside this file: ``losses``,
``close`` (how many of the steps are compared closely), and ``changes`` (to the recipe, by which its test takes a few
seconds at most). ``GOLDEN=update python -m pytest tests/golden`` writes new losses, and a new file for a new recipe.

Detectors of two stages warm up for longer here, so that steps amplify less of what is rounded: random factors of
1 + 1e-6 on all weights then change the losses of twenty steps by at most 0.3 %, and by up to 40 % otherwise.
"""

from __future__ import annotations

import json
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from drivetrain.cli.data import run as data_command
from drivetrain.engine.defaults import get_cfg

from .steps import STEPS, Losses, assert_comparison_can_fail, compare, first_losses, updating

RECIPES = {path.stem: path for path in (Path(__file__).resolve().parents[2] / "recipes").glob("shapes_*.yaml")}
STORED = Path(__file__).with_name("recipes")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which 'shapes' is, as the recipes want it, with fewer images."""
    folder = tmp_path_factory.mktemp("golden_recipes")
    assert data_command(["shapes", str(folder / "shapes"), "--train=32", "--val=2"]) == 0
    return folder


def stored_values(name: str) -> dict[str, Any]:
    """What is known of a recipe."""
    path = STORED / f"{name}.json"
    if updating() and not path.exists():
        return {"changes": [], "close": STEPS}
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def losses(name: str, changes: list[str], folder: Path) -> Losses:
    """Of each of the first steps of a recipe."""
    cfg = get_cfg()
    cfg.merge_from_file(str(RECIPES[name]))
    cfg.OUTPUT_DIR = str(folder)
    cfg.merge_from_list(["MODEL.DEVICE=cpu", "DATALOADER.NUM_WORKERS=0", "REHEARSE=False", *changes])
    return first_losses(cfg)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_tells_the_commands_that_repeat_it(name: str) -> None:
    lines = RECIPES[name].read_text(encoding="utf-8").splitlines()
    head = "\n".join(takewhile(lambda line: line.startswith("#"), lines))
    assert "drivetrain data shapes shapes" in head and f"--config-file recipes/{name}.yaml" in head


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_losses_are_the_stored_ones(name: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shapes)
    stored = stored_values(name)
    found = losses(name, stored["changes"], tmp_path / "out")
    if updating():
        STORED.mkdir(exist_ok=True)
        text = json.dumps({**stored, "losses": found}, indent=1) + "\n"
        (STORED / f"{name}.json").write_text(text, encoding="utf-8")
        pytest.skip("the stored values were replaced")
    compare(found, stored["losses"], stored["close"])
    assert found[-1] != found[0]


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_comparison_can_fail(name: str) -> None:
    stored = stored_values(name)
    assert_comparison_can_fail(stored["losses"], stored["close"])


def test_recipes_and_stored_values_belong_together() -> None:
    assert RECIPES and set(RECIPES) == {path.stem for path in STORED.glob("*.json")}
