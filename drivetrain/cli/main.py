"""``drivetrain COMMAND ...``: finds the command, and turns errors of the user's into one line and exit code 2."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from drivetrain._version import __version__
from drivetrain.errors import TrainingError, UserInputError, did_you_mean

from .terminal import printable

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "train": "train a model on your images",
    "resume": "continue a training that was interrupted",
    "extend": "continue a training to more iterations",
    "finetune": "start a training from the weights of another one",
    "eval": "evaluate a checkpoint",
    "predict": "draw what a checkpoint sees in images",
    "replay": "make the step again whose loss was not finite",
    "runs": "list the checkpoints of a training",
    "migrate": "rewrite code from detectron2's imports to drivetrain's",
    "data": "look into datasets, convert them, cut them into splits, draw small ones",
    "weights": "convert weights of detectron2",
    "demo": "make a small dataset, train on it, evaluate, and show the result (some minutes)",
    "config": "show the config keys, or a config in full",
    "doctor": "say what of this machine works",
}

_EPILOG = """\
example:
  drivetrain demo

'drivetrain COMMAND --help' tells more of each command, with an example.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the arguments (default: those of the process).

    Returns:
        The exit code: 0, 1 when a training cannot go on, 2 when something that was given is wrong, 75 after a
        checkpoint was saved for 'drivetrain resume', or 130 after Ctrl-C.
    """
    try:
        return _run(argv)
    except SystemExit as error:  # how argparse ends, after --help as after a mistake
        return error.code if isinstance(error.code, int) else int(error.code is not None)


def _run(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    listing = "\n".join(f"  {name:<9} {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="drivetrain",
        description=f"Train detectors on images.\n\ncommands:\n{listing}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="drivetrain [-h] [--version] COMMAND ...",
    )
    parser.add_argument("--version", action="version", version=f"drivetrain {__version__}")
    if not arguments or arguments[0].startswith("-"):
        parser.parse_args(arguments)
        parser.print_help()
        return 0 if arguments else 2
    command, *rest = arguments
    if command not in COMMANDS:
        hint = did_you_mean(command, COMMANDS)
        print(f"drivetrain: error: there is no command {command!r}{hint}; see drivetrain --help", file=sys.stderr)
        return 2
    try:
        code = importlib.import_module(f"drivetrain.cli.{command}").run(rest)
    except UserInputError as error:
        _print_error(command, error)
        return 2
    except TrainingError as error:  # its traceback is in the log
        _print_error(command, error)
        return 1
    except KeyboardInterrupt:
        print(f"\ndrivetrain {command}: interrupted", file=sys.stderr)
        return 130
    return int(code)


def _print_error(command: str, error: Exception) -> None:
    """One sentence, or a list of them; names in it may come out of files."""
    print(printable(f"drivetrain {command}: error: {error}", keep="\n\t"), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
