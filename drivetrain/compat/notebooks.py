"""Rewriting the code cells of notebooks."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from .rewrite import Problem, Rewritten, rewrite
from .table import ROOTS

__all__ = ["rewrite_notebook"]

_MAGIC = re.compile(r"^(\s*)([%!])")
_IMPORT = re.compile(rf"^\s*(?:from|import)\s+(?:{'|'.join(ROOTS)})\b", flags=re.MULTILINE)
_CELL = "#:drivetrain-cell"


def rewrite_notebook(text: str, name: str = "<notebook>") -> Rewritten:
    """Rewrite the code cells of a notebook, which share their names as one program does.

    Lines of magic (``%``, ``!``) are passed over; so are cells that are not Python even without them, which are listed
    if they import what would be replaced. The rest of the file keeps its content; outputs stay. Lines of problems are
    those within the cell, whose number is in the message.

    Args:
        text: the content of an ``.ipynb`` file.
        name: the file, for messages.
    """
    try:
        notebook = json.loads(text)
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        sources = ["".join(cell["source"]) for cell in cells]
    except (ValueError, LookupError, TypeError) as error:
        return Rewritten(text, 0, (Problem(1, f"{name} is not a notebook that can be read: {error!r}"),))
    readable = [i for i, source in enumerate(sources) if _is_python(_without_magic(source))]
    joined = "".join(f"{_CELL} {i}\n{_without_magic(sources[i])}\n" for i in readable)
    done = rewrite(joined, name)
    unread = (i for i, source in enumerate(sources) if i not in readable and _IMPORT.search(source))
    problems = (
        *(_in_cell(problem, joined) for problem in done.problems),
        *(Problem(1, f"(code cell {i}) it is not Python, and imports what is to be replaced") for i in unread),
    )
    if not done.changes:
        return Rewritten(text, 0, problems)
    for i, new in zip(readable, _split(done.text), strict=True):
        source = _with_magic(new, sources[i])
        cells[i]["source"] = source if isinstance(cells[i]["source"], str) else source.splitlines(keepends=True)
    escaped = text.isascii() or "\\ud" in text  # half of a surrogate pair cannot be written but as an escape
    new = json.dumps(notebook, indent=_indent(text), ensure_ascii=escaped)
    new += "\n" if text.endswith("\n") else ""
    return Rewritten(new.replace("\n", "\r\n") if "\r\n" in text else new, done.changes, problems)


def _without_magic(source: str) -> str:
    """The source with magic turned into statements that do nothing; as it is where it is Python without that."""
    return source if _is_python(source) else "\n".join(map(_as_statement, source.split("\n")))


def _as_statement(line: str) -> str:
    return _MAGIC.sub(r"\1pass  #\2", line, count=1)


def _with_magic(new: str, source: str) -> str:
    """The rewritten source with these statements turned back into the magic that they were."""
    magic = [line for line in source.split("\n") if _MAGIC.match(line)]
    return "\n".join(magic.pop(0) if magic and line == _as_statement(magic[0]) else line for line in new.split("\n"))


def _is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return False
    return True


def _split(joined: str) -> list[str]:
    parts = re.split(rf"^{_CELL} \d+\n", joined, flags=re.MULTILINE)[1:]
    return [part.removesuffix("\n") for part in parts]


def _in_cell(problem: Problem, joined: str) -> Problem:
    """A problem of the joined cells as one of its cell."""
    lines = joined.split("\n")[: problem.line]
    start = max(i for i, line in enumerate(lines) if line.startswith(_CELL))
    return Problem(problem.line - start - 1, f"(code cell {lines[start].split()[1]}) {problem.message}")


def _indent(text: str) -> Any:
    found = re.search(r"\n( +)", text)
    return len(found[1]) if found else None
