"""Keys that have no meaning here."""

# ruff: noqa: RUF009 - section() makes dataclass fields, as dataclasses.field() does
from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest

from drivetrain.compat.config import get_cfg
from drivetrain.compat.unused_keys import (
    UNUSED,
    CascadeHead,
    PanopticPyramid,
    SemanticHead,
    unused_keys,
    warn_of_unused_keys,
)
from drivetrain.config import CfgNode, section


@dataclass(frozen=True)
class _Sections:
    """The sections of what is not there."""

    ROI_BOX_CASCADE_HEAD: CascadeHead = section(CascadeHead)
    SEM_SEG_HEAD: SemanticHead = section(SemanticHead)
    PANOPTIC_FPN: PanopticPyramid = section(PanopticPyramid)


def test_defaults_are_accepted_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.LOAD_PROPOSALS", "False", "MODEL.ANCHOR_GENERATOR.ANGLES", "[[-90, 0, 90]]"])
    warn_of_unused_keys(cfg)
    assert unused_keys(cfg) == {} and not caplog.records


def test_what_is_set_is_named_in_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.LOAD_PROPOSALS", "True", "MODEL.ROI_BOX_HEAD.USE_FED_LOSS", "True"])
    cfg.freeze()
    with caplog.at_level(logging.WARNING):
        warn_of_unused_keys(cfg)
    (record,) = caplog.records
    assert "MODEL.LOAD_PROPOSALS (precomputed" in record.message and "USE_FED_LOSS" in record.message


def test_keys_that_are_read_do_not_count() -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.ROI_HEADS.NUM_CLASSES", "3", "MODEL.RESNETS.DEPTH", "101"])
    assert unused_keys(cfg) == {}


def test_sections_have_the_keys_that_detectron2_writes() -> None:
    cfg = CfgNode.from_schema(_Sections)
    text = """
    PANOPTIC_FPN: {COMBINE: {ENABLED: true, INSTANCES_CONFIDENCE_THRESH: 0.5, OVERLAP_THRESH: 0.5,
                             STUFF_AREA_LIMIT: 4096}, INSTANCE_LOSS_WEIGHT: 1.0}
    ROI_BOX_CASCADE_HEAD: {BBOX_REG_WEIGHTS: [[10.0, 10.0, 5.0, 5.0], [20.0, 20.0, 10.0, 10.0],
                                              [30.0, 30.0, 15.0, 15.0]], IOUS: [0.5, 0.6, 0.7]}
    SEM_SEG_HEAD: {COMMON_STRIDE: 4, CONVS_DIM: 128, IGNORE_VALUE: 255, IN_FEATURES: [p2, p3, p4, p5],
                   LOSS_WEIGHT: 1.0, NAME: SemSegFPNHead, NORM: GN, NUM_CLASSES: 54}
    """
    before = cfg.clone()
    cfg.merge_from_other_cfg(CfgNode.load_cfg(text))
    assert cfg == before
    assert {f"MODEL.{name}" for name in before} < set(UNUSED)
