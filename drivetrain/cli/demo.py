"""``drivetrain demo``: a small dataset, a tiny detector trained on it, its figures and its pictures."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from drivetrain.engine.defaults.arguments import Parser
from drivetrain.errors import ConfigError, OutputError

from .options import help_formatter

__all__ = ["run"]

_MARK = ".drivetrain_demo"
_EPILOG = """\
example:
  drivetrain demo --output demo_output
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    result = Parser(
        prog="drivetrain demo",
        description="Draw a small dataset, train a tiny detector on it, evaluate it, and show what it sees in images "
        "that it was not trained on.",
        epilog=_EPILOG,
        formatter_class=help_formatter(),
    )
    result.add_argument("--output", default="demo_output", metavar="DIR", help="where everything goes (%(default)s)")
    result.add_argument("--max-iter", type=int, default=1000, metavar="N", help="iterations of training (%(default)s)")
    result.add_argument("--images", type=int, default=2000, metavar="N", help="images to train on (%(default)s)")
    result.add_argument("--seed", type=int, default=0, help="seed of dataset and training (%(default)s)")
    return result


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    for name, value, least in (("max-iter", args.max_iter, 1), ("images", args.images, 1), ("seed", args.seed, 0)):
        if value < least:
            raise ConfigError(f"--{name} {value} must be at least {least}")
    folder = _fresh_folder(Path(args.output))
    from drivetrain.data.formats.synthetic import make_synthetic

    from .train import build_config, train
    from .train import parser as train_parser

    started = time.monotonic()
    data = make_synthetic(folder / "data", train=args.images, val=200, seed=args.seed)
    print(f"Drew {args.images} images to train on and 200 to evaluate on in {time.monotonic() - started:.0f} s")
    arguments = [
        f"--train-json={data.train_json}",
        f"--train-images={data.train_images}",
        f"--val-json={data.val_json}",
        f"--val-images={data.val_images}",
        f"--output={folder}",
        f"--max-iter={args.max_iter}",
        "--model=fcos_tiny",
        *_settings(args.max_iter, args.seed),
    ]
    train_args = train_parser().parse_args(arguments)
    train(build_config(train_args), train_args)
    print(f"The whole demo took {time.monotonic() - started:.0f} s")
    return 0


def _settings(max_iter: int, seed: int) -> list[str]:
    """Config keys for images of 128 pixels."""
    return [
        "INPUT.MIN_SIZE_TRAIN=(128,)",
        "INPUT.MIN_SIZE_TEST=128",
        "SOLVER.BASE_LR=0.002",
        "DATALOADER.NUM_WORKERS=1",
        f"TEST.EVAL_PERIOD={max(1, max_iter // 2)}",
        f"SEED={seed}",
    ]


def _fresh_folder(folder: Path) -> Path:
    """The demo's folder, emptied if an earlier demo left it.

    Raises:
        OutputError: it holds something else, or cannot be made.
    """
    try:
        if folder.is_dir() and any(folder.iterdir()):
            if not (folder / _MARK).exists():
                raise OutputError(f"--output {folder} is not empty and not from an earlier demo: choose another folder")
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MARK).touch()
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"--output {folder} cannot be written: {error.strerror or error}") from error
    return folder
