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
    done = rewrite_notebook(
        notebook("x = 1", "x = 2\nfrom detectron2.evaluation import CityscapesEvaluator"), "n.ipynb"
    )
    assert (done.changes, done.problems[0].line) == (0, 2)
    assert done.problems[0].message.startswith("(code cell 1) detectron2.evaluation.CityscapesEvaluator has no")


def test_other_json_is_no_notebook() -> None:
    for text in ("{", "[]", '{"cells": 3}'):
        assert "is not a notebook" in rewrite_notebook(text, "n.ipynb").problems[0].message
