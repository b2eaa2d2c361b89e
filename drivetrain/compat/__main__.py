"""``python -m drivetrain.compat SCRIPT ...``: run a script that was written for detectron2."""

from __future__ import annotations

import sys

from drivetrain.errors import UserInputError

from .runner import find_program, run_main

__all__ = ["main"]

_USAGE = """\
usage: python -m drivetrain.compat SCRIPT.py [ARGUMENT ...]
       python -m drivetrain.compat -m MODULE [ARGUMENT ...]

Run a script that was written for detectron2: its imports of detectron2, fvcore, iopath and yacs resolve to drivetrain.
DRIVETRAIN_COMPAT_FORCE=1 does so even where a detectron2 is installed.

example:
  python -m drivetrain.compat train_net.py --config-file faster_rcnn.yaml --num-gpus 2
"""


def main(arguments: list[str]) -> int:
    """Run the script; 2 when it cannot be found or the command is wrong, else as the script ends."""
    is_module = arguments[:1] == ["-m"]
    rest = arguments[is_module:]
    if not rest or rest[0] in ("-h", "--help"):
        print(_USAGE, end="", file=sys.stderr if not rest else sys.stdout)
        return 0 if rest else 2
    try:
        program = find_program(rest[0], is_module=is_module)
    except (UserInputError, ImportError) as error:
        print(f"drivetrain.compat: error: {error}", file=sys.stderr)
        return 2
    run_main(program, rest[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
