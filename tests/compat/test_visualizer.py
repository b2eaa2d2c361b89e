"""detectron2's calls draw what they name: on which pixels, in which colours, with which texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from drivetrain.compat import visualizer
from drivetrain.compat.visualizer import ColorMode, VisImage, Visualizer
from drivetrain.compat.visualizer_canvas import VisImage as Canvas
from drivetrain.data.catalog import Metadata
from drivetrain.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks, bitmask_to_rle
from drivetrain.visualization import class_color

_HEIGHT, _WIDTH = 120, 160
_NAMES = ["cat", "dog"]


def _image() -> np.ndarray[Any, Any]:
    """A picture of one strong colour, so that grey shows."""
    return np.full((_HEIGHT, _WIDTH, 3), (200, 100, 40), dtype=np.uint8)


def _masks() -> np.ndarray[Any, Any]:
    masks = np.zeros((2, _HEIGHT, _WIDTH), bool)
    masks[0, 40:80, 20:60] = True
    masks[1, 60:110, 90:150] = True
    return masks


def _predictions(**changed: Any) -> Instances:
    masks = BitMasks(torch.tensor(_masks()))
    fields = {
        "pred_boxes": masks.get_bounding_boxes(),
        "scores": torch.tensor([0.91, 0.02]),
        "pred_classes": torch.tensor([1, 0]),
        "pred_masks": masks.tensor,
        **changed,
    }
    return Instances((_HEIGHT, _WIDTH), **{name: value for name, value in fields.items() if value is not None})


def _metadata(**more: Any) -> Metadata:
    return Metadata("pets", thing_classes=_NAMES, **more)


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All texts that instances get, in the order of drawing."""
    written: list[str] = []
    drawn = Canvas.instances

    def record(self: Canvas, boxes: Any, labels: Any, colors: Any, **options: Any) -> None:
        written.extend(labels)
        drawn(self, boxes, labels, colors, **options)

    monkeypatch.setattr(Canvas, "instances", record)
    return written


def _is_grey(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return (picture[..., 0] == picture[..., 1]) & (picture[..., 1] == picture[..., 2])


def _mixed(color: tuple[int, ...], alpha: float) -> list[int]:
    return ((1 - alpha) * np.array((200, 100, 40)) + alpha * np.array(color)).round().astype(int).tolist()


def test_the_usual_lines_work_as_people_write_them() -> None:
    im, outputs = _image()[:, :, ::-1], {"instances": _predictions()}
    v = Visualizer(im[:, :, ::-1], metadata=_metadata(), scale=0.5, instance_mode=ColorMode.IMAGE_BW)
    out = v.draw_instance_predictions(outputs["instances"].to("cpu"))
    picture = out.get_image()[:, :, ::-1]
    assert isinstance(out, VisImage)
    assert out is v.output is v.get_output()
    assert picture.shape == (_HEIGHT // 2, _WIDTH // 2, 3)
    assert picture.dtype == np.uint8
    assert (im == _image()[:, :, ::-1]).all()


def test_the_module_has_what_is_imported_from_it() -> None:
    assert visualizer.__all__ == ["ColorMode", "VisImage", "Visualizer"]
    assert [mode.value for mode in ColorMode] == [0, 1, 2]


def test_bw_greys_all_but_the_masks() -> None:
    v = Visualizer(_image(), _metadata(), instance_mode=ColorMode.IMAGE_BW)
    picture = v.draw_instance_predictions(_predictions(pred_boxes=None, scores=None, pred_classes=None)).get_image()
    assert (_is_grey(picture) == ~_masks().any(axis=0)).all()
    assert picture[0, 0].tolist() == [123, 123, 123]  # 0.299 * 200 + 0.587 * 100 + 0.114 * 40


def test_bw_without_masks_greys_all_but_the_boxes() -> None:
    v = Visualizer(_image(), _metadata(), instance_mode=ColorMode.IMAGE_BW)
    picture = v.draw_instance_predictions(_predictions(pred_masks=None)).get_image()
    assert picture[60, 40].tolist() == [200, 100, 40]
    assert picture[5, 5].tolist() == [123, 123, 123]
    nothing = Visualizer(_image(), instance_mode=ColorMode.IMAGE_BW).draw_instance_predictions(_predictions()[:0])
    assert _is_grey(nothing.get_image()).all()


@pytest.mark.filterwarnings("error")
def test_boxes_far_outside_and_not_finite_do_no_harm() -> None:
    boxes = Boxes(torch.tensor([[-50.0, -5.0, 80.0, 9e9], [float("nan")] * 4]))
    v = Visualizer(_image(), _metadata(), instance_mode=ColorMode.IMAGE_BW)
    picture = v.draw_instance_predictions(_predictions(pred_masks=None, pred_boxes=boxes)).get_image()
    assert picture[100, 40].tolist() == [200, 100, 40]
    assert picture[100, 120].tolist() == [123, 123, 123]


def test_every_instance_has_its_own_colour_and_all_are_drawn() -> None:
    picture = Visualizer(_image(), _metadata()).draw_instance_predictions(
        _predictions(pred_classes=torch.tensor([1, 1]))
    )
    assert picture.get_image()[60, 40].tolist() == _mixed(class_color(0), 0.5)
    assert picture.get_image()[90, 120].tolist() == _mixed(class_color(1), 0.5)  # of score 0.02


def test_segmentation_gives_the_class_its_colour() -> None:
    metadata = _metadata(thing_colors=[[9, 9, 9], [220, 20, 60]])
    v = Visualizer(_image(), metadata, instance_mode=ColorMode.SEGMENTATION)
    predictions = _predictions(pred_classes=torch.tensor([1, 1]))
    picture = v.draw_instance_predictions(predictions, jittering=False).get_image()
    assert picture[60, 40].tolist() == picture[90, 120].tolist() == _mixed((220, 20, 60), 0.8)
    varied = Visualizer(_image(), metadata, instance_mode=ColorMode.SEGMENTATION).draw_instance_predictions(predictions)
    assert varied.get_image()[60, 40].tolist() == _mixed((220, 20, 60), 0.8)
    assert varied.get_image()[90, 120].tolist() == _mixed((176, 16, 48), 0.8)


def test_dark_class_colours_are_not_taken_for_bright_ones() -> None:
    metadata = _metadata(thing_colors=[[1, 1, 1], [0, 0, 1]])
    v = Visualizer(_image(), metadata, instance_mode=ColorMode.SEGMENTATION)
    picture = v.draw_instance_predictions(_predictions(), jittering=False).get_image()
    assert picture[60, 40].tolist() == _mixed((0, 0, 1), 0.8)


def test_texts_say_name_and_percentage_as_far_as_known(texts: list[str]) -> None:
    Visualizer(_image(), _metadata()).draw_instance_predictions(_predictions())
    Visualizer(_image()).draw_instance_predictions(_predictions())
    Visualizer(_image()).draw_instance_predictions(_predictions(pred_classes=None))
    Visualizer(_image(), _metadata()).draw_instance_predictions(_predictions(scores=None))
    Visualizer(_image(), _metadata()).draw_instance_predictions(_predictions(scores=None, pred_classes=None))
    assert texts == ["dog 91%", "cat 2%", "class 1 91%", "class 0 2%", "91%", "2%", "dog", "cat", "", ""]


def test_keypoints_are_joined_by_the_rules_of_the_metadata() -> None:
    metadata = _metadata(
        keypoint_names=["a", "b", "c"], keypoint_connection_rules=[("a", "b", (255, 0, 0)), ("b", "c", (0, 0, 255))]
    )
    points = torch.tensor([[[20.0, 30.0, 0.9], [140.0, 30.0, 0.9], [140.0, 110.0, 0.01]]])
    found = Instances((_HEIGHT, _WIDTH), pred_keypoints=points)
    picture = Visualizer(_image(), metadata).draw_instance_predictions(found).get_image()
    assert picture[30, 80].tolist() == [255, 0, 0]
    assert picture[30, 20].tolist() == list(class_color(0))
    assert not (picture == (0, 0, 255)).all(axis=2).any()  # c was not seen
    alone = Visualizer(_image(), metadata).draw_and_connect_keypoints(points[0]).get_image()
    assert (alone == picture).all()


def _record() -> dict[str, Any]:
    square = [20.0, 40.0, 60.0, 40.0, 60.0, 80.0, 20.0, 80.0]
    first = {"bbox": [20, 40, 40, 40], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1, "segmentation": [square]}
    second = {
        "bbox": [90, 60, 150, 110],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 0,
        "iscrowd": 1,
        "segmentation": bitmask_to_rle(_masks()[1]),
    }
    return {"height": _HEIGHT, "width": _WIDTH, "annotations": [first, second]}


def test_a_record_looks_like_the_same_things_predicted(texts: list[str]) -> None:
    picture = Visualizer(_image(), _metadata()).draw_dataset_dict(_record()).get_image()
    same = Visualizer(_image()).overlay_instances(
        boxes=Boxes(torch.tensor([[20.0, 40.0, 60.0, 80.0], [90.0, 60.0, 150.0, 110.0]])),
        masks=BitMasks(torch.tensor(_masks())),
        labels=["dog", "cat (crowd)"],
    )
    assert (picture == same.get_image()).all()
    assert texts == ["dog", "cat (crowd)"] * 2


def test_a_record_may_lack_boxes_masks_or_everything() -> None:
    record = _record()
    del record["annotations"][1]["segmentation"]
    Visualizer(_image(), _metadata(), instance_mode=ColorMode.SEGMENTATION).draw_dataset_dict(record)
    for annotation in record["annotations"]:
        annotation.pop("segmentation", None)
        annotation["keypoints"] = [30, 50, 2, 40, 60, 1]
    picture = Visualizer(_image(), _metadata()).draw_dataset_dict(record).get_image()
    assert picture[50, 30].tolist() == list(class_color(0))
    for nothing in ({}, {"annotations": []}):
        assert (Visualizer(_image()).draw_dataset_dict(nothing).get_image() == _image()).all()


def test_a_record_shows_its_label_maps(tmp_path: Path, texts: list[str]) -> None:
    labels = np.where(np.arange(_WIDTH) < 80, 0, 1)[None].repeat(_HEIGHT, axis=0).astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / "sem.png")
    Image.fromarray(np.stack([labels + 1, labels * 0, labels * 0], axis=2)).save(tmp_path / "pan.png")
    metadata = _metadata(stuff_classes=["sky", "sea"])
    from_file = Visualizer(_image(), metadata).draw_dataset_dict({"sem_seg_file_name": str(tmp_path / "sem.png")})
    drawn = Visualizer(_image(), metadata).draw_sem_seg(labels, alpha=0.5)
    assert (from_file.get_image() == drawn.get_image()).all()
    segments = [
        {"id": 1, "category_id": 1, "isthing": False},
        {"id": 2, "category_id": 1, "isthing": True},
    ]
    record = {"pan_seg_file_name": str(tmp_path / "pan.png"), "segments_info": segments}
    Visualizer(_image(), metadata).draw_dataset_dict(record)
    assert sorted(texts) == ["dog", "sea", "sea", "sea", "sky", "sky"]


def test_semantic_segmentation_fills_classes_that_have_a_name(texts: list[str]) -> None:
    labels = np.full((_HEIGHT, _WIDTH), 255)
    labels[:, :50], labels[:, 50:100], labels[:2, 110:112] = 0, 1, 2
    metadata = Metadata("x", stuff_classes=["sky", "sea", "boat"], stuff_colors=[(1, 2, 3), (10, 200, 30), (9, 9, 9)])
    picture = Visualizer(_image(), metadata).draw_sem_seg(torch.tensor(labels), area_threshold=5).get_image()
    assert picture[5, 5].tolist() == _mixed((1, 2, 3), 0.8)
    assert picture[5, 95].tolist() == _mixed((10, 200, 30), 0.8)
    assert (picture[:, 112:] == (200, 100, 40)).all()
    assert (picture[:2, 110:112] == (200, 100, 40)).all()  # 4 pixels
    assert texts == ["sky", "sea"]
    Visualizer(_image()).draw_sem_seg(labels)
    assert texts[2:] == ["class 0", "class 1", "class 2"]


def test_panoptic_segments_have_names_scores_and_colours(texts: list[str]) -> None:
    ids = torch.zeros(_HEIGHT, _WIDTH, dtype=torch.int32)
    ids[:60], ids[80:, :50], ids[80:, 100:] = 5, 7, 9
    segments = [
        {"id": 5, "category_id": 0, "isthing": False, "area": 60 * _WIDTH},
        {"id": 7, "category_id": 1, "isthing": True, "score": 0.75},
        {"id": 9, "category_id": 1, "isthing": True},
    ]
    metadata = _metadata(stuff_classes=["sky"], stuff_colors=[(10, 20, 30)], thing_colors=[(0, 0, 0), (50, 60, 70)])
    picture = Visualizer(_image(), metadata).draw_panoptic_seg_predictions(ids, segments).get_image()
    assert sorted(texts) == ["dog", "dog 75%", "sky"]
    assert picture[5, 5].tolist() == _mixed((10, 20, 30), 0.7)
    assert picture[115, 5].tolist() == _mixed(class_color(1), 0.7)
    assert (picture[60:78] == (200, 100, 40)).all(axis=2).mean() > 0.9
    by_class = Visualizer(_image(), metadata, instance_mode=ColorMode.SEGMENTATION).draw_panoptic_seg(ids, segments)
    assert by_class.get_image()[115, 5].tolist() == _mixed((50, 60, 70), 0.7)
    grey = Visualizer(_image(), metadata, instance_mode=ColorMode.IMAGE_BW).draw_panoptic_seg(ids, segments)
    assert grey.get_image()[70, 5].tolist() == [123, 123, 123]


def test_panoptic_ids_may_speak_for_themselves(texts: list[str]) -> None:
    ids = np.full((_HEIGHT, _WIDTH), -1)
    ids[:50], ids[60:, :50] = 0, 1003
    metadata = _metadata(stuff_classes=["sky", "sea"], label_divisor=1000, thing_dataset_id_to_contiguous_id={44: 1})
    Visualizer(_image(), metadata).draw_panoptic_seg(ids, None)
    assert sorted(texts) == ["dog", "sky"]


def test_overlays_take_colours_alpha_and_any_masks() -> None:
    picture = Visualizer(_image()).overlay_instances(
        masks=[[[20, 40, 60, 40, 60, 80, 20, 80]], _masks()[1]], assigned_colors=["r", (0, 0, 1.0)], alpha=0.25
    )
    assert picture.get_image()[60, 40].tolist() == _mixed((255, 0, 0), 0.25)
    assert picture.get_image()[90, 120].tolist() == _mixed((0, 0, 255), 0.25)
    polygons = PolygonMasks([[np.array([20.0, 40, 60, 40, 60, 80, 20, 80])]])
    alone = Visualizer(_image()).overlay_instances(masks=polygons, assigned_colors=["r"], alpha=0.25).get_image()
    assert (alone[:, :80] == picture.get_image()[:, :80]).all()


def test_small_instances_lie_on_large_ones() -> None:
    large, small = np.ones((_HEIGHT, _WIDTH), bool), _masks()[0]
    picture = Visualizer(_image()).overlay_instances(masks=[small, large], assigned_colors=["r", "b"], alpha=1.0)
    assert picture.get_image()[60, 40].tolist() == [255, 0, 0]


def test_turned_boxes_are_drawn_turned(texts: list[str]) -> None:
    v = Visualizer(_image())
    v.overlay_instances(boxes=torch.tensor([[80.0, 60.0, 80.0, 4.0, 90.0]]), labels=["up"], assigned_colors=["w"])
    ys, xs = np.nonzero((v.output.get_image()[:, 75:86] != (200, 100, 40)).any(axis=2))
    assert ys.min() < 25
    assert ys.max() > 95
    assert xs.size > 100


def test_nothing_to_draw_is_the_image() -> None:
    for given in ({}, {"boxes": []}, {"boxes": np.zeros((0, 4)), "labels": [], "masks": []}, {"keypoints": []}):
        assert (Visualizer(_image()).overlay_instances(**given).get_image() == _image()).all()
    none = Visualizer(_image(), _metadata()).draw_instance_predictions(_predictions()[:0])
    assert (none.get_image() == _image()).all()


def test_numbers_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="received were 1 boxes, 2 labels"):
        Visualizer(_image()).overlay_instances(boxes=[[1, 2, 3, 4]], labels=["a", "b"])
    with pytest.raises(ValueError, match="120x160"):
        Visualizer(_image()).overlay_instances(masks=np.ones((1, 5, 5)))
