"""DefaultPredictor: whatever image goes in, boxes in its own pixels come out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from drivetrain.data.catalog import MetadataCatalog
from drivetrain.data.formats.shapes import SHAPE_NAMES
from drivetrain.data.images import read_image
from drivetrain.engine.defaults import DefaultPredictor, DefaultTrainer, get_cfg
from drivetrain.errors import CheckpointError, DatasetError, ModelError, UserInputError


@pytest.fixture
def checkpoint(make_cfg: Any) -> str:
    cfg = make_cfg("out", "DATASETS.TEST=()", "SOLVER.MAX_ITER=1", "TEST.DETECTIONS_PER_IMAGE=10")
    DefaultTrainer(cfg).train()
    return str(Path(cfg.OUTPUT_DIR) / "model_final.pth")


def fields(output: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    found = output["instances"]
    return found.pred_boxes.tensor, found.scores, found.pred_classes


def assert_equal(one: Any, other: Any) -> None:
    for a, b in zip(fields(one), fields(other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def test_every_kind_of_image_is_the_same_image(checkpoint: str, shapes: Any) -> None:
    predictor = DefaultPredictor.from_checkpoint(checkpoint)
    path = str(Path(shapes.val_images) / "000000.jpg")
    bgr = read_image(path, "BGR")
    expected = predictor(bgr)
    assert len(expected["instances"]) > 0
    with Image.open(path) as image:
        opened = image.convert("RGB")
    for source in (path, Path(path), Image.fromarray(np.ascontiguousarray(bgr[:, :, ::-1])), opened):
        assert_equal(predictor(source), expected)
    listed = predictor([bgr, path])
    assert isinstance(listed, list) and len(listed) == 2
    assert_equal(listed[1], expected)
    with pytest.raises(AssertionError):  # and the channels matter
        assert_equal(predictor(np.ascontiguousarray(bgr[:, :, ::-1])), expected)


def test_boxes_are_in_the_pixels_of_the_image(checkpoint: str) -> None:
    predictor = DefaultPredictor.from_checkpoint(checkpoint)
    # Of one colour: resized to 64 pixels, both are the same image to the model.
    small = predictor(np.full((64, 80, 3), 90, np.uint8))["instances"]
    large = predictor(np.full((128, 160, 3), 90, np.uint8))["instances"]
    assert small.image_size == (64, 80) and large.image_size == (128, 160) and len(small) > 0
    torch.testing.assert_close(large.pred_boxes.tensor, small.pred_boxes.tensor * 2, rtol=1e-4, atol=1e-2)


def test_a_batch_is_one_by_one(checkpoint: str) -> None:
    predictor = DefaultPredictor.from_checkpoint(checkpoint)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in [(64, 80)] * 3 + [(90, 64)] * 2 + [(64, 80)]]
    alone = [predictor(image) for image in images]
    for size in (2, 8):
        for one, other in zip(alone, predictor(images, batch_size=size), strict=True):
            assert_equal(one, other)


def test_an_iterator_is_read_as_it_goes(checkpoint: str) -> None:
    predictor = DefaultPredictor.from_checkpoint(checkpoint)
    read: list[int] = []

    def frames() -> Iterator[np.ndarray[Any, Any]]:
        for index in range(1000):
            read.append(index)
            yield np.full((64, 64, 3), index % 255, dtype=np.uint8)

    outputs = predictor(frames(), batch_size=2)
    assert read == []
    next(outputs)
    assert len(read) <= 3
    assert list(predictor(iter([]))) == [] and predictor([]) == []


def test_class_names_travel_in_the_checkpoint(checkpoint: str) -> None:
    MetadataCatalog.get("shapes_val").thing_classes = ["of", "another", "data", "set"]
    predictor = DefaultPredictor.from_checkpoint(checkpoint, ["MODEL.SCORE_THRESH_TEST=0.3", "MODEL.DEVICE=cpu"])
    assert predictor.metadata.thing_classes == list(SHAPE_NAMES)
    assert predictor.cfg.MODEL.SCORE_THRESH_TEST == 0.3 and not predictor.model.training
    assert predictor.input_format == "RGB"


def test_a_frozen_config_as_in_older_code(checkpoint: str, make_cfg: Any) -> None:
    cfg = make_cfg()
    cfg.MODEL.WEIGHTS = checkpoint
    cfg.freeze()
    predictor = DefaultPredictor(cfg)
    assert predictor.metadata.thing_classes == list(SHAPE_NAMES)
    assert predictor.cfg.is_frozen() and len(SHAPE_NAMES) == predictor.cfg.MODEL.NUM_CLASSES
    assert MetadataCatalog.get("shapes_val").get("thing_classes") is None  # the catalog is not written to
    MetadataCatalog.get("shapes_val").thing_classes = [name.upper() for name in SHAPE_NAMES]
    assert DefaultPredictor(cfg).metadata is MetadataCatalog.get("shapes_val")
    predictor.model.load_state_dict(DefaultPredictor(cfg).model.state_dict())


def test_outputs_may_be_changed_in_place(checkpoint: str) -> None:
    found = DefaultPredictor.from_checkpoint(checkpoint)(np.zeros((64, 64, 3), np.uint8))["instances"].to("cpu")
    assert not found.scores.requires_grad
    found.pred_boxes.tensor += 1  # an inference tensor would refuse
    found.pred_boxes.scale(2, 2)
    assert len(found[found.scores > 2]) == 0


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), "type float32"),
        (torch.zeros(4, 4, 3), r"a tensor of shape \(4, 4, 3\)"),
        (b"bytes", "b'bytes'"),
        ({"image": 1}, "image"),
        (None, "None"),
    ],
)
def test_what_is_no_image(checkpoint: str, value: Any, words: str) -> None:
    with pytest.raises(UserInputError, match=words) as raised:
        DefaultPredictor.from_checkpoint(checkpoint)(value)
    assert "\n" not in str(raised.value)


def test_mistakes(checkpoint: str, tmp_path: Path) -> None:
    predictor = DefaultPredictor.from_checkpoint(checkpoint)
    with pytest.raises(DatasetError, match=r"nothere\.jpg' does not exist"):
        predictor("nothere.jpg")
    with pytest.raises(UserInputError, match="batch_size=0"):
        predictor([np.zeros((4, 4, 3), np.uint8)], batch_size=0)
    with pytest.raises(CheckpointError, match=r"nothere\.pth"):
        DefaultPredictor.from_checkpoint(tmp_path / "nothere.pth")
    with pytest.raises(CheckpointError, match="another shape"):
        DefaultPredictor.from_checkpoint(checkpoint, ["MODEL.NUM_CLASSES=9"])
    with pytest.raises(ModelError, match=r"MODEL\.NUM_CLASSES is 0"):
        DefaultPredictor(get_cfg())
