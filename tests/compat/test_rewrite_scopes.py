"""What names stand for."""

from __future__ import annotations

import ast

from drivetrain.compat.rewrite_scopes import (
    is_ours,
    module_bindings,
    names_of_their_own,
    whole_modules,
    within_functions,
)


def test_modules_that_names_are_bound_to() -> None:
    tree = ast.parse(
        "import detectron2.structures as s, detectron2.utils.comm as c, os as o\n"
        "from detectron2.utils import logger, comm, env as e\n"
        "from .detectron2 import config\n"
        "from ..detectron2.engine import hooks\n"
    )
    bound = {name: module for name, module in module_bindings(tree) if name != module}
    assert bound == {"s": "detectron2.structures", "logger": "detectron2.utils.logger", "e": "detectron2.utils.env"}
    assert dict(whole_modules(tree)) == {"c": "detectron2.utils.comm", "comm": "detectron2.utils.comm"}
    assert is_ours("fvcore.nn") and not is_ours("detectron2x.nn")


SOURCE = """
x  # module
def f(x):
    x  # own
    def g():
        x  # own
def h(y=x):  # module
    [x for x in y]  # own own
    x  # module
    (lambda x: x)  # own
def i():
    import x
    x = x or None  # module module
def j():
    for x in (): pass  # own
    with open(x) as k: pass  # own
class C:
    def x(self): x  # module
async def k(x): x  # own
"""


def test_names_of_functions_are_told_from_those_of_the_module() -> None:
    tree = ast.parse(SOURCE)
    own = names_of_their_own(tree)
    found: dict[int, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "x":
            found.setdefault(node.lineno, []).append("own" if id(node) in own else "module")
    lines = SOURCE.splitlines()
    assert found == {i: line.split("# ")[1].split() for i, line in enumerate(lines, 1) if "# " in line}


def test_what_is_in_functions() -> None:
    tree = ast.parse(
        "import a\ndef f():\n    import b\nif 1:\n    import c\nclass D:\n    def g(self):\n        import d\n"
        "async def h():\n    import e\n"
    )
    inside = within_functions(tree)
    imports = {n.names[0].name: id(n) in inside for n in ast.walk(tree) if isinstance(n, ast.Import)}
    assert imports == {"a": False, "b": True, "c": False, "d": True, "e": True}
