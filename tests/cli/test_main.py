"""The entry point: finding the command, exit codes, one sentence for what the user got wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drivetrain._version import __version__
from drivetrain.cli import config as config_command
from drivetrain.cli.main import COMMANDS, main
from drivetrain.errors import ConfigError


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    assert main([]) == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_helps_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "example" in text and f"drivetrain {name}" in text


def test_unknown_command_names_a_close_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "'trian'" in err and "'train'" in err


def test_unknown_flag_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--rezume"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "'--rezume'" in err and "'--resume'" in err


@pytest.mark.parametrize(("error", "code"), [(ConfigError("no such thing"), 2), (KeyboardInterrupt(), 130)])
def test_exit_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(argv: Any) -> int:
        raise error

    monkeypatch.setattr(config_command, "run", fail)
    assert main(["config"]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(argv: Any) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr(config_command, "run", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["config"])


def test_runs_as_a_module_without_importing_torch_for_help(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom drivetrain.cli.main import main\ncode = main(['train', '--help'])\n"
        "sys.exit(3 if 'torch' in sys.modules else code)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "drivetrain", "nothing"], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "there is no command 'nothing'" in done.stderr
