"""README and the guides: their commands, keys and files exist, and their code runs."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain import get_cfg
from drivetrain.cli.main import COMMANDS
from drivetrain.data import DatasetMapper
from drivetrain.data.formats.synthetic import make_synthetic

ROOT = Path(__file__).resolve().parents[2]
ANSWERS, INSIDE = "docs/how-to/answers.md", "docs/how-it-works.md"
EXAMPLES_OF_NAMES = {"drivetrain/a/b.py", "tests/a/test_b.py"}
GUIDES = ["README.md", "CONTRIBUTING.md", "examples/README.md", ANSWERS, INSIDE]


def read(guide: str) -> str:
    return (ROOT / guide).read_text(encoding="utf-8")


def blocks(guide: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", read(guide), re.DOTALL | re.MULTILINE)


def shell_lines(guide: str) -> list[str]:
    """Command lines of a guide's sh blocks, continued lines joined, comments left out."""
    text = "\n".join(blocks(guide, "sh")).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def drivetrain_commands() -> list[str]:
    lines = [line for guide in GUIDES for line in shell_lines(guide)]
    return sorted({line for line in lines if line.startswith("drivetrain ")})


def run_python(guide: str, changes: dict[str, str]) -> dict[str, Any]:
    """Run the blocks one after the other as they stand, but for these changes (a pattern and what replaces it)."""
    code = "\n".join(blocks(guide, "python"))
    for pattern, value in changes.items():
        code, count = re.subn(pattern, value, code)
        assert count == 1, pattern
    names: dict[str, Any] = {"__name__": "guide"}
    exec(compile(code, guide, "exec"), names)
    return names


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
    monkeypatch.chdir(tmp_path)
    names = run_python("README.md", {r"MAX_ITER = \d+": "MAX_ITER = 2", r"train=\d+, val=\d+": "train=8, val=2"})
    assert "AP50" in names["results"]["bbox"]
    assert (tmp_path / "output/shapes_run/seen.jpg").is_file()
    lines = (tmp_path / "output/regression/metrics.json").read_text().splitlines()
    losses = [entry["loss_square"] for entry in map(json.loads, lines) if "loss_square" in entry]
    assert losses[-1] < losses[0] / 10
    assert names["trainer"].iter < 500  # its hook ended it
    assert "loss_square" in capsys.readouterr().out


def test_the_readmes_loop_alone_tells_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Copied without the blocks before it, it prints what it does."""
    monkeypatch.chdir(tmp_path)
    (block,) = (block for block in blocks("README.md", "python") if "SimpleTrainer" in block)
    exec(compile(block, "README.md", "exec"), {"__name__": "guide"})
    assert "loss_square" in capsys.readouterr().out


def test_answers_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_python(ANSWERS, {r"max_iter=\d+": "max_iter=1", r"train=\d+, val=\d+": "train=8, val=2"})
    assert names["results"].keys() == {"bbox", "count"}
    assert type(names["records"]()[0]["annotations"][0]["category_id"]) is int
    # The augmentations were called: the images of a training are darker than those of the same loader without them.
    plain = next(iter(names["DefaultTrainer"].build_train_loader(names["trainer"].cfg)))
    darker = next(iter(names["Trainer"].build_train_loader(names["trainer"].cfg)))
    assert [entry["image_id"] for entry in plain] == [entry["image_id"] for entry in darker]
    assert all(b["image"].sum() < a["image"].sum() for a, b in zip(plain, darker, strict=True))
    saved = importlib.import_module("safetensors.torch").load_file("output/answers/weights.safetensors")
    assert all(torch.equal(value, names["weights"][name]) for name, value in saved.items())
    assert saved.keys() == names["weights"].keys()


def test_samples_have_the_layout_that_the_guides_tell(tmp_path: Path) -> None:
    data = make_synthetic(tmp_path, train=1, val=1)
    mapper = DatasetMapper(False, augmentations=[], image_format="RGB")
    image = mapper({"file_name": f"{data.train_images}/000000.jpg"})["image"]
    assert image.dtype == torch.uint8 and image.stride()[0] == 1
    with pytest.raises(RuntimeError, match="reshape"):
        image.view(-1)
    assert "`image.stride()[0]` is 1" in read(INSIDE) and "`reshape` instead of `view`" in read(ANSWERS)


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


@pytest.mark.parametrize("block", [block for guide in GUIDES for block in blocks(guide, "yaml")])
def test_documented_configs_are_valid(block: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(block)
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "config.yaml"))
    cfg.validate()


@pytest.mark.parametrize("guide", GUIDES)
def test_config_keys_that_guides_name_exist(guide: str) -> None:
    """Keys with their section, in text and code."""
    missing = []
    for key in re.findall(r"\b(?:MODEL|INPUT|DATASETS|DATALOADER|SOLVER|TEST)(?:\.[A-Z][A-Z_\d]*)+", read(guide)):
        node: Any = get_cfg()
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
            if node is None:
                missing.append(key)
    assert not missing


def test_files_that_guides_name_exist() -> None:
    """Relative links, and paths in the commands of the repository's own folders."""
    for guide in GUIDES:
        named = re.findall(r"\]\((?!http|#)([^)#]+)", read(guide))
        missing = [path for path in named if not (ROOT / guide).parent.joinpath(path).exists()]
        own = re.findall(r"(?<![\w/])(?:recipes|examples|benchmarks)/[\w/]+\.\w+", read(guide))
        missing += [path for path in own if not (ROOT / path).exists()]
        assert not missing, f"{guide} names files that do not exist: {missing}"


def test_modules_that_guides_name_exist() -> None:
    """A name such as `data/order.py` or `order.py` is the end of a path."""
    folders = [ROOT / name for name in ("drivetrain", "benchmarks", "tests")]
    paths = [f"/{path.relative_to(ROOT)}" for folder in folders for path in folder.rglob("*.py")]
    for guide in ("CONTRIBUTING.md", ANSWERS, INSIDE):
        named = set(re.findall(r"`([\w/]+\.py)`", read(guide))) - EXAMPLES_OF_NAMES
        missing = [name for name in named if not any(path.endswith(f"/{name}") for path in paths)]
        assert not missing, f"{guide} names modules that do not exist: {missing}"


def test_make_targets_that_guides_name_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for guide in GUIDES:
        for line in shell_lines(guide):
            if line.startswith("make "):
                for target in line.split("#")[0].split()[1:]:
                    assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{guide}: make {target}"
