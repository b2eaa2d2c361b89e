"""What a new process imports as its main script in place of one that ``python -m drivetrain.compat`` runs."""

from __future__ import annotations

import os

from drivetrain.compat.runner import MAIN_VARIABLE, load_main

__all__: tuple[str, ...] = ()

if __name__ == "__mp_main__" and MAIN_VARIABLE in os.environ:
    load_main(os.environ[MAIN_VARIABLE], globals())
