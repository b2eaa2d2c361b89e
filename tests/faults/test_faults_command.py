"""benchmarks/faults.py: what it starts, what it reads out of the outputs, and its table."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("faults_command", ROOT / "benchmarks" / "faults.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "faults_command", module)
    spec.loader.exec_module(module)
    return module


def test_everything_it_starts_is_there_and_scales(faults: Any) -> None:
    for name, case in faults.DEMONSTRATIONS.items():
        for scale in (1.0, 0.05):
            for command in case.commands(scale):
                files = [word for word in command if word.endswith(".py")]
                assert files and all((ROOT / file).is_file() for file in files), (name, command)
    (long,), (short,) = (faults.DEMONSTRATIONS["kills_2"].commands(scale) for scale in (1.0, 0.05))
    assert long[1:] == ["--kills", "200", "--ranks", "2"] and short[1:] == ["--kills", "10", "--ranks", "2"]
    (long,), (short,) = (faults.DEMONSTRATIONS["hang"].commands(scale) for scale in (1.0, 0.05))
    assert long[-1] == "slow or not slow" and "slow or not slow" not in short


@pytest.mark.parametrize(
    ("name", "outputs", "expected"),
    [
        ("killed", [(0, "ranks 1: 10 kills (1 while saving)\nfailed resumes 0, divergent 0, 9 s")], (True, "10 kills")),
        ("killed", [(1, "ranks 1: 10 kills\nfailed resumes 0, divergent 2, 9 s")], (False, "2 divergent")),
        ("killed", [(1, "Traceback")], (False, "0 kills")),
        ("passed", [(0, "prints 3 failed\n..\n12 passed, 1 deselected in 3.20s")], (True, "tests: 12 passed")),
        ("passed", [(1, "1 failed, 11 passed in 3.20s")], (False, "tests: 11 passed, 1 failed")),
        ("passed", [(5, "no tests ran in 0.01s")], (False, "nothing ran")),
        (
            "damaged",
            [(0, "x damaged, resumed from 2: 600\ny damaged, resumed from 3: 400\n1 passed in 9.0s")],
            (True, "1000"),
        ),
        ("damaged", [(0, "6 passed in 9.0s")], (True, "6 passed")),
        ("damaged", [(1, "x damaged, resumed from 2: 600\n1 failed in 9.0s")], (False, "1 failed")),
        ("saves", [(0, '{"kills": 9, "within_a_save": 4}')], (True, "9 kills, 4 within")),
        ("saves", [(1, "AssertionError")], (False, "lost")),
        ("diverged", [(1, "failed resumes 0, divergent 3"), (1, "failed resumes 0, divergent 1")], (True, "2 of 2")),
        ("diverged", [(1, "failed resumes 0, divergent 3"), (0, "failed resumes 0, divergent 0")], (False, "1 of 2")),
        (
            "signalled",
            [
                (0, "step, 1 ranks: exit codes [75], 0.3 s\nlast, 1 ranks: exit codes [75], 0.3 s\nproblems 0"),
                (0, "9 random signals: median 0.2 s, p99 0.92 s, longest 0.92 s from signal to exit\nproblems 0"),
            ],
            (True, "2 moments and 9 random times: 0 problems, p99 0.9 s"),
        ),
        ("signalled", [(0, "9 random signals: median 0.2 s, p99 12.0 s, longest\nproblems 0")], (False, "12.0 s")),
        ("signalled", [(1, "9 random signals: median 0.2 s, p99 1.0 s, longest\nproblems 1")], (False, "1 problems")),
    ],
)
def test_what_it_reads(faults: Any, name: str, outputs: list[tuple[int, str]], expected: tuple[bool, str]) -> None:
    reached = getattr(faults, name)([faults.Run(*output) for output in outputs])
    assert reached.enough is expected[0] and expected[1] in reached.figure, reached


def test_the_table_and_the_exit_code(
    faults: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def case(code: str) -> Any:
        return faults.Demonstration("something", "1 passed", lambda scale: [["-c", code]], faults.passed)

    cases = {"holds": case("print('1 passed in 0.1s')"), "breaks": case("print('why'); raise SystemExit(1)")}
    monkeypatch.setattr(faults, "DEMONSTRATIONS", cases)
    document = tmp_path / "benchmarks.md"
    monkeypatch.setattr(sys, "argv", ["benchmarks/faults.py", "--only", "holds"])
    assert faults.main(["--only", "holds", "--document", str(document)]) == 0
    assert "All that was asked was reached." in capsys.readouterr().out
    assert "| holds | something | 1 passed | tests: 1 passed | yes" in document.read_text()
    assert faults.main(["--scale", "0.5"]) == 1
    out, err = capsys.readouterr()
    assert "Not reached: breaks. Counts are scaled by 0.5" in out and "why" in err
    for arguments in (["--scale", "0"], ["--only", "nothing"]):
        with pytest.raises(SystemExit):
            faults.main(arguments)


@pytest.mark.slow
def test_a_short_form_of_a_real_one(faults: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert faults.main(["--only", "elastic", "--scale", "0.05"]) == 0
    out = capsys.readouterr().out
    assert "elastic" in out and "passed" in out and "  yes  " in out
