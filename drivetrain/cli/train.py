"""``drivetrain train``: train a model on your images, from a config file or from a few options."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

from drivetrain.engine.defaults.arguments import default_argument_parser
from drivetrain.engine.hooks.startup import resumable_startup
from drivetrain.errors import ConfigError

from .folders import undone_on_bad_input
from .options import add_dataset_options, add_run_options, apply_datasets, help_formatter

__all__ = ["Begin", "build_config", "repeatable", "run", "start", "train"]

_REPORT = "report.html"  # the last thing that the command writes
Begin = Literal["load", "resume_or_load", "resume", "extend", "finetune"]

_EPILOG = """\
examples:
  Make a small dataset with COCO annotations, then train a tiny detector (0.6 million parameters) on it:
    drivetrain demo --max-iter 100 --output demo_output
    drivetrain train --train-json demo_output/data/instances_train.json --train-images demo_output/data/images/train \\
        --val-json demo_output/data/instances_val.json --val-images demo_output/data/images/val \\
        --model fcos_tiny --max-iter 100 --output output/first

  Continue it from its config file, longer and with a key changed on the way:
    drivetrain train --config-file output/first/config.yaml --resume SOLVER.MAX_ITER=200 SOLVER.BASE_LR=0.0005

'drivetrain config --keys' lists all config keys.
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments: those of every training script, and short ways to datasets, model and length."""
    result = default_argument_parser(epilog=_EPILOG)
    result.prog = "drivetrain train"
    result.description = "Train a model on your images."
    result.formatter_class = help_formatter()
    add_run_options(result)
    add_dataset_options(result)
    group = result.add_argument_group("short ways to config keys")
    group.add_argument("--model", metavar="NAME", help="MODEL.NAME; without a config file, chooses good settings too")
    group.add_argument("--max-iter", type=int, metavar="N", help="SOLVER.MAX_ITER")
    group.add_argument("--output", metavar="DIR", help="OUTPUT_DIR")
    return result


def build_config(args: argparse.Namespace) -> Any:
    """The config that the arguments describe.

    Raises:
        ConfigError: something in it is wrong; every problem is named.
    """
    from drivetrain.engine.defaults.quickstart import quickstart

    if args.max_iter is not None and args.max_iter < 1:
        raise ConfigError(f"--max-iter {args.max_iter} must be at least 1")
    cfg = _defaults_for(args.config_file)
    if args.config_file:
        cfg.merge_from_file(args.config_file)
        if args.model:
            cfg.MODEL.NAME = args.model
        if args.max_iter is not None:
            cfg.SOLVER.MAX_ITER = args.max_iter
    else:
        quickstart(cfg, args.model or "fcos_tiny", args.max_iter)
    if args.output:
        cfg.OUTPUT_DIR = args.output
    apply_datasets(cfg, args)
    cfg.merge_from_list(args.opts)
    if not cfg.DATASETS.TRAIN and not args.eval_only:
        raise ConfigError(
            "there is nothing to train on: give --train-json and --train-images, or a config file with DATASETS.TRAIN"
        )
    if "META_ARCHITECTURE" in cfg.MODEL:
        _check_foreign(cfg)
    cfg.freeze()
    return cfg


def _defaults_for(config_file: str) -> Any:
    """The config that a file is read into: detectron2's where the file describes a model of it, else this package's."""
    from drivetrain.config.files import load_yaml_with_base

    model = load_yaml_with_base(config_file).get("MODEL", {}) if config_file else {}
    if isinstance(model, dict) and "META_ARCHITECTURE" in model:
        from drivetrain.compat.config import get_cfg as get_foreign_cfg

        return get_foreign_cfg()
    from drivetrain.engine.defaults.config import get_cfg

    return get_cfg()


def _check_foreign(cfg: Any) -> None:
    """Find the weights of a config of detectron2, and name its keys without meaning here."""
    from drivetrain.checkpoint.foreign import find_weights
    from drivetrain.compat.unused_keys import warn_of_unused_keys

    warn_of_unused_keys(cfg)
    if cfg.MODEL.WEIGHTS:
        cfg.MODEL.WEIGHTS = str(find_weights(cfg.MODEL.WEIGHTS))


def run(argv: Sequence[str]) -> int:
    """Run the command; see :func:`drivetrain.cli.main.main` for the exit code."""
    with repeatable("drivetrain train", argv) as command:
        args = parser().parse_args(argv)
        args.command = command
        cfg = build_config(args)
        start(cfg, args, "resume_or_load" if args.resume else "load")
    return 0


@contextmanager
def repeatable(name: str, argv: Sequence[str]) -> Iterator[str]:
    """Until a training listens to signals itself, they end the block with the command, which is to be run again.

    Args:
        name: the command without its arguments.
        argv: these.

    Yields:
        The whole command.
    """
    command = shlex.join([*name.split(), *argv])
    with resumable_startup(_at_startup(command)):
        yield command


def _at_startup(command: str) -> str:
    return f"before the first step: there is nothing new to save or to resume, start again with: {command}"


def start(cfg: Any, args: argparse.Namespace, begin: Begin) -> None:
    """Start the processes that were asked for, and train in them; see :func:`train`."""
    from drivetrain.engine.launcher import launch

    launch(
        train,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(cfg, args, begin),
        max_restarts=args.max_restarts,
    )


def train(cfg: Any, args: argparse.Namespace, begin: Begin = "load") -> Any:
    """Train (or, with ``--eval-only``, evaluate) in this process, then show what came out.

    Args:
        cfg: the config.
        args: the command line.
        begin: how the training begins: ``"load"`` (at iteration 0, from ``MODEL.WEIGHTS`` if there are any), or a
            method of DefaultTrainer.

    Returns:
        The evaluation's results.

    Raises:
        UserInputError: the config, a file or a folder is wrong; before iteration 0.
    """
    command = getattr(args, "command", "")
    if _was_restarted() and _checkpoints(cfg.OUTPUT_DIR):
        begin, command = "resume", _resume_command(cfg)
    with resumable_startup(*([_at_startup(command)] if command else [])):
        return _train_in_folder(cfg, args, begin)


def _train_in_folder(cfg: Any, args: argparse.Namespace, begin: Begin) -> Any:
    """Train; bad input leaves the output folder as it was."""
    from drivetrain.engine.defaults.setup import default_setup
    from drivetrain.runtime import comm

    if begin in ("load", "finetune") and not args.eval_only:
        _check_fresh(cfg.OUTPUT_DIR)
    scope = undone_on_bad_input(cfg.OUTPUT_DIR) if comm.is_main_process() else nullcontext(_nothing)
    with scope as keep:
        comm.synchronize()  # rank 0 has seen the folder as it was
        default_setup(cfg, args)
        comm.synchronize()  # each rank has its log file: what rank 0 may take back is complete
        if args.eval_only:
            return _evaluate(cfg, begin != "load")
        return _train(cfg, begin, getattr(args, "time_limit", None), keep)


def _nothing() -> None:
    """What other ranks do to keep the output folder."""


def _evaluate(cfg: Any, resume: bool) -> Any:
    """Evaluate ``MODEL.WEIGHTS``, or with ``resume`` the last checkpoint of the output folder."""
    from drivetrain.checkpoint import CheckpointFolder

    from .eval import evaluate

    if resume and (last := next(CheckpointFolder(cfg.OUTPUT_DIR).candidates(), "")):
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.WEIGHTS = os.path.join(cfg.OUTPUT_DIR, last)
    return evaluate(cfg)


def _train(cfg: Any, begin: Begin, time_limit: float | None, keep: Callable[[], None]) -> Any:
    """Train and show what came out; ``keep`` is called once training has begun."""
    from drivetrain.engine.defaults.trainer import DefaultTrainer
    from drivetrain.engine.hooks import CallbackHook, PreemptionCheckpointer
    from drivetrain.runtime import comm

    from .report import show_results

    trainer = DefaultTrainer(cfg)
    if begin == "finetune":
        trainer.finetune(cfg.MODEL.WEIGHTS)
    elif begin == "extend":
        trainer.extend()
    elif begin == "resume" or (begin == "resume_or_load" and trainer.checkpointer.has_checkpoint()):
        reported = comm.all_gather(os.path.exists(os.path.join(cfg.OUTPUT_DIR, _REPORT)))[0]
        trainer.resume(end_again=not reported)
    else:
        trainer.resume_or_load(resume=begin == "resume_or_load")
    preemption = PreemptionCheckpointer(trainer.checkpointer, time_limit, command=_resume_command(cfg))
    trainer.register_hooks([CallbackHook(before_train=lambda _: keep()), preemption])
    if comm.is_main_process() and sys.stdout.isatty():
        trainer.register_hooks([_progress(trainer.max_iter)])
    results = trainer.train()
    if comm.is_main_process():
        with resumable_startup(f"after the last step, before the report was written; for that: {_resume_command(cfg)}"):
            show_results(trainer, results)
    return results


def _resume_command(cfg: Any) -> str:
    return shlex.join(["drivetrain", "resume", cfg.OUTPUT_DIR])


def _was_restarted() -> bool:
    """Whether this process was started anew because an earlier one failed (launch with ``max_restarts``, torchrun)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def _checkpoints(output_dir: str) -> list[str]:
    from drivetrain.checkpoint import CheckpointFolder

    return CheckpointFolder(output_dir).files()


def _check_fresh(output_dir: str) -> None:
    """Refuse to write over another training."""
    if _checkpoints(output_dir):
        raise ConfigError(
            f"OUTPUT_DIR={output_dir!r} holds the checkpoints of a training: continue it with 'drivetrain resume "
            f"{output_dir}', or choose another folder with --output"
        )


def _progress(max_iter: int) -> Any:
    """A hook that keeps a progress bar on the terminal up to date; it decides itself how often."""
    from drivetrain.engine.hooks import PeriodicWriter
    from drivetrain.events.writers import ProgressBar

    return PeriodicWriter([ProgressBar(max_iter)], period=1)
