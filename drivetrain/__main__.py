"""``python -m drivetrain`` is the ``drivetrain`` command."""

import sys

from drivetrain.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
