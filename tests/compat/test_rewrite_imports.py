"""Import statements as text."""

from __future__ import annotations

import ast

from drivetrain.compat.rewrite_imports import dotted, from_imports, import_as, imports_of


def statement(source: str) -> ast.ImportFrom:
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.ImportFrom)
    return node


def test_small_pieces() -> None:
    assert dotted("a.b:c") == "a.b.c" and import_as("a", None) == "import a" and import_as("a", "b") == "import a as b"
    assert imports_of(["a", "b", "a"]) == ["import a", "import b"]


def test_comments_stay_with_their_names() -> None:
    source = (
        "from detectron2.engine import (\n"
        "    # first\n"
        "    DefaultPredictor,  # predicts\n"
        "    DefaultTrainer,  # trains\n"
        ")"
    )
    assert from_imports(statement(source), source, "\n", {}) == (
        "from drivetrain.compat.predictor import (\n"
        "    DefaultPredictor,  # first  # predicts\n"
        ")\n"
        "from drivetrain.engine import (\n"
        "    DefaultTrainer,  # trains\n"
        ")"
    )


def test_long_statements_are_broken() -> None:
    names = "DefaultTrainer, default_argument_parser, default_writers, create_ddp_model, SimpleTrainer, AMPTrainer"
    source = f"from detectron2.engine import {names}, DefaultPredictor"
    new = from_imports(statement(source), source, "\n  ", {})
    assert new.startswith("from drivetrain.engine import (\n      DefaultTrainer,\n")
    assert new.endswith("\n  )\n  from drivetrain.compat.predictor import DefaultPredictor")
