"""The command-line arguments that training scripts share."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from drivetrain.errors import did_you_mean

__all__ = ["OverrideParser", "Parser", "default_argument_parser"]

_NUMBER = re.compile(r"-(\d|\.\d|inf\b|nan\b)")

_EPILOG = """\
Examples:

train on one machine:
    $ {script} --num-gpus 2 --config-file cfg.yaml

change config keys on the way:
    $ {script} --config-file cfg.yaml MODEL.WEIGHTS model.pth SOLVER.BASE_LR=0.001

train on two machines:
    (machine 0)$ {script} --machine-rank 0 --num-machines 2 --dist-url tcp://HOST:PORT ...
    (machine 1)$ {script} --machine-rank 1 --num-machines 2 --dist-url tcp://HOST:PORT ...
"""


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message}; see --help\n")


class OverrideParser(Parser):
    """A parser with config overrides (``KEY VALUE`` or ``KEY=VALUE``) anywhere among its flags.

    The overrides arrive in ``args.opts``, in order; flags after them are still flags, and values such as ``-1e-4``
    are values. A flag that does not exist is an error that names close ones.
    """

    def add_overrides(self) -> None:
        """Add the trailing ``opts``."""
        self.add_argument(
            "opts",
            nargs=argparse.REMAINDER,
            default=[],
            metavar="KEY VALUE",
            help="config keys to change, as pairs 'KEY VALUE' or as 'KEY=VALUE'",
        )

    def parse_known_args(  # type: ignore[override]  # the overloads of the base, in one
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Like the base class's, with the overrides moved behind the flags first."""
        flags, overrides = self._split(list(sys.argv[1:] if args is None else args))
        return super().parse_known_args([*flags, *overrides], namespace)

    def _split(self, tokens: list[str]) -> tuple[list[str], list[str]]:
        flags: list[str] = []
        overrides: list[str] = []
        while tokens:
            token = tokens.pop(0)
            if token == "--":
                overrides += tokens
                break
            if not token.startswith("-") or token == "-" or _NUMBER.match(token):
                overrides.append(token)
                continue
            flags.append(token)
            action = self._action(token)
            attached = "=" in token if token.startswith("--") else len(token) > 2
            count = 0 if attached else _most_values(action)
            while count > 0 and tokens and (not tokens[0].startswith("-") or _NUMBER.match(tokens[0])):
                flags.append(tokens.pop(0))
                count -= 1
        return flags, overrides

    def _action(self, token: str) -> argparse.Action:
        known = self._option_string_actions
        name = token.split("=", 1)[0] if token.startswith("--") else token[:2]  # -n5 is -n with the value 5
        matches = [name] if name in known else [flag for flag in known if name[:2] == "--" and flag.startswith(name)]
        if len(matches) != 1 and len({id(known[m]) for m in matches}) != 1:
            self.error(f"unrecognized argument {token!r}{did_you_mean(name, known)}")
        return known[matches[0]]


def _most_values(action: argparse.Action) -> int:
    """How many tokens an option may take."""
    if action.nargs is None:
        return 1
    if isinstance(action.nargs, int):
        return action.nargs
    return 1 if action.nargs == argparse.OPTIONAL else sys.maxsize


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """A parser with the arguments that training scripts share.

    ``--config-file --resume --eval-only --num-gpus --num-machines --machine-rank --dist-url`` and the config
    overrides ``opts``; add your own with ``add_argument``.

    Args:
        epilog: text after the help (default: examples).
    """
    parser = OverrideParser(
        epilog=_EPILOG.format(script=sys.argv[0]) if epilog is None else epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="path to a config file (yaml)")
    parser.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR, if there is one"
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate the weights and do not train")
    parser.add_argument("--num-gpus", type=int, default=1, help="number of GPUs (processes) *per machine*")
    parser.add_argument("--num-machines", type=int, default=1, help="total number of machines")
    parser.add_argument("--machine-rank", type=int, default=0, help="this machine's index, from 0")
    parser.add_argument(
        "--dist-url",
        default="auto",
        help="where processes meet, as tcp://HOST:PORT; 'auto' finds a place on one machine",
    )
    parser.add_overrides()
    return parser
