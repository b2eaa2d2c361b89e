"""The default config of a training."""

from __future__ import annotations

from drivetrain.config import CfgNode
from drivetrain.solver.length import parse_length

from .schema import Root

__all__ = ["get_cfg", "resolve_lengths"]

_LENGTHS = (
    ("SOLVER", "MAX_ITER"),
    ("SOLVER", "WARMUP_ITERS"),
    ("SOLVER", "CHECKPOINT_PERIOD"),
    ("TEST", "EVAL_PERIOD"),
)


def get_cfg() -> CfgNode:
    """A new config with every key at its default."""
    return CfgNode.from_schema(Root)


def resolve_lengths(cfg: CfgNode, samples: int | None) -> CfgNode:
    """A copy of ``cfg`` in which every length is a number of iterations.

    Args:
        cfg: a config; ``SOLVER.MAX_ITER``, ``SOLVER.WARMUP_ITERS``, ``SOLVER.CHECKPOINT_PERIOD`` and
            ``TEST.EVAL_PERIOD`` may be epochs (``"12ep"``).
        samples: images in the training set, or None if that is not known. One iteration consumes
            ``SOLVER.IMS_PER_BATCH * SOLVER.ACCUMULATE`` of them.

    Returns:
        The copy, frozen if ``cfg`` is.

    Raises:
        ConfigError: a key holds no length, or epochs while ``samples`` is None or 0.
    """
    resolved = cfg.clone()
    resolved.defrost()
    batch = cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.ACCUMULATE
    for section, key in _LENGTHS:
        resolved[section][key] = parse_length(cfg[section][key], samples, batch, name=f"{section}.{key}")
    if cfg.is_frozen():
        resolved.freeze()
    return resolved
