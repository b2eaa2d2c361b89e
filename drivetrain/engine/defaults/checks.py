"""What has to fit together before a training starts."""

from __future__ import annotations

from collections.abc import Sized

from drivetrain.config import CfgNode
from drivetrain.errors import ConfigError
from drivetrain.modeling.build import class_count, class_count_key

from .data import as_names, class_names

__all__ = ["check_classes", "check_pairs"]


def check_classes(cfg: CfgNode) -> None:
    """Check that the model has an output for each class of the data.

    Raises:
        ConfigError: it has fewer.
    """
    key, count = class_count_key(cfg), class_count(cfg)
    if count is None:  # an architecture of the user's own, which says by itself what does not fit
        return
    if len(names := class_names(cfg)) > count:
        more = ", ..." if len(names) > 5 else ""
        fix = "set it to 0 to take their number" if key == "MODEL.NUM_CLASSES" else "set it to their number"
        raise ConfigError(
            f"{key} is {count}, but the dataset has {len(names)} classes ({', '.join(names[:5])}{more}): {fix}"
        )


def check_pairs(cfg: CfgNode, loaders: Sized | None, evaluators: Sized | None) -> None:
    """Check that test loaders and evaluators come in pairs; the ones not given are made from ``DATASETS.TEST``.

    Raises:
        ConfigError: they do not.
    """
    names = len(as_names(cfg.DATASETS.TEST))
    counts = [names if part is None else len(part) for part in (loaders, evaluators)]
    if counts[0] != counts[1]:
        raise ConfigError(
            f"{counts[0]} test loaders and {counts[1]} evaluators do not make pairs: give one loader for each "
            f"evaluator; those that are not given come from the {names} names in DATASETS.TEST"
        )
