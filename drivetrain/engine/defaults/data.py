"""What the defaults need to know of the datasets: registration, class names, their length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from drivetrain.config import CfgNode
from drivetrain.data.catalog import DatasetCatalog, Metadata, MetadataCatalog
from drivetrain.data.formats.registration import register_from_config
from drivetrain.errors import DatasetError, did_you_mean

__all__ = ["FromStart", "as_names", "class_names", "register_datasets", "resolve_config", "samples_of", "with_classes"]


def as_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Dataset names as a tuple; a plain string is one name."""
    return (names,) if isinstance(names, str) else tuple(names)


def resolve_config(cfg: CfgNode, needed: Sequence[str] = ("TRAIN", "TEST")) -> CfgNode:
    """A checked copy of the config with ``DATASETS.REGISTER`` registered and ``MODEL.NUM_CLASSES`` filled in.

    Args:
        cfg: the config; it is not changed.
        needed: the keys under ``DATASETS`` whose names have to be registered.

    Raises:
        ConfigError: a value is wrong.
        DatasetError: a needed name is not registered.
    """
    cfg.validate()
    register_datasets(cfg)
    for key in needed:
        for name in as_names(cfg.DATASETS[key]):
            _check_registered(name, f"DATASETS.{key}")
    return with_classes(cfg)


def register_datasets(cfg: CfgNode) -> None:
    """Register what ``DATASETS.REGISTER`` describes; doing it again changes nothing.

    Raises:
        DatasetError: an entry is wrong.
    """
    register_from_config(cfg.DATASETS.get("REGISTER", {}))


def with_classes(cfg: CfgNode) -> CfgNode:
    """A copy of the config in which ``MODEL.NUM_CLASSES`` is not 0, as far as class names are known."""
    register_datasets(cfg)
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
        if name in DatasetCatalog and _class_names(name) is None:
            DatasetCatalog.store(name)  # class names of a file are known once it is read
        if names := _class_names(name):
            return list(names)
    return []


def _class_names(name: str) -> Sequence[str] | None:
    """The class names in a dataset's metadata, which for a segmentation are those of stuff; None for none so far."""
    metadata = MetadataCatalog.get(name) if name in MetadataCatalog else Metadata(name)
    things: Sequence[str] | None = metadata.get("thing_classes")
    return metadata.get("stuff_classes") if things is None else things


class FromStart:
    """Another loader's images from their beginning each time it is iterated, whose workers end with the iteration.

    Args:
        loader: what is iterated.
        training: the loader of the training, whose random order is taken where both have one, so that a resumed
            training finds the same images here.
    """

    def __init__(self, loader: Iterable[Any], training: Iterable[Any]) -> None:
        self._loader = loader
        self._training = training

    def __iter__(self) -> Iterator[Any]:
        """The batches."""
        load, state = (getattr(self._loader, "load_state_dict", None), getattr(self._training, "state_dict", None))
        if callable(load) and callable(state) and type(self._loader) is type(self._training):
            load({key: 0 if key == "batches" else value for key, value in state().items()})
        try:
            yield from self._loader
        finally:
            if callable(close := getattr(self._loader, "close", None)):
                close()


def samples_of(data_loader: Any) -> int | None:
    """Number of images that a loader goes through in an epoch; None when it does not know."""
    try:
        return len(data_loader.dataset)
    except (AttributeError, TypeError):
        return None
