"""Single bits that flip, and ends that are cut off, in every file that a resume reads."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

FILES = ("model_0000003.pth", "model_0000002.pth", "model_best.pth", "checkpoints.json", "last_checkpoint")


def damage(path: Path, rng: random.Random) -> str:
    """Flip a bit, or cut the end off; says what was done."""
    content = bytearray(path.read_bytes())
    place = rng.randrange(len(content))
    if rng.random() < 0.2:
        path.write_bytes(content[:place])
        return f"{path.name} cut off at {place}"
    bit = rng.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"{path.name}: bit {bit} of byte {place}"


def check(make_run: Any, source: Path, folder: Path, name: str, rng: random.Random, caplog: Any) -> int:
    """Damage a file of a copy of the folder and resume: exactly a saved state, and the damage is said if it counted."""
    shutil.copytree(source, folder)
    what = damage(folder / name, rng)
    caplog.clear()
    run = make_run(folder)
    rest = run.checkpointer.resume_or_load("")
    assert rest["iteration"] == run.whole(), what
    assert run.whole() in (1, 2, 3), what
    said = caplog.text
    if name == "model_0000003.pth":
        assert run.whole() == 2 and "Falling back from model_0000003.pth to model_0000002.pth: 1 iterations are" in said
        assert "does not match the digest" in said or "is empty" in said, what
        assert (folder / "model_0000003.pth.corrupt").exists(), what
    elif name.endswith(".pth"):
        assert run.whole() == 3, what  # not read by this resume
        with pytest.raises(Exception, match=r"does not match the digest|is empty"):
            run.checkpointer.folder.verify(name)
    elif run.whole() < 3:
        assert "iterations are lost" in said or "iterations before" in said, what
    run.step(4)  # and the folder takes the next save
    again = make_run(folder)
    again.checkpointer.resume_or_load("")
    assert again.whole() == 4, what
    shutil.rmtree(folder)
    return int(rest["iteration"])


@pytest.mark.parametrize("name", FILES)
def test_damage_is_detected_or_harmless(name, make_run, saved_run, tmp_path, caplog):
    source, rng = saved_run("source"), random.Random(name)
    for number in range(12):
        check(make_run, source, tmp_path / str(number), name, rng, caplog)


@pytest.mark.slow
def test_a_thousand_times(make_run, saved_run, tmp_path, caplog):
    source, rng = saved_run("source"), random.Random(7)
    outcomes: dict[tuple[str, int], int] = {}
    for number in range(1000):
        name = FILES[number % len(FILES)]
        found = check(make_run, source, tmp_path / str(number), name, rng, caplog)
        outcomes[name, found] = outcomes.get((name, found), 0) + 1
    assert sum(outcomes.values()) == 1000
    print(*(f"{name} damaged, resumed from {it}: {n}" for (name, it), n in sorted(outcomes.items())), sep="\n")


def test_every_bit_of_last_checkpoint(make_run, saved_run, tmp_path, caplog):
    source = saved_run("source")
    pointer = (source / "last_checkpoint").read_bytes()
    for place in range(len(pointer)):
        for bit in range(8):
            changed = bytearray(pointer)
            changed[place] ^= 1 << bit
            (source / "last_checkpoint").write_bytes(changed)
            caplog.clear()
            name = next(make_run(source).checkpointer.folder.candidates())
            assert name in ("model_0000003.pth", "model_0000002.pth"), changed
            assert name == "model_0000003.pth" or bytes(changed) == b"model_0000002.pth"
