"""``drivetrain migrate``: rewrite code from detectron2's imports to this package's."""

from __future__ import annotations

import argparse
import difflib
import io
import os
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivetrain.checkpoint.files import atomic_write
from drivetrain.compat.notebooks import rewrite_notebook
from drivetrain.compat.rewrite import Problem, Rewritten, rewrite
from drivetrain.engine.defaults.arguments import Parser
from drivetrain.errors import ConfigError

from .options import help_formatter
from .terminal import printable

__all__ = ["run"]

_SKIPPED = ("__pycache__", "node_modules", "site-packages", "build", "dist")

_EPILOG = """\
examples:
  See what would change; the exit code is 1 if anything would:
    drivetrain migrate . --check

  Change it:
    drivetrain migrate .

  The exit code is 2 if a file cannot be read, and nothing is changed then, or cannot be written.
"""


@dataclass(frozen=True)
class _File:
    """A file with what becomes of it."""

    path: Path
    encoding: str
    old: str
    done: Rewritten


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    result = Parser(
        prog="drivetrain migrate",
        description="Rewrite the imports of detectron2, fvcore, iopath and yacs in .py files and notebooks, in place. "
        "Comments and layout stay. What has no counterpart is listed and left.",
        epilog=_EPILOG,
        formatter_class=help_formatter(),
    )
    result.add_argument("paths", nargs="+", metavar="PATH", help="files, or folders with all that is in them")
    result.add_argument("--check", action="store_true", help="print the changes as a diff, and make none")
    return result


def run(argv: Sequence[str]) -> int:
    """Run the command; 1 when ``--check`` finds something to change."""
    args = parser().parse_args(argv)
    sources = {source.resolve(): source for path in args.paths for source in _sources(Path(path))}  # each file once
    files = [_read(source) for source in sources.values()]
    changed = [file for file in files if file.done.changes]
    for file in changed:
        if args.check:
            print("\n".join(_diff(file)))
        else:
            _write(file)
            print(f"{printable(str(file.path))}: {file.done.changes} places changed")
    problems = [(file, problem) for file in files for problem in file.done.problems]
    for file, problem in problems:
        print(printable(f"{file.path}:{problem.line}: {problem.message}"), file=sys.stderr)
    verb = "to change" if args.check else "changed"
    print(f"{len(changed)} of {len(files)} files {verb}, {len(problems)} places left to be done by hand")
    return int(args.check and bool(changed))


def _sources(path: Path) -> Iterator[Path]:
    """The files to look at.

    Raises:
        ConfigError: there is no such file, or it is neither Python nor a notebook.
    """
    if path.is_file():
        if path.suffix not in (".py", ".ipynb"):
            raise ConfigError(f"{path} is neither a .py file nor a notebook (.ipynb)")
        yield path
        return
    if not path.is_dir():
        raise ConfigError(f"there is no file or folder {str(path)!r}")
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in _SKIPPED and not (Path(folder) / name / "pyvenv.cfg").exists()
        )
        found = (Path(folder) / name for name in sorted(names) if name.endswith((".py", ".ipynb")))
        yield from (file for file in found if file.is_file())  # a link may lead nowhere


def _read(path: Path) -> _File:
    """A file and what becomes of it.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        content = path.read_bytes()
        notebook = path.suffix == ".ipynb"
        encoding = "utf-8" if notebook else tokenize.detect_encoding(io.BytesIO(content).readline)[0]
        text = content.decode(encoding)
    except (SyntaxError, UnicodeDecodeError) as error:
        return _File(path, "", "", Rewritten("", 0, (Problem(1, f"the text cannot be read: {error}"),)))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    done = (rewrite_notebook if notebook else rewrite)(text, str(path))
    return _File(path, encoding, text, done)


def _write(file: _File) -> None:
    """Replace a file, whole or not at all; a link stays one, its target is what is replaced.

    Raises:
        OutputError: it cannot be written.
    """
    path = file.path.resolve()
    mode = path.stat().st_mode
    atomic_write(path, lambda stream: stream.write(file.done.text.encode(file.encoding)))
    path.chmod(mode)


def _diff(file: _File) -> Iterator[str]:
    """The change as a unified diff, without what could do harm in a terminal."""
    old, new = (text.splitlines() for text in (file.old, file.done.text))
    names = f"a/{file.path}", f"b/{file.path}"
    return (printable(line, keep="\t") for line in difflib.unified_diff(old, new, *names, lineterm=""))
