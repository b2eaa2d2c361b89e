"""Running configs in Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from drivetrain.compat.lazy_files import run_config
from drivetrain.errors import ConfigError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_relative_imports_are_of_config_files_and_others_are_pythons(tmp_path: Path) -> None:
    write(tmp_path / "common" / "optim.py", "import math\nsgd = dict(lr=0.1, pi=math.floor(math.pi))\n")
    write(tmp_path / "common" / "models" / "net.py", "from ..optim import sgd\nmodel = {'lr': sgd.lr}\n")
    write(tmp_path / "base.py", "from .common.models.net import model\nfrom .common import optim\n")
    top = write(
        tmp_path / "a" / "top.py",
        "from ..base import model, optim\nfrom ..common.optim import *\nmodel.lr += 1\n"
        "def again():\n    from ..base import model\n    return model.lr\nsecond = again()\n",
    )
    before = set(sys.modules)
    content = run_config(top)
    assert content["model"] == {"lr": 1.1} and content["second"] == 0.1 and content["sgd"]["pi"] == 3
    assert content["optim"].sgd.lr == 0.1
    assert set(sys.modules) == before  # configs are no modules


def test_annotations_are_what_they_are_in_a_file_of_its_own(tmp_path: Path) -> None:
    text = "def f(a: int): ...\nkind = f.__annotations__['a'].__name__\n"  # a text, under this package's __future__
    assert run_config(write(tmp_path / "a.py", text))["kind"] == "int"


def test_mistakes(tmp_path: Path) -> None:
    write(tmp_path / "a.py", "from .b import x\n")
    write(tmp_path / "b.py", "from .a import x\n")
    with pytest.raises(ConfigError, match=r"imports itself \(a\.py -> b\.py -> a\.py\)"):
        run_config(tmp_path / "a.py")
    with pytest.raises(ConfigError, match=r"does not exist; did you mean 'a\.py'"):
        run_config(tmp_path / "aa.py")
    with pytest.raises(ConfigError, match="cannot be read"):
        run_config(write(tmp_path / "c.py", "x = ="))
    with pytest.raises(ConfigError, match="does not exist"):
        run_config(write(tmp_path / "d.py", "from .nothing import x"))
    with pytest.raises(ImportError):
        run_config(write(tmp_path / "e.py", "from .b2 import missing")) if write(tmp_path / "b2.py", "y = 1") else None
