"""A config made for one number of ranks, used with another."""

from __future__ import annotations

import logging

from drivetrain.config import CfgNode
from drivetrain.errors import ConfigError

__all__ = ["scale_to_ranks"]

logger = logging.getLogger(__name__)


def scale_to_ranks(cfg: CfgNode, ranks: int) -> CfgNode:
    """Scale batch size, learning rate and lengths to another number of ranks, if the config asks for it.

    With ``SOLVER.REFERENCE_WORLD_SIZE`` r > 0 and n ranks, batch size and learning rate are multiplied by n / r and
    iterations, steps, warm-up and periods divided by it (linear scaling rule, Goyal et al. 2017, "Accurate, Large
    Minibatch SGD"). Lengths in epochs stay as they are.

    Args:
        cfg: the config; it is not changed.
        ranks: n.

    Returns:
        A scaled copy, whose ``REFERENCE_WORLD_SIZE`` is n; or the config itself when there is nothing to do.

    Raises:
        ConfigError: the batch cannot be divided by r.
    """
    reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
    if reference in (0, ranks):
        return cfg
    if cfg.SOLVER.IMS_PER_BATCH % reference:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH={cfg.SOLVER.IMS_PER_BATCH} must be divisible by "
            f"SOLVER.REFERENCE_WORLD_SIZE={reference}"
        )
    scale = ranks / reference
    scaled = cfg.clone()
    scaled.defrost()
    solver = scaled.SOLVER
    solver.IMS_PER_BATCH = round(solver.IMS_PER_BATCH * scale)
    solver.BASE_LR *= scale
    solver.STEPS = tuple(dict.fromkeys(round(step / scale) for step in solver.STEPS))
    solver.REFERENCE_WORLD_SIZE = ranks
    lengths = (
        (solver, "MAX_ITER"),
        (solver, "WARMUP_ITERS"),
        (solver, "CHECKPOINT_PERIOD"),
        (scaled.TEST, "EVAL_PERIOD"),
    )
    for node, key in lengths:
        if not isinstance(node[key], str):
            node[key] = max(round(node[key] / scale), min(node[key], 1))  # 0 stays 0, which means never
    logger.info("Config scaled from %d to %d ranks", reference, ranks)
    if cfg.is_frozen():
        scaled.freeze()
    return scaled
