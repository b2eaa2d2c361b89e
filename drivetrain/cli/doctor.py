"""``drivetrain doctor``: what of this machine works."""

from __future__ import annotations

from collections.abc import Sequence

from drivetrain.engine.defaults.arguments import Parser

from .options import help_formatter

__all__ = ["run"]

_EPILOG = """\
example:
  drivetrain doctor
"""


def run(argv: Sequence[str]) -> int:
    """Run the command.

    Returns:
        0 when all that is needed works, else 1.
    """
    parser = Parser(
        prog="drivetrain doctor",
        description="Say what of this machine works: torch, accelerators, libraries, shared memory, cores.",
        epilog=_EPILOG,
        formatter_class=help_formatter(),
    )
    parser.parse_args(argv)
    from rich.console import Console
    from rich.table import Table

    from drivetrain.runtime.environment import environment_rows

    table = Table(box=None, pad_edge=False)
    for column in ("", "what", "found", "advice"):
        table.add_column(column, overflow="fold")
    rows = environment_rows()
    marks = {True: "[green]ok[/]", False: "[red]no[/]", None: ""}
    for row in rows:
        table.add_row(marks[row.ok], row.name, row.value, "" if row.ok else row.advice)
    Console(width=120, soft_wrap=False).print(table)
    return 0 if all(row.ok is not False for row in rows) else 1
