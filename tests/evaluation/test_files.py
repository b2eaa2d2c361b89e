from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivetrain.errors import OutputError
from drivetrain.evaluation.files import write_json, write_whole


def test_a_file_is_replaced_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "r.txt"
    write_whole(["a", "b\n"], path)
    assert path.read_text() == "ab\n"
    with open(path, encoding="utf-8") as reader:
        write_whole(["A", "B\n"], path)
        assert reader.read() == "ab\n"  # who reads the old one still does
    write_whole(["ab\n"], path)

    def broken() -> Iterator[str]:
        yield "c"
        assert path.read_text() == "ab\n"  # nothing of it can be seen yet
        raise KeyError("stop")

    with pytest.raises(KeyError):
        write_whole(broken(), path)
    assert path.read_text() == "ab\n"
    assert [p.name for p in path.parent.iterdir()] == ["r.txt"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written to .*r\.txt"):
        write_whole(["a"], tmp_path / "file" / "r.txt")


def test_what_is_not_a_number_is_null(tmp_path: Path) -> None:
    write_json({"a": [1, math.nan, {"b": math.nan}], "c": "NaN", "d": 2.5}, tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text()
    assert json.loads(text) == {"a": [1, None, {"b": None}], "c": "NaN", "d": 2.5}
