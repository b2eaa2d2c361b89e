"""Contract R1: a resume goes to its batch without decoding an image, and gives the same pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from drivetrain.data import mapper as mapper_module
from drivetrain.data.build import build_detection_train_loader
from drivetrain.data.images import ImageFile
from drivetrain.data.loader import TrainLoader
from drivetrain.data.mapper import DatasetMapper
from drivetrain.data.order import GlobalOrder
from drivetrain.data.transforms import ColorJitter, RandomCrop, RandomFlip, ResizeShortestEdge

AUGMENTATIONS = [
    RandomCrop("relative_range", (0.5, 0.5)),
    ResizeShortestEdge((16, 20, 24), 40),
    RandomFlip(),
    ColorJitter(0.4, 0.4, 0.4, 0.1),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(1)
    out = []
    for k in range(70):
        height, width = (24, 32) if k % 3 else (32, 24)
        file = folder / f"{k}.jpg"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file)
        out.append({"file_name": str(file), "image_id": k, "height": height, "width": width})
    return out


def loader(images: list[dict[str, Any]], seed: int = 3, **options: Any) -> TrainLoader:
    order = GlobalOrder(len(images), 8, seed, groups=[r["width"] > r["height"] for r in images])
    mapper = DatasetMapper(True, augmentations=AUGMENTATIONS, image_format="RGB")
    return TrainLoader(images, order, mapper, **options)


def samples(loader: TrainLoader, batches: int) -> list[tuple[int, tuple[int, ...], bytes]]:
    out = [s for _ in range(batches) for s in next(loader)]
    loader.close()
    return [(s["image_id"], tuple(s["image"].shape), s["image"].numpy().tobytes()) for s in out]


@pytest.mark.parametrize(("before", "after", "ranks"), [(0, 3, 1), (2, 0, 1), (1, 2, 2), (2, 1, 4)])
def test_280_of_280_samples_are_pixel_identical_after_a_resume(
    images: list[dict[str, Any]], before: int, after: int, ranks: int
) -> None:
    whole = samples(loader(images), 52)
    first = loader(images, num_workers=before)
    samples(first, 17)
    state = first.state_dict()
    parts = []
    for rank in range(ranks):
        second = loader(images, seed=rank + 50, num_workers=after, rank=rank, world_size=ranks)
        second.load_state_dict(state)
        parts.append(samples(second, 35))
    size = 8 // ranks
    resumed = [s for n in range(35) for part in parts for s in part[n * size : (n + 1) * size]]
    assert len(resumed) == 280
    assert sum(a == b for a, b in zip(resumed, whole[17 * 8 :], strict=True)) == 280


def test_the_comparison_can_fail(images: list[dict[str, Any]]) -> None:
    """Without the position's randomness, or with the order alone, hardly any sample is the same."""
    whole = samples(loader(images), 52)[17 * 8 :]
    other_seed = loader(images, seed=4)
    other_seed.seek(17)
    assert sum(a == b for a, b in zip(samples(other_seed, 35), whole, strict=True)) < 5
    from_the_start = samples(loader(images), 35)
    assert sum(a == b for a, b in zip(from_the_start, whole, strict=True)) < 5


@pytest.mark.parametrize("grouping", [False, True])
def test_a_resume_at_iteration_90000_of_100000_images_decodes_none(
    monkeypatch: pytest.MonkeyPatch, grouping: bool
) -> None:
    decoded: list[str] = []

    class Spy(ImageFile):
        def __init__(self, path: str, *_: Any, **__: Any) -> None:
            decoded.append(path)
            self.name, self.size = path, (30, 40) if int(path) % 3 else (40, 30)

        def tensor(self, at_least: Any = None) -> torch.Tensor:
            return torch.full((3, *self.size), int(self.name) % 251, dtype=torch.uint8)

    monkeypatch.setattr(mapper_module, "ImageFile", Spy)
    records = [
        {"file_name": str(k), "image_id": k, "height": 30 if k % 3 else 40, "width": 40 if k % 3 else 30}
        for k in range(100_000)
    ]
    mapper = DatasetMapper(True, augmentations=AUGMENTATIONS, image_format="RGB")
    options: dict[str, Any] = {"total_batch_size": 16, "aspect_ratio_grouping": grouping, "seed": 5}
    made = build_detection_train_loader(records, mapper, **options)
    assert isinstance(made, TrainLoader)
    made.load_state_dict({"batches": 90_000, "seed": 5, "batch_size": 16, "num_samples": 100_000})
    assert decoded == [] and made.position == 90_000
    batch = next(made)
    assert decoded == [s["file_name"] for s in batch] and len(batch) == 16
    assert [s["image_id"] for s in batch] == made.order.batch(90_000)[0].tolist()  # type: ignore[attr-defined]
    if grouping:
        assert len({s["width"] for s in batch}) == 1


def test_reading_is_what_the_spy_sees(images: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The count of 0 above means something: one batch reads its images once each, from their files."""
    opened: list[str] = []
    open_file = open

    def spy(file: Any, *arguments: Any, **options: Any) -> Any:
        opened.append(str(file))
        return open_file(file, *arguments, **options)

    monkeypatch.setattr("builtins.open", spy)
    made = loader(images)
    made.seek(90_000)
    assert opened == []
    assert [s["file_name"] for s in next(made)] == opened
