"""Keys of detectron2's configs without a meaning here: they may stand in a config, and are named when set."""

from __future__ import annotations

# ruff: noqa: RUF009 - option() and section() make dataclass fields, as dataclasses.field() does
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

from drivetrain.config import CfgNode, option, section
from drivetrain.engine.defaults.schema import model as schema

__all__ = ["UNUSED", "CascadeHead", "PanopticPyramid", "SemanticHead", "unused_keys", "warn_of_unused_keys"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CascadeHead:
    """Cascade R-CNN, which is not there here."""

    BBOX_REG_WEIGHTS: tuple[tuple[float, ...], ...] = option(
        ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0)), "Of each of its stages."
    )
    IOUS: tuple[float, ...] = option((0.5, 0.6, 0.7), "Of each of its stages.")


@dataclass(frozen=True)
class SemanticHead(schema.SemanticHead):
    """Semantic segmentation beside the detector, which is not there here."""

    NAME: str = option("SemSegFPNHead", "Its kind.")
    IN_FEATURES: list[str] = option(["p2", "p3", "p4", "p5"], "Feature maps that it looks at.")
    IGNORE_VALUE: int = option(255, "Pixels of this label do not count.")
    NUM_CLASSES: int = option(54, "Number of classes.")
    CONVS_DIM: int = option(128, "Channels of its convolutions.")
    COMMON_STRIDE: int = option(4, "Of its output, in pixels.")
    NORM: str = option("GN", "Normalisation.")
    LOSS_WEIGHT: float = option(1.0, "Weight of its loss.")


@dataclass(frozen=True)
class PanopticCombination:
    """How masks and semantic segmentation are joined."""

    ENABLED: bool = option(True, "Whether they are.")
    OVERLAP_THRESH: float = option(0.5, "A mask of which more than this is hidden is dropped.")
    STUFF_AREA_LIMIT: int = option(4096, "Smaller areas of stuff are dropped, pixels.")
    INSTANCES_CONFIDENCE_THRESH: float = option(0.5, "Masks scored lower are dropped.")


@dataclass(frozen=True)
class PanopticPyramid:
    """Panoptic segmentation, which is not there here."""

    INSTANCE_LOSS_WEIGHT: float = option(1.0, "Weight of the detector's losses.")
    COMBINE: PanopticCombination = section(PanopticCombination)


UNUSED = MappingProxyType(
    {
        "DATALOADER.REPEAT_SQRT": "rare classes are repeated by the square root of how rare they are",
        "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST": "precomputed proposals are not read",
        "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN": "precomputed proposals are not read",
        "DATASETS.PROPOSAL_FILES_TEST": "precomputed proposals are not read",
        "DATASETS.PROPOSAL_FILES_TRAIN": "precomputed proposals are not read",
        "MODEL.ANCHOR_GENERATOR.ANGLES": "there are no rotated boxes",
        "MODEL.LOAD_PROPOSALS": "precomputed proposals are not read",
        "MODEL.PANOPTIC_FPN": "there is no PanopticFPN",
        "MODEL.RESNETS.DEFORM_MODULATED": "there are no deformable convolutions",
        "MODEL.RESNETS.DEFORM_NUM_GROUPS": "there are no deformable convolutions",
        "MODEL.ROI_BOX_CASCADE_HEAD": "there is no Cascade R-CNN",
        "MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER": "there is no federated loss",
        "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": "there is no federated loss",
        "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": "there is no federated loss",
        "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": "classes are told apart by softmax",
        "MODEL.SEM_SEG_HEAD": "the detectors have no semantic segmentation",
    }
)
"""Keys and sections that nothing here reads, and why."""


def unused_keys(cfg: CfgNode) -> dict[str, str]:
    """The keys without meaning here that are set to something else than their default, and why they have none."""
    found = {}
    for info in cfg.describe():
        why = next((UNUSED[key] for key in _prefixes(info.key) if key in UNUSED), "")
        if why and _value(cfg, info.key, info.default) != info.default:
            found[info.key] = why
    return found


def warn_of_unused_keys(cfg: CfgNode) -> None:
    """Name them all in one warning, if there are any."""
    if found := unused_keys(cfg):
        listed = "; ".join(f"{key} ({why})" for key, why in found.items())
        _logger.warning("Keys of the config that are set but change nothing here: %s", listed)


def _prefixes(key: str) -> Iterator[str]:
    parts = key.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _value(cfg: CfgNode, key: str, default: object) -> object:
    node: object = cfg
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return default
        node = node[part]
    return node
