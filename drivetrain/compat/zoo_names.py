"""The names of detectron2's model zoo: the configs that are here, where weights are published, what is not here."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from drivetrain.errors import ConfigError, did_you_mean

__all__ = ["CHECKPOINTS", "COCO_CLASSES", "ZOO", "zoo_file", "zoo_name_of_file"]

ZOO = Path(__file__).parent / "zoo"
"""The folder of the configs."""

CHECKPOINTS = MappingProxyType(
    {
        "COCO-Detection/faster_rcnn_R_50_C4_1x": "137257644/model_final_721ade.pkl",
        "COCO-Detection/faster_rcnn_R_50_DC5_1x": "137847829/model_final_51d356.pkl",
        "COCO-Detection/faster_rcnn_R_50_FPN_1x": "137257794/model_final_b275ba.pkl",
        "COCO-Detection/faster_rcnn_R_50_C4_3x": "137849393/model_final_f97cb7.pkl",
        "COCO-Detection/faster_rcnn_R_50_DC5_3x": "137849425/model_final_68d202.pkl",
        "COCO-Detection/faster_rcnn_R_50_FPN_3x": "137849458/model_final_280758.pkl",
        "COCO-Detection/faster_rcnn_R_101_C4_3x": "138204752/model_final_298dad.pkl",
        "COCO-Detection/faster_rcnn_R_101_DC5_3x": "138204841/model_final_3e0943.pkl",
        "COCO-Detection/faster_rcnn_R_101_FPN_3x": "137851257/model_final_f6e8b1.pkl",
        "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x": "139173657/model_final_68b088.pkl",
        "COCO-Detection/retinanet_R_50_FPN_1x": "190397773/model_final_bfca0b.pkl",
        "COCO-Detection/retinanet_R_50_FPN_3x": "190397829/model_final_5bd44e.pkl",
        "COCO-Detection/retinanet_R_101_FPN_3x": "190397697/model_final_971ab9.pkl",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x": "137259246/model_final_9243eb.pkl",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_1x": "137260150/model_final_4f86c3.pkl",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": "137260431/model_final_a54504.pkl",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x": "137849525/model_final_4ce675.pkl",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_3x": "137849551/model_final_84107b.pkl",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x": "137849600/model_final_f10217.pkl",
        "COCO-InstanceSegmentation/mask_rcnn_R_101_C4_3x": "138363239/model_final_a2914c.pkl",
        "COCO-InstanceSegmentation/mask_rcnn_R_101_DC5_3x": "138363294/model_final_0464b7.pkl",
        "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x": "138205316/model_final_a3ec72.pkl",
        "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x": "139653917/model_final_2d9806.pkl",
        "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x": "137261548/model_final_04e291.pkl",
        "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x": "137849621/model_final_a6e10b.pkl",
        "COCO-Keypoints/keypoint_rcnn_R_101_FPN_3x": "138363331/model_final_997cc7.pkl",
        "COCO-Keypoints/keypoint_rcnn_X_101_32x8d_FPN_3x": "139686956/model_final_5ad38f.pkl",
    }
)
"""Config (without ``.yaml``) -> its published weights, below the config's own folder."""

_LAZY = (
    "configs in Python are no files here: take model_zoo.get_config(...) of those that there are, or the .yaml of the "
    "same name"
)
_LAZY_PART = "parts of configs in Python are no files here: take model_zoo.get_config(...)"
_CASCADE = "Cascade R-CNN is not here; take COCO-InstanceSegmentation/mask_rcnn_..."
_PANOPTIC = "panoptic models are those of transformers (MODEL.NAME mask2former...)"
_DATASET = (
    "take the config of the same model under COCO-Detection/ or COCO-InstanceSegmentation/, and set DATASETS.TRAIN, "
    "DATASETS.TEST and MODEL.ROI_HEADS.NUM_CLASSES"
)
_OTHER = "of the model zoo there are COCO-Detection, COCO-InstanceSegmentation and COCO-Keypoints here"

_ABSENT = (  # the beginnings of names, and why those are not here
    ("COCO-Detection/rpn_", "a proposal network without a second stage has no detections, and is not here"),
    ("COCO-Detection/fast_rcnn_", "Fast R-CNN needs precomputed proposals, which are not read here; take faster_rcnn_"),
    ("COCO-InstanceSegmentation/mask_rcnn_regnet", "RegNet backbones are not here"),
    ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x_giou", "set MODEL.RPN.BBOX_REG_LOSS_TYPE 'giou' yourself"),
    ("COCO-PanopticSegmentation/", _PANOPTIC),
    ("Misc/cascade_mask_rcnn_", _CASCADE),
    ("Misc/panoptic_fpn_", _PANOPTIC),
    ("Misc/semantic_", "segmentation models are those of torchvision and transformers, chosen by MODEL.NAME"),
    ("common/", _LAZY_PART),
    *((start, _DATASET) for start in ("Cityscapes/", "LVISv", "PascalVOC-Detection/")),
    *((start, _OTHER) for start in ("Detectron1-Comparisons/", "Misc/", "new_baselines/", "quick_schedules/")),
)

_COCO = (
    "person|bicycle|car|motorcycle|airplane|bus|train|truck|boat|traffic light|fire hydrant|stop sign|"
    "parking meter|bench|bird|cat|dog|horse|sheep|cow|elephant|bear|zebra|giraffe|backpack|umbrella|handbag|tie|"
    "suitcase|frisbee|skis|snowboard|sports ball|kite|baseball bat|baseball glove|skateboard|surfboard|"
    "tennis racket|bottle|wine glass|cup|fork|knife|spoon|bowl|banana|apple|sandwich|orange|broccoli|carrot|"
    "hot dog|pizza|donut|cake|chair|couch|potted plant|bed|dining table|toilet|tv|laptop|mouse|remote|keyboard|"
    "cell phone|microwave|oven|toaster|sink|refrigerator|book|clock|vase|scissors|teddy bear|hair drier|"
    "toothbrush"
)

COCO_CLASSES = tuple(_COCO.split("|"))
"""The 80 classes of COCO's detection task, in the order of the zoo's models."""


def zoo_file(name: str) -> Path:
    """The file of a config of the zoo.

    Args:
        name: ``"COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"``, say.

    Raises:
        ConfigError: there is none of that name here; the message says why, or names close ones.
    """
    here = sorted(path.relative_to(ZOO).as_posix() for path in ZOO.rglob("*.yaml") if path.parent.name != "parts")
    if name in here:
        return ZOO / name
    for start, why in _ABSENT:
        if name.startswith(start):
            raise ConfigError(f"the model zoo's config {name!r} is not here: {why}")
    if name.endswith(".py") and f"{name[:-3]}.yaml" in here:
        raise ConfigError(f"the model zoo's config {name!r} is not here: {_LAZY}")
    hint = did_you_mean(name, here) or f"; it has {', '.join(here)}"
    raise ConfigError(f"the model zoo has no config {name!r}{hint}")


def zoo_name_of_file(file: str) -> str:
    """The config whose published weights have this file name (their names hold a part of their digest); or ``""``."""
    return next((f"{name}.yaml" for name, path in CHECKPOINTS.items() if path.rpartition("/")[2] == file), "")
