"""Datasets and loaders from a config or from parts, under the names that detectron2's users know."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, Sampler

from drivetrain.errors import ConfigError, DatasetError, did_you_mean
from drivetrain.runtime import comm

from .catalog import DatasetCatalog, MetadataCatalog
from .iterable import IterableTrainLoader
from .loader import InferenceLoader, TrainLoader
from .mapper import DatasetMapper
from .order import GlobalOrder, check_batch_size
from .randomness import derive
from .sampler_order import SamplerOrder
from .samplers import RepeatFactorTrainingSampler, TrainingSampler, repeat_factors_from_category_frequency
from .store import RecordStore
from .views import select

__all__ = ["build_detection_test_loader", "build_detection_train_loader", "get_detection_dataset_dicts"]

Mapper = Callable[..., Any]
CollateFn = Callable[[list[Any]], Any]
Records = Sequence[dict[str, Any]]
SAMPLERS = ("TrainingSampler", "RepeatFactorTrainingSampler")


def get_detection_dataset_dicts(
    names: str | Sequence[str],
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files: Sequence[str] | None = None,
    check_consistency: bool = True,
) -> Records:
    """The records of registered datasets, one after the other.

    Args:
        names: of one dataset or several.
        filter_empty: leave out images without an annotation that is not a crowd (where there are annotations at all).
        min_keypoints: leave out images with fewer visible keypoints than this.
        proposal_files: precomputed proposals are not supported: None.
        check_consistency: require that the datasets agree on their class names.

    Returns:
        A sequence whose items are fresh dicts: a `RecordStore` or a selection of several, or a list where a record
        holds values that a store cannot keep.

    Raises:
        DatasetError: a name is not registered, nothing is left, or the class names differ.
    """
    chosen = [names] if isinstance(names, str) else list(names)
    if not chosen:
        raise DatasetError("no dataset is named: set DATASETS.TRAIN or DATASETS.TEST to registered names")
    if proposal_files:
        raise DatasetError("precomputed proposals (proposal_files) are not supported; leave them out")
    loaded = [_load(name) for name in chosen]
    if check_consistency:
        _check_classes(chosen)
    kept = [_usable(name, records, filter_empty, min_keypoints) for name, records in zip(chosen, loaded, strict=True)]
    keep = np.concatenate(kept)
    total = ", ".join(f"{name!r} ({len(records)} images)" for name, records in zip(chosen, loaded, strict=True))
    if not keep.any():
        raise DatasetError(
            f"no image with a usable annotation is left in the dataset {total}; set "
            "DATALOADER.FILTER_EMPTY_ANNOTATIONS to False to train on images without annotations"
        )
    if not keep.all():
        logging.getLogger(__name__).info(
            "%d of %d images have no usable annotation and are left out, %d remain (%s)",
            int((~keep).sum()),
            len(keep),
            int(keep.sum()),
            total,
        )
    stores = [records for records in loaded if isinstance(records, RecordStore)]
    if len(stores) == len(loaded):
        return select(stores, keep)
    flat = [record for records in loaded for record in records]
    return [flat[i] for i in np.flatnonzero(keep)]


def _load(name: str) -> Records:
    records: Any = DatasetCatalog.get(name)
    if len(records) == 0:
        raise DatasetError(f"dataset {name!r} is empty: it has 0 images")
    stored: Records = _stored(records)
    return stored


def _stored(records: Any) -> Any:
    """A list of record dicts as a `RecordStore`, if that gives them back as they are; else ``records`` itself."""
    if not isinstance(records, (list, tuple)) or not all(isinstance(r, dict) for r in records):
        return records
    probes = range(0, len(records), max(len(records) // 64, 1))
    try:
        store = RecordStore.from_records(records)
        return store if all(store[i] == records[i] for i in probes) else records
    except (DatasetError, ValueError):  # a value of a type of the user's, or an array
        return records


def _check_classes(names: Sequence[str]) -> None:
    known = {n: list(c) for n in names if (c := MetadataCatalog.get(n).get("thing_classes")) is not None}
    first = next(iter(known), None)
    for name, classes in known.items():
        if first is not None and classes != known[first]:
            raise DatasetError(
                f"datasets {first!r} and {name!r} cannot be used together: their classes are {known[first]} and "
                f"{classes}"
            )


def _usable(name: str, records: Records, filter_empty: bool, min_keypoints: int) -> np.ndarray[Any, Any]:
    """Which records to keep, bool (N,)."""
    keep = np.ones(len(records), dtype=bool)
    if "annotations" not in records[0]:
        return keep
    if filter_empty and isinstance(records, RecordStore):
        keep &= records.num_objects > 0
    elif filter_empty:
        keep &= np.array([any(not a.get("iscrowd", 0) for a in r["annotations"]) for r in records])
    if min_keypoints > 0:
        keep &= np.array([_visible_keypoints(r) >= min_keypoints for r in records])
    return keep


def _visible_keypoints(record: Mapping[str, Any]) -> int:
    return sum(sum(1 for v in a.get("keypoints", ())[2::3] if v > 0) for a in record["annotations"])


def build_detection_train_loader(
    cfg: Any = None,
    mapper: Mapper | None = None,
    *,
    dataset: Any = None,
    sampler: Any = None,
    total_batch_size: int | None = None,
    aspect_ratio_grouping: bool | None = None,
    num_workers: int | None = None,
    seed: int | None = None,
    collate_fn: CollateFn | None = None,
) -> TrainLoader | IterableTrainLoader:
    """The training batches of this rank, from a config or from parts; all ranks call it together.

    ``build_detection_train_loader(cfg)`` takes everything from the config; any argument given beside it counts instead.
    ``build_detection_train_loader(dataset, mapper=..., total_batch_size=...)`` needs no config.

    Args:
        cfg: a config, or the dataset.
        mapper: makes a sample of a record; None is the `DatasetMapper` of the config, or the record itself without a
            config.
        dataset: a list of record dicts, a torch ``Dataset`` or ``IterableDataset``; None loads ``DATASETS.TRAIN``.
        sampler: a torch sampler of this rank's indices; None is what ``DATALOADER.SAMPLER_TRAIN`` names, or every image
            once per epoch.
        total_batch_size: samples per batch over all ranks (``SOLVER.IMS_PER_BATCH``).
        aspect_ratio_grouping: make each batch of images that are wide, or of images that are not; by default True.
            Needs a list of dicts or a dataset with arrays ``widths`` and ``heights``.
        num_workers: worker processes; without a config 0 by default.
        seed: of order and augmentation (``SEED``); None or negative agrees on a random one.
        collate_fn: joins the samples of a batch; None leaves the list of them.

    Raises:
        ConfigError: a value is unusable or the batch size is missing.
        DatasetError: the dataset is not registered, empty, or malformed.
    """
    if not _is_config(cfg):
        if cfg is not None and dataset is not None:
            raise ConfigError("a dataset was given twice: as the first argument and as dataset=")
        dataset, cfg = (cfg if dataset is None else dataset), None
    options = _Options(cfg, total_batch_size, aspect_ratio_grouping, num_workers, seed)
    if cfg is not None:
        mapper = DatasetMapper(cfg, True) if mapper is None else mapper
        if dataset is None:
            dataset = get_detection_dataset_dicts(
                cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
            )
    if dataset is None:
        raise ConfigError("build_detection_train_loader needs a config or a dataset")
    rank, world_size = comm.get_rank(), comm.get_world_size()
    if isinstance(dataset, IterableDataset):
        if sampler is not None:
            raise ConfigError("an IterableDataset decides its own order: leave out the sampler")
        return IterableTrainLoader(
            dataset,
            mapper,
            batch_size=check_batch_size(options.batch_size, world_size),
            seed=derive(options.seed, rank),
            num_workers=options.num_workers,
            aspect_ratio_grouping=options.grouping,
            collate_fn=collate_fn,
        )
    records = _stored(dataset)
    if len(records) == 0:
        raise DatasetError("there is nothing to train on: the training dataset has 0 images")
    if sampler is None and cfg is not None:
        sampler = _configured_sampler(cfg, records, options.seed)
    return TrainLoader(
        records,
        _make_order(records, sampler, options),
        mapper,
        num_workers=options.num_workers,
        rank=rank,
        world_size=world_size,
        collate_fn=collate_fn,
    )


class _Options:
    """The plain settings of a training loader: what was given, else what the config says, else a default."""

    def __init__(
        self,
        cfg: Any,
        batch_size: int | None,
        grouping: bool | None,
        num_workers: int | None,
        seed: int | None,
    ) -> None:
        if cfg is not None:
            batch_size = cfg.SOLVER.IMS_PER_BATCH if batch_size is None else batch_size
            grouping = cfg.DATALOADER.ASPECT_RATIO_GROUPING if grouping is None else grouping
            num_workers = cfg.DATALOADER.NUM_WORKERS if num_workers is None else num_workers
            seed = cfg.SEED if seed is None else seed
        if batch_size is None:
            raise ConfigError(
                "build_detection_train_loader needs total_batch_size, the images per batch over all ranks"
            )
        check_batch_size(batch_size, comm.get_world_size())
        self.batch_size = batch_size
        self.grouping = True if grouping is None else bool(grouping)
        self.num_workers = 0 if num_workers is None else num_workers
        self.seed = comm.shared_random_seed() if seed is None or seed < 0 else seed


def _configured_sampler(cfg: Any, records: Any, seed: int) -> Sampler[int]:
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name == "TrainingSampler":
        return TrainingSampler(len(records), seed=seed)
    if name == "RepeatFactorTrainingSampler":
        factors = repeat_factors_from_category_frequency(records, cfg.DATALOADER.REPEAT_THRESHOLD)
        return RepeatFactorTrainingSampler(factors, seed=seed)
    raise ConfigError(
        f"DATALOADER.SAMPLER_TRAIN must be one of {', '.join(SAMPLERS)}, not {name!r}"
        f"{did_you_mean(str(name), SAMPLERS)}"
    )


def _make_order(records: Any, sampler: Any, options: _Options) -> GlobalOrder | SamplerOrder:
    groups = _wide(records) if options.grouping else None
    if sampler is None:
        return GlobalOrder(len(records), options.batch_size, options.seed, groups=groups)
    if isinstance(sampler, (TrainingSampler, RepeatFactorTrainingSampler)):
        return sampler.order(options.batch_size, groups)
    if not isinstance(sampler, Sampler):
        raise ConfigError(f"a sampler must be a torch.utils.data.Sampler, not {type(sampler).__name__}")
    return SamplerOrder(sampler, len(records), options.batch_size, options.seed, groups=groups)


def _wide(records: Any) -> np.ndarray[Any, Any] | None:
    """Which records are wider than high, bool (N,); None where that is unknown or the same for all."""
    if hasattr(records, "widths") and hasattr(records, "heights"):
        wide = np.asarray(records.widths) > np.asarray(records.heights)
    elif isinstance(records, (list, tuple)) and all(isinstance(r, dict) for r in records):
        wide = np.array([r.get("width", 0) > r.get("height", 0) for r in records])
    else:
        return None
    return wide if wide.any() and not wide.all() else None


def build_detection_test_loader(
    cfg: Any = None,
    dataset_name: str | Sequence[str] | None = None,
    mapper: Mapper | None = None,
    *,
    dataset: Any = None,
    sampler: Sampler[int] | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    collate_fn: CollateFn | None = None,
) -> InferenceLoader:
    """Every record once, in order: this rank's block of them, from a config and a dataset's name or from parts.

    Args:
        cfg: a config, or the dataset.
        dataset_name: registered name(s); with a config.
        mapper: makes a sample of a record; None is the `DatasetMapper` of the config, or the record itself without one.
        dataset: a list of record dicts or a torch ``Dataset`` with a length.
        sampler: the indices of this rank; None is `InferenceSampler`.
        batch_size: samples per batch (``TEST.IMS_PER_BATCH``); without a config 1 by default.
        num_workers: worker processes; without a config 0 by default.
        collate_fn: joins the samples of a batch; None leaves the list of them.

    Raises:
        ConfigError: a value is unusable.
        DatasetError: the dataset is not registered, empty, or malformed.
    """
    if not _is_config(cfg):
        if cfg is not None and dataset is not None:
            raise ConfigError("a dataset was given twice: as the first argument and as dataset=")
        dataset, cfg = (cfg if dataset is None else dataset), None
    if cfg is not None:
        mapper = DatasetMapper(cfg, False) if mapper is None else mapper
        batch_size = cfg.TEST.get("IMS_PER_BATCH", 1) if batch_size is None else batch_size
        num_workers = cfg.DATALOADER.NUM_WORKERS if num_workers is None else num_workers
        if dataset is None and dataset_name is not None:
            dataset = get_detection_dataset_dicts(dataset_name, filter_empty=False)
    if dataset is None:
        raise ConfigError("build_detection_test_loader needs a config and a dataset's name, or a dataset")
    if isinstance(dataset, IterableDataset):
        raise ConfigError("evaluation needs a dataset with a length, which an IterableDataset has not")
    return InferenceLoader(
        _stored(dataset),
        mapper,
        sampler=sampler,
        batch_size=1 if batch_size is None else batch_size,
        num_workers=0 if num_workers is None else num_workers,
        collate_fn=collate_fn,
    )


def _is_config(value: Any) -> bool:
    return isinstance(value, Mapping) and "DATALOADER" in value
