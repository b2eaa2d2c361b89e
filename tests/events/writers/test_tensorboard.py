"""TensorBoard event files, read back."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.errors import OutputError
from drivetrain.events import EventStorage, TensorboardXWriter


def _accumulate(folder: Path) -> Any:
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


@pytest.mark.parametrize(
    ("clock", "resumed"), [(0, 6), (3600, 1), (-3600, 6)], ids=["at once", "later", "clock put back"]
)
def test_after_a_resume_points_of_the_killed_run_are_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: int, resumed: int
) -> None:
    now = time.time()

    def run(start: int, end: int, value: float) -> None:
        writer = TensorboardXWriter(tmp_path)
        with EventStorage(start) as storage:
            for storage.iter in range(start, end):
                storage.put_scalar("loss", value)
                writer.write()
            writer.close()

    run(0, 10, 1.0)
    monkeypatch.setattr(time, "time", lambda: now + clock)
    run(resumed, 12, 2.0)
    points = [(e.step, e.value) for e in _accumulate(tmp_path).Scalars("loss")]
    assert points == [(i, 1.0) for i in range(resumed)] + [(i, 2.0) for i in range(resumed, 12)]


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


def test_one_picture_that_is_none_leaves_the_others_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = TensorboardXWriter(tmp_path)
    with EventStorage() as storage:
        storage.put_image("flat", torch.zeros(5, dtype=torch.uint8))
        storage.put_image("good", torch.zeros(3, 2, 2, dtype=torch.uint8))
        storage.put_scalar("a", 1.0)
        writer.write()
        writer.write()
    writer.close()
    events = _accumulate(tmp_path)
    assert events.Tags()["images"] == ["good"] and events.Tags()["scalars"] == ["a"]
    assert writer.failures == 1 and len(caplog.records) == 1


def test_writing_on_after_a_close_hides_nothing(tmp_path: Path) -> None:
    writer = TensorboardXWriter(tmp_path)
    with EventStorage(5) as storage:
        for storage.iter in (5, 6, 7):
            storage.put_scalar("a", float(storage.iter))
            writer.write()
            writer.close()
    assert len(list(tmp_path.iterdir())) == 3
    assert [event.step for event in _accumulate(tmp_path).Scalars("a")] == [5, 6, 7]


def test_what_waits_too_long_is_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("drivetrain.events.writers.tensorboard._MOST_WAITING", 200)
    (tmp_path / "tb").write_text("no folder")
    writer = TensorboardXWriter(tmp_path / "tb")
    with EventStorage() as storage:
        for storage.iter in range(20):
            storage.put_scalar("a", 1.0)
            writer.write()
        lost = writer.dropped
        (tmp_path / "tb").unlink()
        storage.iter = 20
        storage.put_scalar("a", 1.0)
        writer.write()
    writer.close()
    steps = [event.step for event in _accumulate(tmp_path / "tb").Scalars("a")]
    assert 0 < lost == writer.dropped < 20
    assert steps == list(range(lost, 21))
    assert [r.getMessage() for r in caplog.records][1:] == [
        f"{lost} records for TensorBoard could not be written to {tmp_path}/tb"
    ]


def test_arguments_of_the_library_and_addresses(tmp_path: Path) -> None:
    TensorboardXWriter(tmp_path, 20, flush_secs=30, max_queue=5, comment="x")
    with pytest.raises(OutputError, match="s3://bucket is an address"):
        TensorboardXWriter("s3://bucket")
    for writer, value in ((TensorboardXWriter(tmp_path), 1.0), (TensorboardXWriter(tmp_path, purge_step=2), 2.0)):
        with EventStorage() as storage:
            for storage.iter in range(4):
                storage.put_scalar("a", value)
                writer.write()
        writer.close()
    points = [(event.step, event.value) for event in _accumulate(tmp_path).Scalars("a")]
    assert points == [(0, 1.0), (1, 1.0), (0, 2.0), (1, 2.0), (2, 2.0), (3, 2.0)]
