"""``drivetrain runs``: the checkpoints in a folder, and whether they are whole."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetrain.engine.defaults.arguments import Parser
from drivetrain.errors import CheckpointError

from .options import help_formatter
from .terminal import printable

if TYPE_CHECKING:
    from drivetrain.checkpoint import CheckpointFolder, Entry

__all__ = ["checkpoints", "run"]

_EPILOG = """\
example:
  drivetrain demo --max-iter 100 --output demo_output
  drivetrain runs demo_output

Each file is read and compared with its digest. A resume passes over damaged ones and takes the newest that is whole.
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    result = Parser(
        prog="drivetrain runs",
        description="List the checkpoints in a training's output folder: what they are, and whether they are whole.",
        epilog=_EPILOG,
        formatter_class=help_formatter(),
    )
    result.add_argument("folder", metavar="DIR", help="the output folder of a training")
    result.add_argument("--json", action="store_true", help="print JSON instead of a table")
    result.add_argument("--no-verify", action="store_true", help="do not read the files")
    return result


def run(argv: Sequence[str]) -> int:
    """Run the command.

    Raises:
        CheckpointError: the folder does not exist, or has no checkpoints.
    """
    options = parser().parse_args(argv)
    rows = checkpoints(options.folder, verify=not options.no_verify)
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        _print_table(rows)
    return 0


def checkpoints(folder: str | Path, *, verify: bool = True) -> list[dict[str, Any]]:
    """What the checkpoints in a folder are, oldest first; those without an iteration come last.

    Args:
        folder: the output folder of a training.
        verify: read each file and compare it with its digest.

    Returns:
        Dicts with ``file``, ``roles``, ``iteration``, ``metric``, ``bytes``, ``time``, ``state`` (``whole``,
        ``damaged``, ``set aside``, ``missing``, ``not verified``) and ``problem``, a sentence or ``""``.

    Raises:
        CheckpointError: the folder does not exist, or has no checkpoints.
    """
    from drivetrain.checkpoint import CheckpointFolder

    path = Path(folder)
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise CheckpointError(f"the folder {path} {what}: give the output folder of a training")
    place = CheckpointFolder(path)
    aside = sorted(p.name for p in path.iterdir() if ".pth.corrupt" in p.name)
    manifest = place.manifest()
    entries = {entry.file: entry for entry in manifest.entries}  # of two for one file, the later one
    names = dict.fromkeys([*(entry.file for entry in manifest.entries if not entry.pending), *place.files()])
    rows = [_row(place, entries, name, verify) for name in names if not _replaced_by(name, path, aside)]
    rows += [_row(place, entries, name, verify=False, set_aside=True) for name in aside]
    if not rows:
        raise CheckpointError(f"the folder {path} has no checkpoints: give the output folder of a training")
    return sorted(rows, key=lambda row: (row["iteration"] is None, row["iteration"] or 0))


def _replaced_by(name: str, path: Path, aside: Sequence[str]) -> bool:
    """Whether all that is left of a listed file is what was set aside."""
    return not (path / name).exists() and any(other.startswith(f"{name}.corrupt") for other in aside)


def _row(
    place: CheckpointFolder, entries: Mapping[str, Entry], name: str, verify: bool, set_aside: bool = False
) -> dict[str, Any]:
    from drivetrain.checkpoint.folder import iteration_of_name

    file = name.partition(".corrupt")[0]
    path = place.path / name
    replaced = set_aside and (place.path / file).exists()  # then the manifest tells of the new file of that name
    entry = None if replaced else entries.get(file)
    iteration = entry.iteration if entry else None
    state, problem = ("not verified", "")
    if set_aside:
        state, problem = "set aside", "found damaged by a resume"
    elif not path.exists():
        state, problem = "missing", "the manifest lists it"
    elif verify:
        state, problem = _verified(place, name)
    return {
        "file": name,
        "roles": list(entry.roles) if entry and not set_aside else [],
        "iteration": iteration_of_name(file) if iteration is None else iteration,
        "metric": dict(entry.metric) if entry else {},
        "bytes": path.stat().st_size if path.exists() else None,
        "time": entry.time if entry else "",
        "state": state,
        "problem": problem,
    }


def _verified(place: CheckpointFolder, name: str) -> tuple[str, str]:
    try:
        place.verify(name)
    except CheckpointError as error:
        return "damaged", str(error)
    return "whole", ""


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"whole": "green", "damaged": "red", "set aside": "red", "missing": "red"}
    table = Table(box=None, pad_edge=False)
    for column in ("file", "role", "iteration", "metric", "size", "saved", "state"):
        table.add_column(column, overflow="fold", justify="right" if column in ("iteration", "size") else "left")
    for row in rows:
        cells = (
            row["file"],
            " ".join(row["roles"]),
            "" if row["iteration"] is None else str(row["iteration"]),
            " ".join(f"{name}={value:.4g}" for name, value in row["metric"].items()),
            "" if row["bytes"] is None else _size(row["bytes"]),
            row["time"].replace("T", " ").replace("+00:00", " UTC"),
        )
        state = Text(row["state"], style=colours.get(row["state"], ""))
        table.add_row(*(Text(printable(cell)) for cell in cells), state)
    console = Console(width=140, soft_wrap=False)
    console.print(table)
    for row in rows:
        if row["state"] == "damaged":
            console.print(Text(printable(row["problem"]), style="red"))


def _size(count: int) -> str:
    """A size in bytes as people read it."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.1f} {unit}"
