"""Rewriting source text."""

from __future__ import annotations

import ast

import pytest

from drivetrain.compat.rewrite import rewrite

CASES = {
    # what is written -> what becomes of it
    "from detectron2.engine import DefaultTrainer, launch\n": "from drivetrain.engine import DefaultTrainer, launch\n",
    "from detectron2.engine import (\n    DefaultTrainer,  # mine\n    hooks,\n)  # end\n": (
        "from drivetrain.engine import (\n    DefaultTrainer,  # mine\n    hooks,\n)  # end\n"
    ),
    "from detectron2.engine import DefaultPredictor as P, launch  # both\n": (
        "from drivetrain.compat.predictor import DefaultPredictor as P\nfrom drivetrain.engine import launch  # both\n"
    ),
    "import detectron2.utils.comm as comm; x = comm.get_rank()\n": (
        "import drivetrain.runtime.comm as comm; x = comm.get_rank()\n"
    ),
    "from detectron2.utils import comm\n": "from drivetrain.runtime import comm\n",
    "from detectron2 import model_zoo as zoo\n": "from drivetrain.compat import model_zoo as zoo\n",
    "import detectron2\nprint('ü', detectron2.utils.comm.get_rank(), detectron2.__version__)\n": (
        "import drivetrain.compat.environment\nimport drivetrain.runtime.comm\n"
        "print('ü', drivetrain.runtime.comm.get_rank(), drivetrain.compat.environment.__version__)\n"
    ),
    "import os, detectron2.utils.logger as lg\nlg.setup_logger()\n": (
        "import os\nimport drivetrain.compat.logs\ndrivetrain.compat.logs.setup_logger()\n"
    ),
    "def f():\n\tfrom detectron2.config import get_cfg, instantiate\n\treturn get_cfg\n": (
        "def f():\n\tfrom drivetrain.compat.config import get_cfg\n"
        "\tfrom drivetrain.compat.lazy import instantiate\n\treturn get_cfg\n"
    ),
    "import detectron2\r\nx = 1\r\n": "import drivetrain\r\nx = 1\r\n",
    "log = logging.getLogger('detectron2.utils.events')\n": 'log = logging.getLogger("drivetrain.events")\n',
    "from yacs.config import CfgNode as CN\n": "from drivetrain.config import CfgNode as CN\n",
    "from iopath.common.file_io import PathManager\n": (
        "from drivetrain.compat.file_io import LocalPathManager as PathManager\n"
    ),
    "x = 'detectron2.engine'  # detectron2 stays in texts\n": "x = 'detectron2.engine'  # detectron2 stays in texts\n",
    "from .detectron2 import engine\n": "from .detectron2 import engine\n",
}


@pytest.mark.parametrize("old", CASES)
def test_cases(old: str) -> None:
    done = rewrite(old)
    assert done.text == CASES[old] and not done.problems
    assert done.changes == 0 if old == done.text else done.changes > 0
    assert rewrite(done.text).changes == 0
    ast.parse(done.text)


def test_what_has_no_counterpart_stays_and_is_named_with_its_line() -> None:
    old = (
        "import detectron2\n"
        "from detectron2.evaluation import (\n    COCOEvaluator,\n    CityscapesEvaluator,\n)\n"
        "from detectron2.projects.deeplab import add_deeplab_config\n"
        "from detectron2.utils.events import *\n"
        "print(detectron2.nothing.at_all, detectron2.utils.comm.get_rank())\n"
    )
    done = rewrite(old)
    assert [p.line for p in done.problems] == [4, 6, 7, 8]
    assert "CityscapesEvaluator has no counterpart" in done.problems[0].message
    assert "name what is imported" in done.problems[2].message
    assert done.problems[3].message.startswith("detectron2.nothing")
    assert "from drivetrain.evaluation import COCOEvaluator\n" in done.text
    assert "from detectron2.evaluation import CityscapesEvaluator\n" in done.text
    assert "import drivetrain.runtime.comm\nimport detectron2\n" in done.text, "still needed by what is left"
    ast.parse(done.text)


def test_text_that_is_no_python_is_left() -> None:
    done = rewrite("from detectron2 import (\n", "x.py")
    assert (done.text, done.changes) == ("from detectron2 import (\n", 0)
    assert "x.py is not Python" in done.problems[0].message
    assert rewrite("print 'python 2 without our names'") == rewrite("print 'python 2 without our names'")
