"""Samples made of several images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.data.images import UnreadableImageError
from drivetrain.data.loader import TrainLoader
from drivetrain.data.mix import CopyPaste, MixMapper, MixUp, Mosaic, build_mixes
from drivetrain.data.order import GlobalOrder
from drivetrain.data.worker import Repaired, SampleSource, Task
from drivetrain.engine.defaults.config import get_cfg
from drivetrain.errors import ConfigError, DatasetError
from drivetrain.structures import BitMasks, Boxes, Instances


def sample(value: int, size: tuple[int, int] = (40, 60), *, masks: bool = False) -> dict[str, Any]:
    """An image of one value with one object, a square of 10 pixels at row 15, column 20 whose class is the value."""
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.tensor([[20.0, 15.0, 30.0, 25.0]]))
    instances.gt_classes = torch.tensor([value])
    if masks:
        bitmap = torch.zeros(1, *size, dtype=torch.bool)
        bitmap[:, 15:25, 20:30] = True
        instances.gt_masks = BitMasks(bitmap)
    return {"image": torch.full((3, *size), value, dtype=torch.uint8), "instances": instances, "image_id": value}


def test_a_mosaic_is_made_of_its_four_images() -> None:
    rng = np.random.default_rng(1)
    made = Mosaic((80, 100), pad_value=0).combine(rng, [sample(v, (90, 120)) for v in (1, 2, 3, 4)])
    image = made["image"][0]
    assert image.shape == (80, 100) and made["image_id"] == 1
    row, column = int((image[:, 0] == 1).sum()), int((image[0] == 1).sum())
    assert 20 <= row <= 60 and 25 <= column <= 75
    quadrants = image[:row, :column], image[:row, column:], image[row:, :column], image[row:, column:]
    assert [set(q.flatten().tolist()) for q in quadrants] == [{1}, {2}, {3}, {4}]


def test_objects_of_a_mosaic_lie_in_their_quarter() -> None:
    seen = set()
    for seed in range(30):
        made = Mosaic(64).combine(np.random.default_rng(seed), [sample(v) for v in (1, 2, 3, 4)])
        for box, kind in zip(made["instances"].gt_boxes.tensor, made["instances"].gt_classes.tolist(), strict=True):
            x, y = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
            assert made["image"][0, y, x] == kind
            seen.add(kind)
    assert seen == {1, 2, 3, 4}


def test_label_maps_go_along_with_a_mosaic() -> None:
    parts = [{**sample(v, (90, 90)), "sem_seg": torch.full((90, 90), v, dtype=torch.uint8)} for v in (1, 2, 3, 4)]
    made = Mosaic(64).combine(np.random.default_rng(0), parts)
    assert (made["sem_seg"] == made["image"][0]).all()
    small = [{**sample(v, (4, 4)), "sem_seg": torch.full((4, 4), v, dtype=torch.uint8)} for v in (1, 2, 3, 4)]
    made = Mosaic(64, pad_value=200).combine(np.random.default_rng(0), small)
    assert ((made["sem_seg"] == 255) == (made["image"][0] == 200)).all() and (made["sem_seg"] == 255).any()


def test_mixup_blends_and_keeps_the_objects_of_both() -> None:
    made = MixUp(alpha=2.0).combine(np.random.default_rng(0), [sample(100, (40, 60)), sample(200, (50, 30))])
    image = made["image"][0]
    assert image.shape == (50, 60) and sorted(made["instances"].gt_classes.tolist()) == [100, 200]
    weight = (200 - float(image[0, 0])) / 100
    assert 0 < weight < 1
    assert abs(float(image[0, 50]) - (weight * 100 + (1 - weight) * 114)) <= 1.5  # beside the second image


def test_pasted_objects_hide_what_is_beneath() -> None:
    below, above = sample(1, masks=True), sample(2, masks=True)
    moved = torch.zeros(1, 40, 60, dtype=torch.bool)
    moved[:, 15:25, 26:36] = True
    above["instances"].gt_masks = BitMasks(moved)
    above["instances"].gt_boxes = above["instances"].gt_masks.get_bounding_boxes()
    results = [CopyPaste(1.0).combine(np.random.default_rng(seed), [below, above]) for seed in range(10)]
    pasted = [r for r in results if len(r["instances"]) == 2]
    assert 0 < len(pasted) < 10
    made = pasted[0]
    assert (made["image"][0] == 2).nonzero().shape[0] == 100 and bool((made["image"][0][moved[0]] == 2).all())
    assert made["instances"].gt_masks.area().tolist() == [60, 100]
    assert made["instances"].gt_boxes.tensor[0].tolist() == [20, 15, 26, 25]
    assert below["instances"].gt_masks.area().tolist() == [100]  # what was given stays


def test_an_object_that_is_hidden_drops_out() -> None:
    for seed in range(10):
        made = CopyPaste(1.0).combine(np.random.default_rng(seed), [sample(1, masks=True), sample(2, masks=True)])
        assert made["instances"].gt_classes.tolist() in ([1], [2])
        assert int(made["image"][0, 20, 25]) == made["instances"].gt_classes.item()


def make(record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """A sample of a record, with chance in its position."""
    made = sample(record["value"])
    made["instances"].gt_boxes.tensor += float(rng.integers(5))
    return made


def batches(workers: int, start: int = 0) -> list[Any]:
    records = [{"value": v} for v in range(1, 31)]
    mapper = MixMapper(make, records, [Mosaic(64, 0.5), MixUp(0.5)])
    loader = TrainLoader(records, GlobalOrder(30, 4, seed=3), mapper, num_workers=workers)
    loader.load_state_dict({**loader.state_dict(), "batches": start})
    taken = [next(loader) for _ in range(6 - start)]
    loader.close()
    return taken


def test_the_samples_are_a_function_of_seed_and_position() -> None:
    whole = batches(0)
    for other in (batches(2), [*whole[:4], *batches(0, 4)]):
        for first, second in zip(whole, other, strict=True):
            for a, b in zip(first, second, strict=True):
                assert torch.equal(a["image"], b["image"])
                assert torch.equal(a["instances"].gt_boxes.tensor, b["instances"].gt_boxes.tensor)
    assert len({tuple(s["image"].shape) for batch in whole for s in batch}) > 1  # some are mosaics, some not


def test_how_often() -> None:
    calls = []

    class Noted(MixUp):
        def combine(self, rng: np.random.Generator, samples: Any) -> Any:
            calls.append(len(samples))
            return super().combine(rng, samples)

    mapper = MixMapper(make, [{"value": v} for v in range(9)], [Noted(0.3)])
    for seed in range(300):
        mapper({"value": 1}, np.random.default_rng(seed))
    assert 60 < len(calls) < 120 and set(calls) == {2}
    assert not mapper.pure


def some_are_bad(record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any] | None:
    """As `make`, of values that are no multiple of 3; of 6 there is no sample, and others do not open."""
    if record["value"] % 3 == 0:
        if record["value"] == 6:
            return None
        raise UnreadableImageError(f"image {record['value']} is damaged")
    return make(record, rng)


def test_a_partner_that_does_not_open_is_replaced_and_the_image_itself_is_told() -> None:
    records = [{"value": v} for v in range(1, 10)]
    mapper = MixMapper(some_are_bad, records, [Mosaic(64)])
    for seed in range(20):
        made = mapper(records[0], np.random.default_rng(seed))
        assert made is not None and made["image_id"] == 1
        assert not {3, 6, 9} & set(made["instances"].gt_classes.tolist())
    with pytest.raises(UnreadableImageError, match="image 3 is damaged"):
        mapper(records[2], np.random.default_rng(0))
    assert mapper(records[5], np.random.default_rng(0)) is None
    with pytest.raises(DatasetError, match="100 images were drawn to be mixed with another"):
        MixMapper(some_are_bad, [{"value": 3}, {"value": 6}], [MixUp()])(records[0], np.random.default_rng(0))


def test_the_quarantine_names_the_image_that_does_not_open() -> None:
    records = [{"file_name": f"{v}.jpg", "image_id": v, "value": v} for v in range(1, 21)]
    source = SampleSource(records, MixMapper(some_are_bad, records, [MixUp()]), replace_unreadable=True)
    indices = np.arange(20)
    batch = source.__getitems__(Task(seed=0, indices=indices, positions=indices))
    assert isinstance(batch, Repaired) and len(batch.batch) == 20
    named = {image.file for image in batch.bad}
    assert {f"{v}.jpg" for v in (3, 9, 12, 15, 18)} <= named <= {f"{v}.jpg" for v in range(3, 21, 3)}
    assert all(image.reason == f"image {image.image_id} is damaged" for image in batch.bad)


def test_records_of_a_list_are_left_as_they_are() -> None:
    def spoil(record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        return make({"value": record.pop("value")}, rng)

    records = [{"value": 1}, {"value": 2}]
    mapper = MixMapper(spoil, records, [MixUp()])
    for seed in range(4):
        mapper({"value": 3}, np.random.default_rng(seed))
    assert records == [{"value": 1}, {"value": 2}]


def test_from_a_config() -> None:
    cfg = get_cfg()
    assert build_mixes(cfg) == []
    cfg.INPUT.MOSAIC, cfg.INPUT.COPYPASTE, cfg.INPUT.MIXUP, cfg.INPUT.SIZE = 0.5, 0.25, 0.1, (96, 64)
    mosaic, paste, mixup = build_mixes(cfg)
    assert isinstance(mosaic, Mosaic) and mosaic.size == (96, 64) and mosaic.probability == 0.5
    assert isinstance(paste, CopyPaste) and paste.probability == 0.25
    assert isinstance(mixup, MixUp) and mixup.probability == 0.1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Mosaic(64, 1.5), r"INPUT\.MOSAIC\) must be from 0 to 1"),
        (lambda: Mosaic(3), "4 or more"),
        (lambda: MixUp(alpha=0), "above 0"),
        (lambda: CopyPaste(1.0).combine(np.random.default_rng(0), [sample(1), sample(2)]), r"MASK_FORMAT to bitmask"),
        (
            lambda: MixUp().combine(np.random.default_rng(0), [{**sample(1), "sem_seg": torch.zeros(40, 60)}] * 2),
            "label maps do not blend",
        ),
    ],
)
def test_what_cannot_be_mixed(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        wrong()
