"""``drivetrain doctor``."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from drivetrain.runtime import environment


def test_says_what_is_there(command: Any) -> None:
    code, out, _ = command("doctor")
    assert code == 0
    assert torch.__version__.split("+")[0] in out and "python" in out.lower()


def test_what_does_not_work_is_an_exit_code_with_advice(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = environment.environment_rows()[0]
    broken = type(first)("the thing", "absent", False, "install the thing")
    monkeypatch.setattr(environment, "environment_rows", lambda: [broken])
    code, out, _ = command("doctor")
    assert code == 1 and "install the thing" in out and "no" in out


def test_takes_no_arguments(command: Any) -> None:
    assert "--fix" in command.refused("doctor", "--fix")
