"""TensorBoard event files, read back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from drivetrain.events import EventStorage, TensorboardXWriter


def _accumulate(folder: Path) -> object:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def test_nothing_is_made_before_the_first_write(tmp_path: Path) -> None:
    writer = TensorboardXWriter(tmp_path / "tb")
    assert not (tmp_path / "tb").exists()
    writer.close()
    writer.close()
    assert not (tmp_path / "tb").exists()


def test_scalars_images_and_histograms_are_read_back(tmp_path: Path) -> None:
    writer = TensorboardXWriter(tmp_path, window_size=3)
    with EventStorage() as storage:
        for storage.iter, value in enumerate([9.0, 1.0, 5.0, 2.0]):
            storage.put_scalar("loss", value)
            if storage.iter in (0, 2):
                storage.put_scalar("bbox/AP", 10 * value, smoothing_hint=False)
        storage.put_image("sample", torch.full((3, 4, 6), 200, dtype=torch.uint8))
        storage.put_histogram("weights", torch.arange(10.0), bins=5)
        writer.write()
        assert storage._vis_data == []
        assert storage._histograms == []
        writer.write()
        writer.close()
    events = _accumulate(tmp_path)
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(3, 2.0)]  # median of 1, 5, 2
    assert [(e.step, e.value) for e in events.Scalars("bbox/AP")] == [(0, 90.0), (2, 50.0)]
    assert (events.Images("sample")[0].width, events.Images("sample")[0].height) == (6, 4)
    assert events.Histograms("weights")[0].histogram_value.num == 10
    assert writer.failures == 0


def test_after_a_resume_points_of_the_killed_run_are_hidden(tmp_path: Path) -> None:
    def run(start: int, end: int, value: float) -> None:
        writer = TensorboardXWriter(tmp_path)
        with EventStorage(start) as storage:
            for storage.iter in range(start, end):
                storage.put_scalar("loss", value)
                writer.write()
            writer.close()

    run(0, 10, 1.0)
    run(6, 12, 2.0)
    points = [(e.step, e.value) for e in _accumulate(tmp_path).Scalars("loss")]
    assert points == [(i, 1.0) for i in range(6)] + [(i, 2.0) for i in range(6, 12)]


def test_further_arguments_are_tensorboards(tmp_path: Path) -> None:
    writer = TensorboardXWriter(tmp_path, filename_suffix=".mine")
    with EventStorage() as storage:
        storage.put_scalar("loss", 1.0)
        writer.write()
        writer.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".mine"]


def test_a_missing_library_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    writer = TensorboardXWriter(tmp_path / "tb")
    with EventStorage() as storage:
        storage.put_image("a", torch.zeros(3, 2, 2, dtype=torch.uint8))
        writer.write()
        assert storage._vis_data == []  # they must not pile up
    assert writer.failures == 1


def test_a_folder_that_cannot_be_made_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    writer = TensorboardXWriter(tmp_path / "file")
    with EventStorage() as storage:
        storage.put_scalar("a", 1.0)
        writer.write()
        writer.close()
    assert writer.failures == 1
