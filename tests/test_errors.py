"""The exception tree and the hints."""

from __future__ import annotations

import pytest

from drivetrain import errors


def test_each_error_can_be_caught_as_what_users_know() -> None:
    assert issubclass(errors.UnknownKeyError, (KeyError, AttributeError))
    assert issubclass(errors.UnknownKeyError, AttributeError)
    assert issubclass(errors.NonFiniteLossError, FloatingPointError)
    assert issubclass(errors.MissingDependencyError, ImportError)
    assert issubclass(errors.EvaluationError, ValueError)
    assert issubclass(errors.OutputError, OSError)


def test_every_error_is_a_drivetrain_error() -> None:
    for name in errors.__all__:
        value = getattr(errors, name)
        if isinstance(value, type):
            assert issubclass(value, errors.DrivetrainError)


def test_a_key_error_prints_its_message_plainly() -> None:
    assert str(errors.UnknownKeyError("no key 'A'")) == "no key 'A'"
    assert str(errors.DrivetrainError("a", "b")) == "('a', 'b')"


def test_missing_dependency_names_the_extra() -> None:
    error = errors.MissingDependencyError.for_extra("transformers", "transformers", "model 'x'")
    assert "pip install 'drivetrain[transformers]'" in str(error)


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("BASE_LRR", ["BASE_LR", "GAMMA"], "; did you mean 'BASE_LR'?"),
        ("base_lr", ["BASE_LR"], "; did you mean 'BASE_LR'?"),
        ("nothing_like_it", ["BASE_LR"], ""),
        ("x", [], ""),
    ],
)
def test_did_you_mean(name: str, known: list[str], hint: str) -> None:
    assert errors.did_you_mean(name, known) == hint
