"""Running programs as the main one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drivetrain.compat.runner import find_program, load_main
from drivetrain.errors import UserInputError

SCRIPT = """
import multiprocessing, sys
import detectron2
from helper import word
from torch.utils.data import DataLoader

class Numbers:
    def __len__(self): return 2
    def __getitem__(self, i): return detectron2.utils.comm.get_rank() + i

def work(queue):
    queue.put((__name__, detectron2.__version__, word))

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=work, args=(queue,))
    process.start()
    print(queue.get(timeout=60), sys.argv[1:], __file__.endswith("main.py"))
    process.join()
    print([int(x) for x in DataLoader(Numbers(), num_workers=1, multiprocessing_context="spawn")])
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a script and, in a package, the same as a module."""
    folder = tmp_path / "project"
    (folder / "package").mkdir(parents=True)
    (folder / "main.py").write_text(SCRIPT)
    (folder / "helper.py").write_text("word = 'helped'\n")
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "helper.py").write_text("word = 'helped'\n")
    (folder / "package" / "main.py").write_text(SCRIPT.replace("from helper", "from .helper"))
    return folder


@pytest.mark.parametrize("arguments", [["main.py"], ["-m", "package.main"]], ids=["script", "module"])
def test_new_processes_resolve_the_imports_too(arguments: list[str], project: Path) -> None:
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-m", "drivetrain.compat", *arguments, "--x"]
    done = subprocess.run(
        command, cwd=project, env={"PYTHONPATH": root, "PATH": ""}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "('__mp_main__', '0.6', 'helped') ['--x'] True\n[0, 1]\n"


def test_what_is_not_there(tmp_path: Path, finder: None) -> None:
    with pytest.raises(UserInputError, match=r"the script '.*nothing\.py' cannot be read: No such file"):
        find_program(str(tmp_path / "nothing.py"))
    for name in ("no_such_module", "no_such.module"):
        with pytest.raises(UserInputError, match=f"the module {name!r} cannot be found"):
            find_program(name, is_module=True)


def test_annotations_of_a_script_are_what_it_says(tmp_path: Path, finder: None) -> None:
    """``from __future__ import annotations`` of the runner is not the script's."""
    path = tmp_path / "x.py"
    for future, expected in (("", int), ("from __future__ import annotations\n", "int")):
        path.write_text(f"{future}def f(x: int): pass\n")
        names: dict[str, Any] = {}
        load_main(find_program(str(path)).described, names)
        assert names["f"].__annotations__ == {"x": expected}


def test_loading_gives_the_names_to_a_new_process(tmp_path: Path, finder: None) -> None:
    path = tmp_path / "x.py"
    path.write_text("import detectron2\nversion, name = detectron2.__version__, __name__\n")
    program = find_program(str(path))
    names: dict[str, object] = {}
    load_main(program.described, names)
    assert (names["version"], names["name"], names["__file__"]) == ("0.6", "__mp_main__", str(path))
