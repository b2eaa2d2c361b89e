"""What a job does once at its beginning: folder, log, random numbers, and the record of how it was started."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from drivetrain.checkpoint.files import atomic_write
from drivetrain.config import CfgNode
from drivetrain.errors import ConfigError, OutputError
from drivetrain.events.writers import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from drivetrain.runtime import comm
from drivetrain.runtime.environment import collect_env_info, redacted
from drivetrain.runtime.logging import setup_logger
from drivetrain.runtime.seeding import seed_all_rng

__all__ = ["create_ddp_model", "default_setup", "default_writers", "make_output_dir"]


def make_output_dir(path: str) -> Path:
    """Make the output folder if need be, and prove that files can be written to it.

    Raises:
        OutputError: they cannot.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write_test_{comm.get_rank()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"the output folder {path!r} (OUTPUT_DIR) cannot be written: {error.strerror or error}; choose another"
        ) from error
    return folder


def default_setup(cfg: CfgNode, args: Any) -> None:
    """Prepare a job: output folder, log files, environment report, saved config, seed, backend flags.

    Rank r writes its log to ``log.txt`` (r = 0) or ``log.txt.rank<r>``; rank 0 saves the full config as
    ``config.yaml``. The seed is ``SEED`` + rank; a negative ``SEED`` means a random one, which is logged.

    Args:
        cfg: the full config.
        args: parsed command-line arguments, to be logged; anything without ``config_file`` will do.

    Raises:
        OutputError: the output folder cannot be written.
    """
    folder = make_output_dir(cfg.OUTPUT_DIR)
    rank = comm.get_rank()
    logger = setup_logger(str(folder), distributed_rank=rank)
    logger.info("Rank of current process: %d. World size: %d", rank, comm.get_world_size())
    logger.info("Environment info:\n%s", collect_env_info())
    logger.info("Command line: %s", shlex.join(redacted(sys.argv)))
    logger.info("Arguments: %s", _shown(args) if isinstance(args, argparse.Namespace) else args)
    if config_file := getattr(args, "config_file", ""):
        logger.info("Contents of %s:\n%s", config_file, Path(config_file).read_text(encoding="utf-8"))
    if comm.is_main_process():
        logger.info("Running with full config:\n%s", cfg.dump())
        save_config(cfg, folder / "config.yaml")
        logger.info("Full config saved to %s", folder / "config.yaml")
    seed = seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    logger.info("Random seed of this process: %d", seed)
    if not getattr(args, "eval_only", False):
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    if cfg.FLOAT32_PRECISION:
        if cfg.FLOAT32_PRECISION not in ("highest", "high", "medium"):
            raise ConfigError(f"FLOAT32_PRECISION={cfg.FLOAT32_PRECISION!r}: use 'highest', 'high', 'medium' or ''")
        torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)


def _shown(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments for the log, without secrets."""
    values = {name: redacted(value) if isinstance(value, list) else value for name, value in vars(args).items()}
    return {name: redacted([f"--{name}", value])[1] if value else value for name, value in values.items()}


def save_config(cfg: CfgNode, path: Path) -> None:
    """Write the config as YAML, whole or not at all."""
    text = cfg.dump()
    atomic_write(path, lambda file: file.write(text.encode()))


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Writers to the console, to ``metrics.json`` (one object a line) and to TensorBoard.

    Args:
        output_dir: where the files go.
        max_iter: the last iteration, for the estimate of the time left.
    """
    folder = make_output_dir(output_dir)
    return [
        CommonMetricPrinter(max_iter),
        JSONWriter(str(folder / "metrics.json")),
        TensorboardXWriter(str(folder)),
    ]


def create_ddp_model(model: torch.nn.Module, *, fp16_compression: bool = False, **kwargs: Any) -> torch.nn.Module:
    """Wrap a model in DistributedDataParallel; with one process, return the model itself.

    Args:
        model: on its device.
        fp16_compression: send gradients in half precision.
        kwargs: arguments of DistributedDataParallel.
    """
    if comm.get_world_size() == 1:
        return model
    device = next(model.parameters()).device
    if "device_ids" not in kwargs and device.type == "cuda":
        kwargs["device_ids"] = [device.index]
    ddp = torch.nn.parallel.DistributedDataParallel(model, **kwargs)
    if fp16_compression:
        from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

        ddp.register_comm_hook(state=None, hook=default_hooks.fp16_compress_hook)
    return ddp
