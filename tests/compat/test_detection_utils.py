"""The steps of a mapper of one's own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from drivetrain.compat import detection_utils as utils
from drivetrain.compat import transforms as T
from drivetrain.config import CfgNode
from drivetrain.data import MetadataCatalog
from drivetrain.data import transforms as native
from drivetrain.data.annotations import Targets
from drivetrain.errors import ConfigError, DatasetError
from drivetrain.structures import BoxMode, bitmask_to_rle

FLIP = T.TransformList([T.ResizeTransform(30, 40, 60, 80), T.HFlipTransform(80)])


def annotation(**more: Any) -> dict[str, Any]:
    return {"bbox": [4, 6, 10, 8], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 2, "iscrowd": 0, **more}


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    shape = [[4.0, 6.0, 14.0, 6.0, 14.0, 14.0, 4.0, 14.0]]
    objects = [annotation(segmentation=shape), annotation(iscrowd=1), annotation(segmentation=shape, category_id=0)]
    return {"file_name": str(tmp_path / "a.png"), "height": 30, "width": 40, "annotations": objects}


def test_the_usual_mapper(record: dict[str, Any]) -> None:
    before = copy.deepcopy(record)
    dataset_dict = copy.deepcopy(record)
    image = utils.read_image(dataset_dict["file_name"], format="BGR")
    utils.check_image_size(dataset_dict, image)
    given = T.AugInput(image)
    transforms = T.AugmentationList([T.Resize((60, 80)), T.RandomFlip(prob=1.0)])(given)
    image = given.image
    dataset_dict["image"] = torch.as_tensor(image.transpose(2, 0, 1))
    annos = [
        utils.transform_instance_annotations(obj, transforms, image.shape[:2])
        for obj in dataset_dict.pop("annotations")
        if obj.get("iscrowd", 0) == 0
    ]
    instances = utils.filter_empty_instances(utils.annotations_to_instances(annos, image.shape[:2]))
    assert dataset_dict["image"].shape == (3, 60, 80) and record == before
    assert instances.image_size == (60, 80) and instances.gt_classes.tolist() == [2, 0]
    own = Targets(mask_format="polygon")(record["annotations"], native.Compose(
        [native.Resize((60, 80)), native.RandomFlip(1.0)]).draw(np.random.default_rng(0), 30, 40))  # fmt: skip
    assert torch.equal(instances.gt_boxes.tensor, own.gt_boxes.tensor)
    assert torch.equal(instances.gt_masks.area(), own.gt_masks.area())


def test_images(record: dict[str, Any], tmp_path: Path) -> None:
    rgb, bgr = (utils.read_image(record["file_name"], f) for f in ("RGB", "BGR"))
    assert np.array_equal(rgb[:, :, ::-1], bgr) and np.array_equal(utils.read_image(record["file_name"]), rgb)
    assert utils.read_image(record["file_name"], "L").shape == (30, 40, 1)
    assert np.array_equal(utils.convert_PIL_to_numpy(Image.open(record["file_name"]), "BGR"), bgr)
    bare = {"file_name": "a.png"}
    utils.check_image_size(bare, rgb)
    assert bare == {"file_name": "a.png", "width": 40, "height": 30}
    with pytest.raises(utils.SizeMismatchError, match="40 x 30 pixels, but the dataset says 41 x 30"):
        utils.check_image_size({"file_name": "a.png", "width": 41, "height": 30}, rgb)


@pytest.mark.parametrize("transforms", [FLIP, list(FLIP), [native.ResizeTransform((30, 40), (60, 80)), FLIP[1]]])
def test_boxes_and_masks_move_with_the_image(transforms: Any) -> None:
    mask = np.zeros((30, 40), dtype=bool)
    mask[6:14, 4:14] = True
    moved = utils.transform_instance_annotations(annotation(segmentation=bitmask_to_rle(mask)), transforms, (60, 80))
    assert moved["bbox"].tolist() == [52, 12, 72, 28] and moved["bbox_mode"] == BoxMode.XYXY_ABS
    expected = np.zeros((60, 80), dtype=np.uint8)
    expected[12:28, 52:72] = 1
    assert np.array_equal(moved["segmentation"], expected)
    polygon = utils.transform_instance_annotations(
        annotation(segmentation=[[4, 6, 14, 6, 14, 14]]), transforms, (60, 80)
    )
    assert [p.tolist() for p in polygon["segmentation"]] == [[72, 12, 52, 12, 52, 28]]


def test_boxes_are_cut_to_the_image() -> None:
    crop = T.CropTransform(8, 10, 20, 20, 40, 30)
    moved = utils.transform_instance_annotations(annotation(), crop, (20, 20))
    assert moved["bbox"].tolist() == [0, 0, 6, 4]


def test_masks_of_other_forms_are_refused() -> None:
    with pytest.raises(DatasetError, match="not str"):
        utils.transform_instance_annotations(annotation(segmentation="x"), FLIP, (60, 80))
    rle = bitmask_to_rle(np.ones((30, 40), dtype=bool))
    with pytest.raises(DatasetError, match=r"60 x 80 pixels .* its image 60 x 90"):
        utils.transform_instance_annotations(annotation(segmentation=rle), FLIP, (60, 90))


def test_keypoints() -> None:
    points = [5, 5, 2, 10, 6, 1, 39, 29, 2, 3, 3, 0]
    moved = utils.transform_instance_annotations(
        annotation(keypoints=points), FLIP, (60, 80), keypoint_hflip_indices=[1, 0, 2, 3]
    )
    assert moved["keypoints"].tolist() == [[60, 12, 1], [70, 10, 2], [2, 58, 2], [0, 0, 0]]
    cropped = utils.transform_keypoint_annotations(points, T.CropTransform(0, 0, 20, 20), (20, 20))
    assert cropped.tolist() == [[5, 5, 2], [10, 6, 1], [0, 0, 0], [0, 0, 0]]
    for indices in (None, [0, 1]):
        with pytest.raises(ValueError, match="of 4 keypoints have to be exchanged"):
            utils.transform_keypoint_annotations(points, FLIP, (60, 80), indices)
    target = utils.annotations_to_instances([moved], (60, 80))
    assert target.gt_keypoints.tensor.shape == (1, 4, 3)


def test_instances_of_bitmasks() -> None:
    square = [np.array([4.0, 6, 14, 6, 14, 14, 4, 14])]
    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[6:14, 4:14] = 1
    forms = [square, mask, bitmask_to_rle(mask.astype(bool))]
    annos = [annotation(segmentation=form) for form in forms]
    masks = utils.annotations_to_instances(annos, (30, 40), mask_format="bitmask").gt_masks.tensor
    assert masks.shape == (3, 30, 40) and all(np.array_equal(m.numpy(), mask.astype(bool)) for m in masks)
    with pytest.raises(DatasetError, match="pass mask_format='bitmask'"):
        utils.annotations_to_instances(annos, (30, 40))
    with pytest.raises(DatasetError, match="not str"):
        utils.annotations_to_instances([annotation(segmentation="x")], (30, 40), mask_format="bitmask")
    with pytest.raises(ConfigError, match="not 'png'"):
        utils.annotations_to_instances(annos, (30, 40), mask_format="png")
    empty = utils.annotations_to_instances([], (30, 40))
    assert len(empty) == 0 and empty.gt_boxes.tensor.shape == (0, 4) and not empty.has("gt_masks")


def test_images_to_be_drawn_on() -> None:
    bgr = torch.tensor([[[10.0, 20.0, 300.0]]])
    assert utils.convert_image_to_rgb(bgr, "BGR").tolist() == [[[255, 20, 10]]]
    assert utils.convert_image_to_rgb(bgr.numpy(), "RGB").tolist() == [[[10, 20, 255]]]
    for grey in (np.array([[7]]), np.array([[[7]]])):
        assert utils.convert_image_to_rgb(grey, "L").tolist() == [[[7, 7, 7]]]
    with pytest.raises(ConfigError, match="not 'YUV'"):
        utils.convert_image_to_rgb(bgr, "YUV")


def test_empty_instances_are_left_out() -> None:
    square: list[Any] = [np.array([4.0, 6, 14, 6, 14, 14, 4, 14])]
    annos = [
        annotation(segmentation=square),
        annotation(segmentation=square, bbox=[4, 6, 0, 8]),
        annotation(segmentation=[]),
    ]
    instances = utils.annotations_to_instances(annos, (30, 40))
    kept, which = utils.filter_empty_instances(instances, return_mask=True)
    assert len(kept) == 1 and which.tolist() == [True, False, False]
    assert len(utils.filter_empty_instances(instances, by_mask=False)) == 2
    assert len(utils.filter_empty_instances(instances, by_box=False)) == 2
    assert len(utils.filter_empty_instances(instances, by_mask=False, box_threshold=11)) == 0
    with pytest.raises(ValueError, match="by_box or by_mask"):
        utils.filter_empty_instances(instances, by_box=False, by_mask=False)


def test_flip_indices_of_datasets() -> None:
    names, pairs = ["nose", "left_eye", "right_eye", "tail"], [("left_eye", "right_eye")]
    MetadataCatalog.get("hflip_a").set(keypoint_names=names, keypoint_flip_map=pairs)
    MetadataCatalog.get("hflip_b").set(keypoint_names=names, keypoint_flip_map=[])
    MetadataCatalog.get("hflip_c").set(keypoint_names=names, keypoint_flip_map=[("nose", "ear")])
    try:
        assert utils.create_keypoint_hflip_indices("hflip_a") == [0, 2, 1, 3]
        assert utils.create_keypoint_hflip_indices(["hflip_a", "hflip_a"]) == [0, 2, 1, 3]
        with pytest.raises(DatasetError, match="do not have the same"):
            utils.create_keypoint_hflip_indices(["hflip_a", "hflip_b"])
        with pytest.raises(DatasetError, match="ear"):
            utils.create_keypoint_hflip_indices("hflip_c")
        with pytest.raises(DatasetError, match="has no keypoint_names"):
            utils.create_keypoint_hflip_indices("hflip_d")
    finally:
        for letter in "abcd":
            if f"hflip_{letter}" in MetadataCatalog.list():
                MetadataCatalog.remove(f"hflip_{letter}")


def test_crops_around_an_instance() -> None:
    np.random.seed(0)
    places = set()
    for _ in range(50):
        crop = utils.gen_crop_transform_with_instance((10, 90), (30, 40), annotation())
        assert (crop.h, crop.w) == (10, 40)
        centre = crop.apply_coords(np.array([[9.0, 10.0]]))[0]
        assert 0 <= centre[0] <= 40 and 0 <= centre[1] <= 10
        places.add(crop.y0)
    assert len(places) > 5


def test_augmentations_of_a_config() -> None:
    cfg = CfgNode()
    cfg.INPUT = CfgNode()
    for name, value in {
        "MIN_SIZE_TRAIN": (40, 50), "MAX_SIZE_TRAIN": 100, "MIN_SIZE_TRAIN_SAMPLING": "choice",
        "MIN_SIZE_TEST": 60, "MAX_SIZE_TEST": 70, "RANDOM_FLIP": "horizontal",
    }.items():  # fmt: skip
        cfg.INPUT[name] = value
    assert [type(a) for a in utils.build_augmentation(cfg, True)] == [T.ResizeShortestEdge, T.RandomFlip]
    (resize,) = utils.build_transform_gen(cfg, False)
    image = np.zeros((30, 40, 3), dtype=np.uint8)
    assert resize.get_transform(image).apply_image(image).shape == (53, 70, 3)
    cfg.INPUT.RANDOM_FLIP = "none"
    assert len(utils.build_augmentation(cfg, True)) == 1
    cfg.INPUT.RANDOM_FLIP = "diagonal"
    with pytest.raises(ConfigError, match="not 'diagonal'"):
        utils.build_augmentation(cfg, True)
