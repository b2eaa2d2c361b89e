"""``drivetrain runs``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.checkpoint import Checkpointer
from drivetrain.cli.runs import checkpoints


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Two periodic checkpoints and a best one."""
    checkpointer = Checkpointer(torch.nn.Linear(2, 2), str(tmp_path / "out"))
    checkpointer.save("model_0000009", iteration=9)
    checkpointer.save("model_best", iteration=9, metric={"bbox/AP": 41.25})
    checkpointer.save("model_0000019", iteration=19)
    return tmp_path / "out"


def rows(command: Any, *arguments: str) -> dict[str, dict[str, Any]]:
    code, out, _ = command("runs", "out", "--json", *arguments)
    assert code == 0
    return {row["file"]: row for row in json.loads(out)}


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_table(command: Any, saved: Path) -> None:
    code, out, _ = command("runs", "out")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert list(lines) == ["file", "model_0000009.pth", "model_best.pth", "model_0000019.pth"]
    best = lines["model_best.pth"].split()
    assert best[1:4] == ["best", "9", "bbox/AP=41.25"] and best[-1] == "whole"
    assert lines["model_0000019.pth"].split()[1:3] == ["last", "19"]
    assert "KiB" in out and "UTC" in out


def test_json_has_the_same(command: Any, saved: Path) -> None:
    found = rows(command)
    best = found["model_best.pth"]
    assert (best["roles"], best["iteration"], best["metric"]) == (["best"], 9, {"bbox/AP": 41.25})
    assert best["bytes"] == (saved / "model_best.pth").stat().st_size
    assert {row["state"] for row in found.values()} == {"whole"}


def test_damaged_missing_and_unlisted_files_are_marked(command: Any, saved: Path) -> None:
    damage(saved / "model_0000019.pth")
    (saved / "model_0000009.pth").unlink()
    torch.save({"model": {}}, saved / "own.pth")
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    found = rows(command)
    states = {name: row["state"] for name, row in found.items()}
    assert states == {
        "model_0000009.pth": "missing",
        "model_best.pth": "whole",
        "model_0000019.pth": "damaged",
        "own.pth": "whole",
    }
    assert "does not match the digest" in found["model_0000019.pth"]["problem"]
    assert {row["state"] for row in rows(command, "--no-verify").values()} == {"missing", "not verified"}
    assert "damaged" in command("runs", "out")[1]
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_what_a_resume_set_aside_is_listed_once(command: Any, saved: Path) -> None:
    damage(saved / "model_0000019.pth")
    Checkpointer(torch.nn.Linear(2, 2), str(saved)).resume_or_load("")
    found = rows(command)
    assert found["model_0000019.pth.corrupt"]["state"] == "set aside" and "model_0000019.pth" not in found


def test_what_was_set_aside_is_not_taken_for_the_file_that_took_its_name(command: Any, tmp_path: Path) -> None:
    checkpointer = Checkpointer(torch.nn.Linear(2, 2), str(tmp_path / "out"))
    checkpointer.save("model_0000003", iteration=3)
    checkpointer.save("model_preempted", iteration=5)
    damage(tmp_path / "out" / "model_preempted.pth")
    checkpointer.resume_or_load("")
    checkpointer.save("model_preempted", iteration=8)
    found = rows(command)
    assert (found["model_preempted.pth"]["iteration"], found["model_preempted.pth"]["state"]) == (8, "whole")
    aside = found["model_preempted.pth.corrupt"]
    assert (aside["iteration"], aside["time"], aside["state"]) == (None, "", "set aside")


@pytest.mark.parametrize(
    ("name", "problem"), [("nowhere", "does not exist"), ("empty", "has no checkpoints"), ("file", "is a file")]
)
def test_a_folder_without_any_is_one_sentence(command: Any, name: str, problem: str) -> None:
    (command.folder / "empty").mkdir()
    (command.folder / "file").touch()
    message = command.refused("runs", name)
    assert message == f"the folder {name} {problem}: give the output folder of a training"


def test_names_in_files_cannot_steer_the_terminal(command: Any, saved: Path) -> None:
    manifest = saved / "checkpoints.json"
    manifest.write_text(manifest.read_text().replace("bbox/AP", "\\u001b[31m[bold]"))
    _, out, _ = command("runs", "out")
    assert "\x1b" not in out and r"\x1b[31m[bold]=41.25" in out


def test_of_a_training(trained: Path) -> None:
    found = {row["file"]: row for row in checkpoints(trained)}
    assert found["model_final.pth"]["roles"] == ["final", "last"]
    assert {row["state"] for row in found.values()} == {"whole"}
