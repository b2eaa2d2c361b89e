"""What a process runs on: process groups, device, random numbers, logging, the machine's description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from . import comm as comm
    from .device import resolve_device as resolve_device
    from .environment import Row as Row
    from .environment import collect_env_info as collect_env_info
    from .environment import environment_rows as environment_rows
    from .logging import log_every_n as log_every_n
    from .logging import log_every_n_seconds as log_every_n_seconds
    from .logging import log_first_n as log_first_n
    from .logging import setup_logger as setup_logger
    from .seeding import capture_rng_state as capture_rng_state
    from .seeding import preserve_rng as preserve_rng
    from .seeding import restore_rng_state as restore_rng_state
    from .seeding import seed_all_rng as seed_all_rng

__all__ = [
    "Row",
    "capture_rng_state",
    "collect_env_info",
    "comm",
    "environment_rows",
    "log_every_n",
    "log_every_n_seconds",
    "log_first_n",
    "preserve_rng",
    "resolve_device",
    "restore_rng_state",
    "seed_all_rng",
    "setup_logger",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Row": "environment",
        "capture_rng_state": "seeding",
        "collect_env_info": "environment",
        "comm": "comm",
        "environment_rows": "environment",
        "log_every_n": "logging",
        "log_every_n_seconds": "logging",
        "log_first_n": "logging",
        "preserve_rng": "seeding",
        "resolve_device": "device",
        "restore_rng_state": "seeding",
        "seed_all_rng": "seeding",
        "setup_logger": "logging",
    },
)
