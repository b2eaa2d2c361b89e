"""The names of the model zoo."""

from __future__ import annotations

import pytest

from drivetrain.compat.zoo_names import CHECKPOINTS, COCO_CLASSES, ZOO, zoo_file, zoo_name_of_file
from drivetrain.errors import ConfigError


def test_every_published_model_has_its_config_and_every_config_but_fcos_its_weights() -> None:
    configs = {str(path.relative_to(ZOO).with_suffix("")) for path in ZOO.glob("COCO-*/*.yaml")}
    others = {"COCO-Keypoints/Base-Keypoint-RCNN-FPN", "COCO-Detection/fcos_R_50_FPN_1x"}
    assert configs - others == set(CHECKPOINTS) and others <= configs
    assert len(set(CHECKPOINTS.values())) == len(CHECKPOINTS) == 27


def test_coco_has_80_classes() -> None:
    assert len(set(COCO_CLASSES)) == 80
    assert [COCO_CLASSES[i] for i in (0, 11, 44, 79)] == ["person", "stop sign", "spoon", "toothbrush"]


def test_names_that_are_not_here_say_why_or_what_is_close() -> None:
    assert zoo_file("Base-RCNN-C4.yaml").is_file()
    for name, message in (
        ("COCO-Detection/faster_rcnn_R_50_FPN_3.yaml", r"did you mean 'COCO-Detection/faster_rcnn_R_50_FPN_3x\.yaml'"),
        ("COCO-Detection/fcos_R_50_FPN_1x.py", r"take model_zoo\.get_config"),
        ("COCO-Detection/rpn_R_50_FPN_1x.yaml", "proposal network"),
        ("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml", "transformers"),
        ("Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml", "Cascade R-CNN is not here; take COCO-InstanceSegmentation/mask"),
        ("Misc/semantic_R_50_FPN_1x.yaml", "chosen by MODEL.NAME"),
        ("PascalVOC-Detection/faster_rcnn_R_50_C4.yaml", "the same model under COCO-Detection/ .*NUM_CLASSES"),
        ("quick_schedules/mask_rcnn_R_50_FPN_inference_acc_test.yaml", "there are COCO-Detection"),
        ("common/models/mask_rcnn_fpn.py", r"take model_zoo\.get_config"),
        ("COCO-Detection/retinanet_R_50_FPN_1x.py", r"or the \.yaml"),
        ("../zoo_names.py", "has no config"),
        ("parts/3x.yaml", "has no config"),
    ):
        with pytest.raises(ConfigError, match=message):
            zoo_file(name)


def test_a_published_file_tells_its_config() -> None:
    assert zoo_name_of_file("model_final_280758.pkl") == "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
    assert zoo_name_of_file("model_final.pkl") == ""
