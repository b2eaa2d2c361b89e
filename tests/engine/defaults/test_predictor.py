"""DefaultPredictor: whatever image goes in, boxes in its own pixels come out."""

from __future__ import annotations

import gc
import os
import warnings
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
from drivetrain.data.transforms import ResizeShortestEdge
from drivetrain.engine.defaults import DefaultPredictor, DefaultTrainer, get_cfg
from drivetrain.engine.defaults.video import VideoFrames, VideoWriter
from drivetrain.errors import CheckpointError, DatasetError, ModelError, UserInputError
from drivetrain.structures import Boxes, Instances


@pytest.fixture
def checkpoint(make_cfg: Any) -> str:
    cfg = make_cfg("out", "DATASETS.TEST=()", "SOLVER.MAX_ITER=1", "TEST.DETECTIONS_PER_IMAGE=10")
    torch.manual_seed(0)
    DefaultTrainer(cfg).train()
    return str(Path(cfg.OUTPUT_DIR) / "model_final.pth")


def fields(output: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    found = output["instances"]
    return found.pred_boxes.tensor, found.scores, found.pred_classes


def assert_equal(one: Any, other: Any, *, exact: bool = False) -> None:
    """Up to what a convolution rounds differently in a batch, unless it has to be exact."""
    for a, b in zip(fields(one), fields(other), strict=True):
        torch.testing.assert_close(a, b, rtol=0 if exact else 1e-4, atol=0 if exact else 1e-3)


@pytest.fixture
def untrained() -> Any:
    """Makes predictors whose weights are random, and the same each time: ``untrained("KEY=VALUE", ...)``."""

    def make(*overrides: str) -> DefaultPredictor:
        cfg = get_cfg()
        small = ["INPUT.MIN_SIZE_TEST=64", "MODEL.SCORE_THRESH_TEST=0.0", "TEST.DETECTIONS_PER_IMAGE=10"]
        cfg.merge_from_list(["MODEL.NUM_CLASSES=3", "MODEL.DEVICE=cpu", *small, *overrides])
        torch.manual_seed(0)
        return DefaultPredictor(cfg)

    return make


def noise(count: int, *sizes: tuple[int, int]) -> list[np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*sizes[i % len(sizes)], 3), dtype=np.uint8) for i in range(count)]


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


def find_rectangle(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A model that finds what is bright, and tells where in the pixels it is asked for, as the contract says."""
    outputs = []
    for entry in batch:
        ys, xs = torch.nonzero(entry["image"][0] > 127, as_tuple=True)
        box = torch.tensor([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], dtype=torch.float32)
        height, width = entry["image"].shape[1:]
        box *= torch.tensor([entry["width"] / width, entry["height"] / height] * 2)
        found = Instances((entry["height"], entry["width"]), pred_boxes=Boxes(box))
        outputs.append({"instances": found})
    return outputs


@pytest.mark.parametrize(("height", "width"), [(64, 80), (128, 160), (200, 90), (40, 31)])
def test_boxes_are_in_the_pixels_of_the_image(height: int, width: int, untrained: Any) -> None:
    predictor = untrained("INPUT.MAX_SIZE_TEST=100")
    predictor.model = find_rectangle
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 4 : height // 2, width // 8 : width // 2] = 255
    found = predictor(image)["instances"]
    assert found.image_size == (height, width)
    expected = torch.tensor([[width // 8, height // 4, width // 2, height // 2]], dtype=torch.float32)
    pixel = max(1.0, height / 64, width / 64)  # of what the model sees, in pixels of the image
    torch.testing.assert_close(found.pred_boxes.tensor, expected, rtol=0, atol=1.5 * pixel)


def test_a_batch_is_one_by_one(untrained: Any) -> None:
    predictor = untrained()
    images = [image for size in ((64, 80), (90, 64), (64, 80)) for image in noise(3, size)]
    alone = [predictor(image) for image in images]
    for listed in (predictor(images), list(predictor(iter(images)))):
        for one, other in zip(alone, listed, strict=True):
            assert_equal(one, other, exact=True)
    for size in (2, 8):
        for one, other in zip(alone, predictor(images, batch_size=size), strict=True):
            assert_equal(one, other)
    with pytest.raises(AssertionError):  # the images are told apart
        assert_equal(alone[0], alone[1])


def test_only_images_of_one_size_share_a_batch(untrained: Any) -> None:
    predictor = untrained()
    seen: list[list[tuple[int, ...]]] = []
    model = predictor.model
    predictor.model = lambda batch: seen.append([tuple(item["image"].shape[1:]) for item in batch]) or model(batch)
    predictor([*noise(5, (64, 80)), *noise(2, (128, 160)), *noise(1, (90, 64))], batch_size=2)
    # 128 x 160 becomes 64 x 80 as well.
    assert seen == [[(64, 80)] * 2] * 3 + [[(64, 80)], [(90, 64)]]


def test_each_image_is_resized_for_its_own_size_and_by_the_resizing_of_now(untrained: Any) -> None:
    predictor = untrained()
    for height, width, expected in ((64, 80, (64, 80)), (80, 64, (80, 64)), (64, 80, (64, 80)), (128, 80, (102, 64))):
        assert predictor._prepare(noise(1, (height, width))[0])["image"].shape[1:] == expected
    predictor.aug = ResizeShortestEdge(32)
    assert predictor._prepare(noise(1, (128, 80))[0])["image"].shape[1:] == (51, 32)
    predictor.aug.sizes = (16,)
    assert predictor._prepare(noise(1, (128, 80))[0])["image"].shape[1:] == (26, 16)


def test_a_size_of_zero_leaves_the_image_alone(untrained: Any) -> None:
    predictor = untrained("INPUT.MIN_SIZE_TEST=0")
    seen: list[torch.Tensor] = []
    model = predictor.model
    predictor.model = lambda batch: seen.append(batch[0]["image"]) or model(batch)
    image = noise(1, (70, 90))[0]
    predictor(image)
    assert torch.equal(seen[0].permute(1, 2, 0), torch.from_numpy(image[:, :, ::-1].copy()))


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("size", [0, 48])
def test_the_memory_of_an_array_does_not_matter(untrained: Any, order: str, size: int) -> None:
    """A view with the channels reversed, one turned upside down, a read-only one, a transposed one, a part of one."""
    predictor = untrained(f"INPUT.FORMAT={order}", f"INPUT.MIN_SIZE_TEST={size}")
    image = noise(1, (64, 80))[0]
    read_only = image.copy()
    read_only.flags.writeable = False
    larger = np.zeros((70, 100, 3), np.uint8)
    larger[3:67, 7:87] = image
    views = [
        image[:, :, ::-1].copy()[:, :, ::-1],
        image[::-1].copy()[::-1],
        read_only,
        image.transpose(2, 1, 0).copy().transpose(2, 1, 0),
        larger[3:67, 7:87],
    ]
    expected = predictor._prepare(image)["image"]
    if not size:
        pixels = torch.from_numpy(image if order == "BGR" else image[:, :, ::-1].copy())
        assert torch.equal(expected.permute(1, 2, 0), pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for view in views:
            prepared = predictor._prepare(view)["image"]
            assert torch.equal(prepared, expected)
            prepared.zero_()
            assert np.array_equal(view, image)  # it is not the caller's memory


def test_the_channel_order_of_the_config(untrained: Any, tmp_path: Path) -> None:
    """Whoever gives BGR arrays to a model that takes RGB, and the other way round, means the same picture."""
    rgb, bgr = untrained("INPUT.FORMAT=RGB"), untrained("INPUT.FORMAT=BGR")
    image = noise(1, (64, 80))[0]
    swapped = np.ascontiguousarray(image[:, :, ::-1])
    assert bgr.input_format == "BGR"
    assert_equal(bgr(image), rgb(swapped), exact=True)
    with pytest.raises(AssertionError):
        assert_equal(bgr(image), rgb(image))
    Image.fromarray(swapped).save(tmp_path / "a.png")
    for predictor in (rgb, bgr):
        for source in (tmp_path / "a.png", Image.fromarray(swapped)):
            assert_equal(predictor(source), predictor(image), exact=True)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_video_is_its_frames_one_by_one(batch_size: int, untrained: Any, tmp_path: Path) -> None:
    predictor = untrained()
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for image in noise(7, (64, 80)):
            writer.add(image)
    expected = [predictor(frame) for frame in VideoFrames(tmp_path / "a.mp4", "BGR")]
    assert len(expected) == 7
    for outputs in (
        predictor(str(tmp_path / "a.mp4"), batch_size=batch_size),
        predictor.video(tmp_path / "a.mp4", batch_size),
    ):
        assert isinstance(outputs, Iterator)
        for one, other in zip(outputs, expected, strict=True):
            assert_equal(one, other, exact=batch_size == 1)
    pictures = [Image.fromarray(image) for image in noise(3, (64, 80))]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    assert len(list(predictor.video(tmp_path / "a.gif", batch_size))) == 3
    assert isinstance(predictor(tmp_path / "a.gif"), dict)  # by its name it is an image: the first frame


def test_a_video_is_decoded_as_it_goes(untrained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for image in noise(30, (64, 80)):
            writer.add(image)
    decoded: list[int] = []
    frames = VideoFrames.__iter__

    def counted(self: VideoFrames) -> Iterator[Any]:
        for frame in frames(self):
            decoded.append(1)
            yield frame

    monkeypatch.setattr(VideoFrames, "__iter__", counted)
    outputs = untrained().video(tmp_path / "a.mp4", batch_size=4)
    for most in (4, 4, 4, 4, 8):
        next(outputs)
        assert len(decoded) == most


def test_a_video_that_does_not_open_is_said_at_once(untrained: Any, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"junk")
    for path in ("none.mp4", tmp_path / "a.mp4"):
        with pytest.raises(DatasetError, match=r"\.mp4' (does not exist|is damaged)"):
            untrained()(path)


def resident() -> int:
    """Memory of this process in bytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def grown(predictor: DefaultPredictor, count: int, keep: bool = False) -> int:
    """Bytes by which memory grows over ``count`` images of 0.9 MB, after some that fill caches."""
    images = noise(10, (480, 640), (640, 480))
    kept: list[Any] = []

    def source(number: int) -> Iterator[Any]:
        for index in range(number):
            image = images[index % 10].copy()
            image[0, 0] = index % 256
            if keep:
                kept.append(image)
            yield image

    for _ in predictor(source(40), batch_size=2):
        pass
    gc.collect()
    before = resident()
    for _ in predictor(source(count), batch_size=2):
        pass
    gc.collect()
    return resident() - before


needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")


@needs_proc
def test_memory_does_not_grow(untrained: Any) -> None:
    """200 images are 184 MB; of what is held for each of them, not a fifth of an image may stay."""
    assert grown(untrained(), 200) < 35e6
    # And it would be seen, though some find room in what the process had given back.
    assert grown(untrained(), 250, keep=True) > 80e6


@needs_proc
@pytest.mark.slow
def test_memory_does_not_grow_over_ten_thousand_images(untrained: Any) -> None:
    """Not by 10 kB an image, though each is 0.9 MB."""
    assert grown(untrained(), 10_000) < 100e6


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


def test_what_was_trained_compiled_predicts_without_a_compiler(checkpoint: str, tmp_path: Path) -> None:
    data = torch.load(checkpoint, weights_only=True)
    config = data["metadata"]["config"]
    assert config.count("COMPILE: false") == 1
    data["metadata"]["config"] = config.replace("COMPILE: false", "COMPILE: true")
    torch.save(data, tmp_path / "compiled.pth")
    assert DefaultPredictor.from_checkpoint(tmp_path / "compiled.pth").model.backbone._compiled_call_impl is None
    asked = DefaultPredictor.from_checkpoint(tmp_path / "compiled.pth", ["MODEL.COMPILE=True"])
    assert asked.model.backbone._compiled_call_impl is not None


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


def test_weights_of_another_model_are_told_apart_name_by_name(checkpoint: str, tmp_path: Path) -> None:
    data = torch.load(checkpoint, weights_only=True)
    weights = data["model"]
    weights["head.extra.weight"] = weights.pop("head.classification_head.cls_logits.bias")
    weights["head.classification_head.cls_logits.weight"] = torch.zeros(7, 64, 3, 3)
    torch.save(data, tmp_path / "other.pth")
    with pytest.raises(CheckpointError) as raised:
        DefaultPredictor.from_checkpoint(tmp_path / "other.pth")
    for part in (
        "head.classification_head.cls_logits.bias",  # missing
        "head.extra.weight",  # unexpected
        "head.classification_head.cls_logits.weight: ",  # of another shape
        "[7, 64, 3, 3]",
        "[3, 64, 3, 3]",
        "missing",
        "unexpected",
        "shape",
    ):
        assert part in str(raised.value)


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
        predictor(iter([np.zeros((4, 4, 3), np.uint8)]), batch_size=0)
    with pytest.raises(CheckpointError, match=r"nothere\.pth"):
        DefaultPredictor.from_checkpoint(tmp_path / "nothere.pth")
    with pytest.raises(CheckpointError, match="another shape"):
        DefaultPredictor.from_checkpoint(checkpoint, ["MODEL.NUM_CLASSES=9"])
    with pytest.raises(ModelError, match=r"MODEL\.NUM_CLASSES is 0"):
        DefaultPredictor(get_cfg())


def test_images_are_resized_as_in_evaluation() -> None:
    cfg = get_cfg()
    cfg.MODEL.NUM_CLASSES, cfg.MODEL.DEVICE = 1, "cpu"
    cfg.INPUT.RESIZE, cfg.INPUT.SIZE = "fixed", (64, 96)
    predictor = DefaultPredictor(cfg)
    assert predictor.aug.draw(np.random.default_rng(0), 30, 30).output_size == (64, 96)
