"""What the defaults need to know of the datasets: registration, class names, their length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drivetrain.config import CfgNode
from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.registration import register_from_config
from drivetrain.errors import DatasetError, did_you_mean

__all__ = ["as_names", "class_names", "resolve_config", "samples_of"]


def as_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Dataset names as a tuple; a plain string is one name."""
    return (names,) if isinstance(names, str) else tuple(names)


def resolve_config(cfg: CfgNode) -> CfgNode:
    """A checked copy of the config with ``DATASETS.REGISTER`` registered and ``MODEL.NUM_CLASSES`` filled in.

    Raises:
        ConfigError: a value is wrong.
        DatasetError: a name in ``DATASETS.TRAIN`` or ``DATASETS.TEST`` is not registered.
    """
    cfg.validate()
    register_from_config(cfg.DATASETS.get("REGISTER", {}))
    for key in ("TRAIN", "TEST"):
        for name in as_names(cfg.DATASETS[key]):
            _check_registered(name, f"DATASETS.{key}")
    resolved = cfg.clone()
    if resolved.MODEL.NUM_CLASSES == 0 and (names := class_names(resolved)):
        frozen = resolved.is_frozen()
        resolved.defrost()
        resolved.MODEL.NUM_CLASSES = len(names)
        if frozen:
            resolved.freeze()
    return resolved


def _check_registered(name: str, key: str) -> None:
    known = DatasetCatalog.list()
    if name not in known:
        listed = ", ".join(sorted(known)) or "none so far"
        raise DatasetError(
            f"{key}: dataset {name!r} is not registered{did_you_mean(name, known)} (registered: {listed}); register "
            "it with register_coco_instances, DATASETS.REGISTER or --train-json / --val-json"
        )


def class_names(cfg: CfgNode) -> list[str]:
    """The class names of the first training (else test) dataset that knows its own; ``[]`` when none does."""
    for name in (*as_names(cfg.DATASETS.TRAIN), *as_names(cfg.DATASETS.TEST)):
        if name not in DatasetCatalog.list():
            continue
        metadata = MetadataCatalog.get(name)
        if metadata.get("thing_classes") is None:
            DatasetCatalog.get(name)  # class names of a file are known once it is read
        if names := metadata.get("thing_classes"):
            return list(names)
    return []


def samples_of(data_loader: Any) -> int | None:
    """Number of images that a loader goes through in an epoch; None when it does not know."""
    try:
        return len(data_loader.dataset)
    except (AttributeError, TypeError):
        return None
