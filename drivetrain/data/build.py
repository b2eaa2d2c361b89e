"""Datasets and loaders from a config or from parts, under the names that detectron2's users know."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, Sampler

from drivetrain.errors import ConfigError, DatasetError, did_you_mean
from drivetrain.runtime import comm

from .iterable import IterableTrainLoader
from .loader import InferenceLoader, TrainLoader
from .mapper import DatasetMapper
from .mix import MixMapper, build_mixes
from .order import GlobalOrder, check_batch_size
from .quarantine import Quarantine
from .randomness import derive
from .records import get_detection_dataset_dicts, stored
from .sampler_order import SamplerOrder
from .samplers import RepeatFactorTrainingSampler, TrainingSampler, repeat_factors_from_category_frequency

__all__ = ["build_detection_test_loader", "build_detection_train_loader", "get_detection_dataset_dicts"]

Mapper = Callable[..., Any]
CollateFn = Callable[[list[Any]], Any]
SAMPLERS = ("TrainingSampler", "RepeatFactorTrainingSampler")


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

    With a config, images that cannot be read are replaced, up to ``DATALOADER.MAX_BAD_IMAGES``, and listed in
    ``quarantine.jsonl`` in ``OUTPUT_DIR``; without one, and in an ``IterableDataset``, they are an error.

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
    cfg, dataset = _config_and_dataset(cfg, dataset)
    options = _Options(cfg, total_batch_size, aspect_ratio_grouping, num_workers, seed)
    if cfg is not None:
        mapper = DatasetMapper(cfg, True) if mapper is None else mapper
        if dataset is None:
            dataset = get_detection_dataset_dicts(
                cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
            )
    if dataset is None:
        raise ConfigError("build_detection_train_loader needs a config or a dataset")
    if isinstance(dataset, IterableDataset):
        if sampler is not None:
            raise ConfigError("an IterableDataset decides its own order: leave out the sampler")
        return _iterable_loader(dataset, mapper, options, collate_fn)
    records = stored(dataset)
    if len(records) == 0:
        raise DatasetError("there is nothing to train on: the training dataset has 0 images")
    if cfg is not None:
        sampler = _configured_sampler(cfg, records, options.seed) if sampler is None else sampler
        mapper = _mixing(cfg, mapper, records)
    return TrainLoader(
        records,
        _make_order(records, sampler, options),
        mapper,
        num_workers=options.num_workers,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
        collate_fn=collate_fn,
        quarantine=None if cfg is None else _quarantine(cfg, len(records)),
    )


def _mixing(cfg: Any, mapper: Mapper | None, records: Any) -> Mapper | None:
    """The mapper, with the augmentations of several images that the config asks for.

    Raises:
        ConfigError: it asks for some, and the mapper is not made for them.
    """
    mixes = build_mixes(cfg)
    if not mixes:
        return mapper
    if not isinstance(mapper, DatasetMapper):
        raise ConfigError(
            f"INPUT.MOSAIC, COPYPASTE and MIXUP work with a DatasetMapper, not with {mapper!r}: set them to 0, or wrap "
            "the mapper in drivetrain.data.mix.MixMapper"
        )
    return MixMapper(mapper, records, mixes)


def _quarantine(cfg: Any, num_images: int) -> Quarantine:
    folder = cfg.get("OUTPUT_DIR")
    path = os.path.join(folder, "quarantine.jsonl") if folder else None
    return Quarantine(path, cfg.DATALOADER.get("MAX_BAD_IMAGES", 0.0), num_images)


def _iterable_loader(
    dataset: Any, mapper: Mapper | None, options: _Options, collate_fn: CollateFn | None
) -> IterableTrainLoader:
    return IterableTrainLoader(
        dataset,
        mapper,
        batch_size=check_batch_size(options.batch_size, comm.get_world_size()),
        seed=derive(options.seed, comm.get_rank()),
        num_workers=options.num_workers,
        aspect_ratio_grouping=options.grouping,
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
    cfg, dataset = _config_and_dataset(cfg, dataset)
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
        stored(dataset),
        mapper,
        sampler=sampler,
        batch_size=1 if batch_size is None else batch_size,
        num_workers=0 if num_workers is None else num_workers,
        collate_fn=collate_fn,
    )


def _config_and_dataset(first: Any, dataset: Any) -> tuple[Any, Any]:
    """The config, if the first argument of a call is one, and the dataset, which it may be instead."""
    if isinstance(first, Mapping) and "DATALOADER" in first:
        return first, dataset
    if first is not None and dataset is not None:
        raise ConfigError("a dataset was given twice: as the first argument and as dataset=")
    return None, first if dataset is None else dataset
