"""Rewriting notebooks."""

from __future__ import annotations

import json

from drivetrain.compat.notebooks import rewrite_notebook


def notebook(*sources: str | list[str]) -> str:
    cells = [
        {"cell_type": "code", "execution_count": 1, "metadata": {}, "outputs": [{"text": "ü"}], "source": s}
        for s in sources
    ]
    cells.append({"cell_type": "markdown", "metadata": {}, "source": ["import detectron2\n"]})  # type: ignore[dict-item]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}, indent=1, ensure_ascii=False) + "\n"


def test_cells_are_one_program_and_magic_stays() -> None:
    old = notebook(
        ["!pip install x\n", "import detectron2\n", "%matplotlib inline"],
        "print(detectron2.__version__)",
        "%%bash\nls |",
        "if True:\n    !ls",
    )
    done = rewrite_notebook(old)
    new = json.loads(done.text)
    assert new["cells"][0]["source"] == [
        "!pip install x\n",
        "import drivetrain.compat.environment\n",
        "%matplotlib inline",
    ]
    assert new["cells"][1]["source"] == "print(drivetrain.compat.environment.__version__)"
    before = json.loads(old)
    assert new["cells"][2:] == before["cells"][2:] and done.changes == 2 and not done.problems
    assert rewrite_notebook(done.text).text == done.text


def test_problems_tell_cell_and_line() -> None:
    done = rewrite_notebook(notebook("x = 1", "x = 2\nfrom detectron2.structures import RotatedBoxes"), "n.ipynb")
    assert (done.changes, done.problems[0].line) == (0, 2)
    assert done.problems[0].message.startswith("(code cell 1) detectron2.structures.RotatedBoxes has no")


def test_other_json_is_no_notebook() -> None:
    for text in ("{", "[]", '{"cells": 3}'):
        assert "is not a notebook" in rewrite_notebook(text, "n.ipynb").problems[0].message


def test_a_cell_that_cannot_be_read_is_named_if_it_imports() -> None:
    old = notebook(
        "import detectron2", "files = !ls\nfrom detectron2.engine import launch", "?detectron2", "!pip \\\n  x"
    )
    done = rewrite_notebook(old, "n.ipynb")
    assert [p.message for p in done.problems] == ["(code cell 1) it is not Python, and imports what is to be replaced"]
    assert json.loads(done.text)["cells"][1:] == json.loads(old)["cells"][1:] and done.changes == 1


def test_characters_that_are_none() -> None:
    """Escapes of half a pair, as in outputs that were cut off."""
    cells = [{"cell_type": "code", "source": s} for s in ("x = '\ud800'", "import detectron2")]
    old = json.dumps({"cells": cells, "title": "ü"}).replace("\\u00fc", "ü")
    new = rewrite_notebook(old).text
    assert json.loads(new.encode()) == json.loads(old.replace("detectron2", "drivetrain"))


def test_a_percent_sign_that_begins_a_line_of_python() -> None:
    done = rewrite_notebook(notebook("import detectron2\nx = ('%s'\n     % detectron2.__version__)\n"))
    source = json.loads(done.text)["cells"][0]["source"]
    assert source.endswith("x = ('%s'\n     % drivetrain.compat.environment.__version__)\n") and not done.problems


def test_magic_alone_in_a_block() -> None:
    done = rewrite_notebook(notebook("import detectron2\nif True:\n    !nvidia-smi\n    %time detectron2"))
    assert json.loads(done.text)["cells"][0]["source"] == (
        "import drivetrain\nif True:\n    !nvidia-smi\n    %time detectron2"
    )


def test_the_files_own_layout_stays() -> None:
    old = notebook("import detectron2  # \u00fc")
    escaped = json.dumps(json.loads(old), indent=2).replace("\n", "\r\n")
    assert rewrite_notebook(escaped).text == escaped.replace("detectron2  #", "drivetrain  #")
    assert rewrite_notebook(old).text == old.replace("detectron2  #", "drivetrain  #")
