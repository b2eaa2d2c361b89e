"""The config of detectron2: its keys, with its defaults, over those of this package.

Keys that mean nothing here are listed too, so that its files load; :mod:`drivetrain.compat.config` names those that
are set to something else than their default.
"""

# ruff: noqa: RUF009 - option() and section() make dataclass fields, as dataclasses.field() does
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from drivetrain.config import option, section
from drivetrain.engine.defaults.schema.data import DataLoader, Datasets, Input
from drivetrain.engine.defaults.schema.model import (
    AnchorGenerator,
    Backbone,
    KeypointHead,
    MaskHead,
    Model,
    Pyramid,
)
from drivetrain.engine.defaults.schema.root import Evaluation, Root

from .unused_keys import CascadeHead, PanopticPyramid, SemanticHead

__all__ = ["CompatRoot"]


@dataclass(frozen=True)
class CompatBackbone(Backbone):
    """The network that turns an image into feature maps."""

    NAME: str = option("build_resnet_backbone", "Backbone, by the name of detectron2's builder.")
    FREEZE_AT: int = option(2, "How many of the first stages are not trained; the stem is the first.", min=0)


@dataclass(frozen=True)
class CompatPyramid(Pyramid):
    """The feature pyramid."""

    IN_FEATURES: list[str] = option([], "Stages of the ResNet that it stands on.")
    OUT_CHANNELS: int = option(256, "Channels of every level.", min=1)
    NORM: str = option("", "Normalisation of its convolutions.")
    FUSE_TYPE: Literal["sum", "avg"] = option("sum", "How levels are joined.")


@dataclass(frozen=True)
class CompatAnchorGenerator(AnchorGenerator):
    """The reference boxes."""

    NAME: str = option("DefaultAnchorGenerator", "The generator.")
    SIZES: list[list[float]] = option([[32, 64, 128, 256, 512]], "Anchor sizes in pixels, for all or for each level.")
    ASPECT_RATIOS: list[list[float]] = option([[0.5, 1.0, 2.0]], "Heights over widths, for all or for each level.")
    ANGLES: list[list[float]] = option([[-90, 0, 90]], "Angles of rotated anchors, which are not there here.")
    OFFSET: float = option(0.0, "Of the anchors' centres from the corner of their cell, in strides.", min=0, max=1)


@dataclass(frozen=True)
class ResNets:
    """The ResNet."""

    DEPTH: int = option(50, "Layers: 18, 34, 50, 101 or 152.")
    OUT_FEATURES: list[str] = option(["res4"], "Stages whose outputs are used.")
    NUM_GROUPS: int = option(1, "Groups of the 3x3 convolutions; above 1 is ResNeXt.", min=1)
    NORM: str = option("FrozenBN", "Normalisation.")
    WIDTH_PER_GROUP: int = option(64, "Channels of a group in the first stage's bottlenecks.", min=1)
    STRIDE_IN_1X1: bool = option(True, "Whether the stride is in the first 1x1 convolution, not in the 3x3 one.")
    RES5_DILATION: int = option(1, "Dilation of the last stage; 2 keeps its stride at 16.")
    RES2_OUT_CHANNELS: int = option(256, "Channels of the first stage's output.", min=1)
    STEM_OUT_CHANNELS: int = option(64, "Channels of the stem's output.", min=1)
    DEFORM_ON_PER_STAGE: list[bool] = option([False] * 4, "Deformable convolutions, which are not there here.")
    DEFORM_MODULATED: bool = option(False, "Of deformable convolutions.")
    DEFORM_NUM_GROUPS: int = option(1, "Of deformable convolutions.")


@dataclass(frozen=True)
class ProposalGenerator:
    """Where proposals come from."""

    NAME: str = option("RPN", "The generator.")
    MIN_SIZE: float = option(0, "Proposals with a side that is not longer are dropped, pixels.", min=0)


@dataclass(frozen=True)
class Rpn:
    """The region proposal network."""

    HEAD_NAME: str = option("StandardRPNHead", "Its head.")
    IN_FEATURES: list[str] = option(["res4"], "Feature maps that it looks at.")
    BOUNDARY_THRESH: int = option(-1, "Anchors further outside the image do not count in training; -1 lets all count.")
    IOU_THRESHOLDS: list[float] = option([0.3, 0.7], "Overlaps below which is background and from which are objects.")
    IOU_LABELS: list[int] = option([0, -1, 1], "Labels between those overlaps.")
    BATCH_SIZE_PER_IMAGE: int = option(256, "Anchors that it learns from.", min=1)
    POSITIVE_FRACTION: float = option(0.5, "The largest share of objects among them.", min=0, max=1)
    BBOX_REG_LOSS_TYPE: str = option("smooth_l1", "Loss of boxes.")
    BBOX_REG_LOSS_WEIGHT: float = option(1.0, "Its weight.", min=0)
    BBOX_REG_WEIGHTS: tuple[float, ...] = option((1.0, 1.0, 1.0, 1.0), "Factors on dx, dy, dw, dh.")
    SMOOTH_L1_BETA: float = option(0.0, "Where smooth L1 turns linear; 0 is L1.", min=0)
    LOSS_WEIGHT: float = option(1.0, "Weight of its losses.", min=0)
    PRE_NMS_TOPK_TRAIN: int = option(12000, "Proposals of each level before NMS, in training.", min=1)
    PRE_NMS_TOPK_TEST: int = option(6000, "Proposals of each level before NMS, in testing.", min=1)
    POST_NMS_TOPK_TRAIN: int = option(2000, "Proposals of an image after NMS, in training.", min=1)
    POST_NMS_TOPK_TEST: int = option(1000, "Proposals of an image after NMS, in testing.", min=1)
    NMS_THRESH: float = option(0.7, "Of two proposals overlapping more, one is dropped.", min=0, max=1)
    CONV_DIMS: list[int] = option([-1], "Channels of its convolutions; -1 is that of the feature maps.")


@dataclass(frozen=True)
class RoiHeads:
    """The second stage."""

    NAME: str = option("Res5ROIHeads", "Its kind.")
    NUM_CLASSES: int = option(80, "Number of classes, without background.", min=1)
    IN_FEATURES: list[str] = option(["res4"], "Feature maps that it looks at.")
    IOU_THRESHOLDS: list[float] = option([0.5], "The overlap from which a proposal belongs to an object.")
    IOU_LABELS: list[int] = option([0, 1], "Labels below and above it.")
    BATCH_SIZE_PER_IMAGE: int = option(512, "Proposals that it learns from.", min=1)
    POSITIVE_FRACTION: float = option(0.25, "The largest share of objects among them.", min=0, max=1)
    SCORE_THRESH_TEST: float = option(0.05, "Predictions scored lower are dropped.", min=0, max=1)
    NMS_THRESH_TEST: float = option(0.5, "Of two boxes overlapping more (IoU), one is dropped.", min=0, max=1)
    PROPOSAL_APPEND_GT: bool = option(True, "Whether the true boxes are among the proposals in training.")


@dataclass(frozen=True)
class RoiBoxHead:
    """The second stage's layers for boxes."""

    NAME: str = option("", "Its kind.")
    BBOX_REG_LOSS_TYPE: str = option("smooth_l1", "Loss of boxes.")
    BBOX_REG_LOSS_WEIGHT: float = option(1.0, "Its weight.", min=0)
    BBOX_REG_WEIGHTS: tuple[float, ...] = option((10.0, 10.0, 5.0, 5.0), "Factors on dx, dy, dw, dh.")
    SMOOTH_L1_BETA: float = option(0.0, "Where smooth L1 turns linear; 0 is L1.", min=0)
    POOLER_RESOLUTION: int = option(14, "Cells of a box each way.", min=1)
    POOLER_SAMPLING_RATIO: int = option(0, "Points per cell and axis; 0 adapts to the box.", min=0)
    POOLER_TYPE: str = option("ROIAlignV2", "How features are cut out.")
    NUM_FC: int = option(0, "Fully connected layers.", min=0)
    FC_DIM: int = option(1024, "Their width.", min=1)
    NUM_CONV: int = option(0, "Convolutions before them.", min=0)
    CONV_DIM: int = option(256, "Their channels.", min=1)
    NORM: str = option("", "Their normalisation.")
    CLS_AGNOSTIC_BBOX_REG: bool = option(False, "One box for all classes.")
    TRAIN_ON_PRED_BOXES: bool = option(False, "Masks learn from predicted boxes, which is not there here.")
    USE_FED_LOSS: bool = option(False, "Federated loss, which is not there here.")
    USE_SIGMOID_CE: bool = option(False, "Sigmoid cross entropy, which is not there here.")
    FED_LOSS_FREQ_WEIGHT_POWER: float = option(0.5, "Of the federated loss.")
    FED_LOSS_NUM_CLASSES: int = option(50, "Of the federated loss.")


@dataclass(frozen=True)
class RoiMaskHead(MaskHead):
    """The second stage's layers for masks."""

    NAME: str = option("MaskRCNNConvUpsampleHead", "Its kind.")
    POOLER_RESOLUTION: int = option(14, "Cells of a box each way.", min=1)
    POOLER_SAMPLING_RATIO: int = option(0, "Points per cell and axis; 0 adapts to the box.", min=0)
    NUM_CONV: int = option(0, "Convolutions.", min=0)
    CONV_DIM: int = option(256, "Their channels.", min=1)
    NORM: str = option("", "Their normalisation.")
    CLS_AGNOSTIC_MASK: bool = option(False, "One mask for all classes.")
    POOLER_TYPE: str = option("ROIAlignV2", "How features are cut out.")


@dataclass(frozen=True)
class RoiKeypointHead(KeypointHead):
    """The second stage's layers for keypoints."""

    NAME: str = option("KRCNNConvDeconvUpsampleHead", "Its kind.")
    POOLER_RESOLUTION: int = option(14, "Cells of a box each way.", min=1)
    POOLER_SAMPLING_RATIO: int = option(0, "Points per cell and axis; 0 adapts to the box.", min=0)
    CONV_DIMS: tuple[int, ...] = option((512,) * 8, "Channels of its convolutions.")
    NUM_KEYPOINTS: int = option(17, "Keypoints of an object.", min=1)
    MIN_KEYPOINTS_PER_IMAGE: int = option(1, "Training images with fewer visible keypoints are left out.", min=0)
    NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS: bool = option(True, "Divide the loss by the visible keypoints.")
    LOSS_WEIGHT: float = option(1.0, "Weight of the loss.", min=0)
    POOLER_TYPE: str = option("ROIAlignV2", "How features are cut out.")


@dataclass(frozen=True)
class RetinaNetSection:
    """RetinaNet."""

    NUM_CLASSES: int = option(80, "Number of classes.", min=1)
    IN_FEATURES: list[str] = option(["p3", "p4", "p5", "p6", "p7"], "Feature maps that it looks at.")
    NUM_CONVS: int = option(4, "Convolutions before each prediction.", min=0)
    IOU_THRESHOLDS: list[float] = option([0.4, 0.5], "Overlaps below which is background and from which are objects.")
    IOU_LABELS: list[int] = option([0, -1, 1], "Labels between those overlaps.")
    PRIOR_PROB: float = option(0.01, "Score that an untrained model gives.", min=0, max=1)
    SCORE_THRESH_TEST: float = option(0.05, "Predictions scored lower are dropped.", min=0, max=1)
    TOPK_CANDIDATES_TEST: int = option(1000, "Predictions of each level before NMS.", min=1)
    NMS_THRESH_TEST: float = option(0.5, "Of two boxes overlapping more (IoU), one is dropped.", min=0, max=1)
    BBOX_REG_WEIGHTS: tuple[float, ...] = option((1.0, 1.0, 1.0, 1.0), "Factors on dx, dy, dw, dh.")
    FOCAL_LOSS_GAMMA: float = option(2.0, "Exponent of the focal loss.", min=0)
    FOCAL_LOSS_ALPHA: float = option(0.25, "Weight of objects in the focal loss.", min=-1)
    SMOOTH_L1_LOSS_BETA: float = option(0.1, "Where smooth L1 turns linear; 0 is L1.", min=0)
    NORM: str = option("", "Normalisation of the head.")
    BBOX_REG_LOSS_TYPE: str = option("smooth_l1", "Loss of boxes.")


@dataclass(frozen=True)
class FcosSection:
    """FCOS; in detectron2, which describes it in a lazy config alone, these are arguments."""

    NUM_CLASSES: int = option(80, "Number of classes.", min=1)
    IN_FEATURES: list[str] = option(["p3", "p4", "p5", "p6", "p7"], "Feature maps that it looks at.")
    NUM_CONVS: int = option(4, "Convolutions before each prediction.", min=0)
    NORM: str = option("GN", "Normalisation of the head.")
    PRIOR_PROB: float = option(0.01, "Score that an untrained model gives.", min=0, max=1)
    CENTER_SAMPLING_RADIUS: float = option(1.5, "Points so near to an object's centre are its own, in strides.", min=0)
    FOCAL_LOSS_GAMMA: float = option(2.0, "Exponent of the focal loss.", min=0)
    FOCAL_LOSS_ALPHA: float = option(0.25, "Weight of objects in the focal loss.", min=-1)
    SCORE_THRESH_TEST: float = option(0.2, "Predictions scored lower are dropped.", min=0, max=1)
    TOPK_CANDIDATES_TEST: int = option(1000, "Predictions of each level before NMS.", min=1)
    NMS_THRESH_TEST: float = option(0.6, "Of two boxes overlapping more (IoU), one is dropped.", min=0, max=1)


@dataclass(frozen=True)
class CompatModel(Model):
    """What is trained."""

    NAME: str = option("", 'A model of this package to take instead of META_ARCHITECTURE; "" for none.')
    META_ARCHITECTURE: str = option("GeneralizedRCNN", "GeneralizedRCNN, RetinaNet or FCOS.")
    MASK_ON: bool = option(False, "Predict masks.")
    KEYPOINT_ON: bool = option(False, "Predict keypoints.")
    LOAD_PROPOSALS: bool = option(False, "Precomputed proposals, which are not there here.")
    DEVICE: str = option("cuda", '"cuda", "cpu", "auto"...; without such a device, "cuda" is what "auto" is.')
    PIXEL_MEAN: list[float] = option(
        [103.53, 116.28, 123.675], "Mean per channel, 0..255, in the order of INPUT.FORMAT."
    )
    PIXEL_STD: list[float] = option([1.0, 1.0, 1.0], "Standard deviation per channel.")
    BACKBONE: CompatBackbone = section(CompatBackbone)
    FPN: CompatPyramid = section(CompatPyramid)
    ANCHOR_GENERATOR: CompatAnchorGenerator = section(CompatAnchorGenerator)
    RESNETS: ResNets = section(ResNets)
    PROPOSAL_GENERATOR: ProposalGenerator = section(ProposalGenerator)
    RPN: Rpn = section(Rpn)
    ROI_HEADS: RoiHeads = section(RoiHeads)
    ROI_BOX_HEAD: RoiBoxHead = section(RoiBoxHead)
    ROI_MASK_HEAD: RoiMaskHead = section(RoiMaskHead)
    ROI_KEYPOINT_HEAD: RoiKeypointHead = section(RoiKeypointHead)
    RETINANET: RetinaNetSection = section(RetinaNetSection)
    FCOS: FcosSection = section(FcosSection)
    ROI_BOX_CASCADE_HEAD: CascadeHead = section(CascadeHead)
    SEM_SEG_HEAD: SemanticHead = section(SemanticHead)
    PANOPTIC_FPN: PanopticPyramid = section(PanopticPyramid)


@dataclass(frozen=True)
class CompatInput(Input):
    """How images are read, resized and varied."""

    FORMAT: Literal["BGR", "RGB"] = option("BGR", "Channel order that the model takes.")


@dataclass(frozen=True)
class CompatDatasets(Datasets):
    """Which datasets."""

    PROPOSAL_FILES_TRAIN: tuple[str, ...] = option((), "Precomputed proposals, which are not there here.")
    PROPOSAL_FILES_TEST: tuple[str, ...] = option((), "Precomputed proposals, which are not there here.")
    PRECOMPUTED_PROPOSAL_TOPK_TRAIN: int = option(2000, "Of precomputed proposals.")
    PRECOMPUTED_PROPOSAL_TOPK_TEST: int = option(1000, "Of precomputed proposals.")


@dataclass(frozen=True)
class CompatDataLoader(DataLoader):
    """How samples are brought to the model."""

    REPEAT_SQRT: bool = option(True, "Repeat rare classes by the square root, as is always done here.")


@dataclass(frozen=True)
class TestAugmentation:
    """Several sizes and flips of an image in testing."""

    __test__ = False  # it is no test, whatever its name

    ENABLED: bool = option(False, "Whether predictions are made from several.")
    MIN_SIZES: tuple[int, ...] = option(
        (400, 500, 600, 700, 800, 900, 1000, 1100, 1200), "Lengths of the shorter side."
    )
    MAX_SIZE: int = option(4000, "The longer side is at most this.", min=1)
    FLIP: bool = option(True, "Also flipped.")


@dataclass(frozen=True)
class CompatEvaluation(Evaluation):
    """Evaluation."""

    AUG: TestAugmentation = section(TestAugmentation)


@dataclass(frozen=True)
class CompatRoot(Root):
    """The config of a training, with detectron2's defaults."""

    MODEL: CompatModel = section(CompatModel)
    INPUT: CompatInput = section(CompatInput)
    DATASETS: CompatDatasets = section(CompatDatasets)
    DATALOADER: CompatDataLoader = section(CompatDataLoader)
    TEST: CompatEvaluation = section(CompatEvaluation)
    GLOBAL: dict[str, Any] = option({"HACK": 1.0}, "Anything; nothing here reads it.")
