"""Rewriting source text."""

from __future__ import annotations

import ast
import sys

import pytest

from drivetrain.compat.rewrite import Rewritten, rewrite

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
    "x = 'by detectron2 and others'  # detectron2 stays in texts\n": (
        "x = 'by detectron2 and others'  # detectron2 stays in texts\n"
    ),
    "from .detectron2 import engine\n": "from .detectron2 import engine\n",
    "from  detectron2 . engine  import launch\n": "from drivetrain.engine import launch\n",
    "from detectron2.engine import \\\n    launch, \\\n    DefaultPredictor\n": (
        "from drivetrain.engine import launch\nfrom drivetrain.compat.predictor import DefaultPredictor\n"
    ),
    "try:\n    from detectron2.engine import launch\nexcept ImportError:\n    launch = None\n": (
        "try:\n    from drivetrain.engine import launch\nexcept ImportError:\n    launch = None\n"
    ),
    # modules that are not one module here
    "from detectron2.utils import logger, comm  # two\nlogger.setup_logger()\n": (
        "import drivetrain.compat.logs\nfrom drivetrain.runtime import comm  # two\n"
        "drivetrain.compat.logs.setup_logger()\n"
    ),
    "if 1: from detectron2 import structures as s; s.Boxes\n": (
        "if 1: import drivetrain.structures; drivetrain.structures.Boxes\n"
    ),
    "from detectron2.utils import logger\n": "import drivetrain\n",
    # names of functions' own
    "from detectron2 import data\ndef f(data):\n    return data.x, [data for data in data.y]\ndata.MetadataCatalog\n": (
        "import drivetrain.compat.builtin_datasets\n"
        "def f(data):\n    return data.x, [data for data in data.y]\n"
        "drivetrain.compat.builtin_datasets.MetadataCatalog\n"
    ),
    # every function imports what it uses
    "def f():\n    import detectron2\n    detectron2.engine.launch()\n"
    "def g():\n    import detectron2.config\n    detectron2.config.get_cfg()\n": (
        "def f():\n    import drivetrain.compat.config\n    import drivetrain.engine\n    drivetrain.engine.launch()\n"
        "def g():\n    import drivetrain.compat.config\n    import drivetrain.engine\n"
        "    drivetrain.compat.config.get_cfg()\n"
    ),
    "import detectron2\nx = f'{detectron2.__version__!r:>{detectron2.utils.comm.get_rank()}}'\n": (
        "import drivetrain.compat.environment\nimport drivetrain.runtime.comm\n"
        "x = f'{drivetrain.compat.environment.__version__!r:>{drivetrain.runtime.comm.get_rank()}}'\n"
    ),
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
        "from detectron2.structures import (\n    Boxes,\n    RotatedBoxes,\n)\n"
        "from detectron2.projects.deeplab import ASPP\n"
        "from detectron2.utils.events import *\n"
        "print(detectron2.nothing.at_all, detectron2.utils.comm.get_rank())\n"
    )
    done = rewrite(old)
    assert [p.line for p in done.problems] == [4, 6, 7, 8]
    assert "RotatedBoxes has no counterpart" in done.problems[0].message
    assert "name what is imported" in done.problems[2].message
    assert done.problems[3].message.startswith("detectron2.nothing")
    assert "from drivetrain.structures import Boxes\n" in done.text
    assert "from detectron2.structures import RotatedBoxes\n" in done.text
    assert "import drivetrain.runtime.comm\nimport detectron2\n" in done.text, "still needed by what is left"
    ast.parse(done.text)


def test_what_can_be_imported_and_not_used_is_moved_and_named() -> None:
    done = rewrite(
        "import detectron2\n"
        "from detectron2.evaluation import CityscapesInstanceEvaluator\n"
        "detectron2.evaluation.CityscapesSemSegEvaluator('x')\n"
    )
    assert done.text == (
        "import drivetrain.compat.stand_ins\n"
        "from drivetrain.compat.stand_ins import CityscapesInstanceEvaluator\n"
        "drivetrain.compat.stand_ins.CityscapesSemSegEvaluator('x')\n"
    )
    assert [p.line for p in done.problems] == [2, 3] and all("Cityscapes server" in p.message for p in done.problems)


def test_names_that_a_module_here_lacks_are_named() -> None:
    done = rewrite(
        "import detectron2.data.transforms as T\n"
        "from detectron2.engine import hooks\n"
        "from detectron2.utils import comm as c\n"
        "T.RandomFlip(), hooks.EvalHook, c.get_rank(), c.GatherLayer\n"
        "T.Turn()\n"
        "def f(T): T.Turn()\n"
    )
    assert [p.line for p in done.problems] == [4, 5]
    assert done.problems[0].message.startswith("detectron2.utils.comm.GatherLayer has no counterpart")
    assert done.problems[1].message.startswith("detectron2.data.transforms.Turn has no counterpart")


def test_texts_that_name_modules_stay_and_are_named() -> None:
    old = (
        "import importlib\n"
        "comm = importlib.import_module('detectron2.utils.comm')\n"
        "def f(x: 'detectron2.structures.Boxes'): pass\n"
        "y = 'detectron2.engine', 'detectron2', 'detectron2.engine is meant'\n"
    )
    done = rewrite(old)
    assert (done.text, done.changes, [p.line for p in done.problems]) == (old, 0, [2, 3, 4])
    assert "drivetrain.runtime.comm here" in done.problems[0].message
    assert "drivetrain.structures.Boxes here" in done.problems[1].message
    assert done.problems[2].message == "the text 'detectron2.engine' stays; it names a module of detectron2"


def test_a_module_that_may_be_missing_is_left_and_named() -> None:
    old = "try:\n    import detectron2\nexcept ImportError:\n    detectron2 = None\n"
    done = rewrite(old)
    assert (done.text, [p.line for p in done.problems]) == (old, [4])
    assert "not one module here" in done.problems[0].message


def test_an_expression_whose_place_is_not_certain_stays() -> None:
    """Python before 3.12 places both at the first: the words would be changed instead of the expression."""
    old = "import detectron2\nx = f'detectron2.__version__ {detectron2.__version__}'\n"
    done = rewrite(old)
    if sys.version_info >= (3, 12):
        assert done.text.endswith("x = f'detectron2.__version__ {drivetrain.compat.environment.__version__}'\n")
    else:
        assert done.text == old and "replace it in this text" in done.problems[0].message


def test_text_that_is_no_python_is_left() -> None:
    done = rewrite("from detectron2 import (\n", "x.py")
    assert (done.text, done.changes) == ("from detectron2 import (\n", 0)
    assert "x.py is not Python" in done.problems[0].message
    assert "x.py is not Python" in rewrite("import detectron2\0", "x.py").problems[0].message
    old = "print 'python 2 without our names'"
    assert rewrite(old) == Rewritten(old, 0, ())
