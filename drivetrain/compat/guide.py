"""The table of modules in docs/how-to/from-detectron2.md, made from the table that the imports go by."""

from __future__ import annotations

from collections.abc import Iterator

from .table import ABSENT, MODULES, STAND_INS, TABLE

__all__ = ["absent_table", "module_table", "with_tables"]

_MARK = "<!-- {} -->"


def module_table() -> str:
    """Every module that can be imported, its names, and where they are here, as a Markdown table.

    Names that can be imported and not used have a dagger.
    """
    rows = [f"| `{module}` | {names} | {targets} |" for module, names, targets in _modules()]
    return "\n".join(["| module | names | here |", "|---|---|---|", *rows])


def absent_table() -> str:
    """Everything that is not there, as a Markdown table."""
    by_reason: dict[str, list[str]] = {}
    for path, reason in ABSENT.items():
        by_reason.setdefault(reason, []).append(path)
    rows = [f"| {', '.join(f'`{p}`' for p in paths)} | {reason} |" for reason, paths in by_reason.items()]
    return "\n".join(["| not there | why, or what instead |", "|---|---|", *rows])


def with_tables(text: str) -> str:
    """The guide's text with both tables renewed between their marks."""
    for name, table in (("modules", module_table()), ("absent", absent_table())):
        start, end = _MARK.format(name), _MARK.format(f"end of {name}")
        before, _, rest = text.partition(start)
        text = f"{before}{start}\n{table}\n{end}{rest.partition(end)[2]}"
    return text


def _modules() -> Iterator[tuple[str, str, str]]:
    """Module, its names, and the modules here that have them."""
    for module in sorted({*TABLE, *MODULES}):
        names = TABLE.get(module, {})
        homes = sorted({target.partition(":")[0] for target in names.values()} or {MODULES[module]})
        shown = [f"`{name}`" + " †" * (f"{module}.{name}" in STAND_INS) for name in sorted(names)]
        yield module, ", ".join(shown) or "all", ", ".join(f"`{home}`" for home in homes)
