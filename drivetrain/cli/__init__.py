"""The ``drivetrain`` command, one file per subcommand."""

from __future__ import annotations

__all__: list[str] = []
