"""The console line."""

from __future__ import annotations

import logging
import re

import pytest

from drivetrain.events import CommonMetricPrinter, EventStorage
from drivetrain.events.writers.console import peak_gpu_memory


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines that were logged, growing."""
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    logger = logging.getLogger("drivetrain.events")
    handler, level = Collect(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found  # type: ignore[misc]
    logger.removeHandler(handler)
    logger.setLevel(level)


def _fill(storage: EventStorage) -> None:
    storage.put_scalars(total_loss=2.3, loss_cls=1.8, time=0.5, data_time=0.25)
    storage.put_scalar("lr", 0.00012345678, smoothing_hint=False)


def test_the_whole_line_in_its_order(lines: list[str]) -> None:
    with EventStorage(19) as storage:
        _fill(storage)
        storage.put_scalar("[metric]/acc", 0.5)
        storage.put_scalar("fg_ratio", 0.25, smoothing_hint=False)
        CommonMetricPrinter(max_iter=160).write()
    expected = (
        "eta: 0:01:10  iter: 19  total_loss: 2.3  loss_cls: 1.8  [metric]/acc: 0.5  fg_ratio: 0.25  "
        "time: 0.5000  last_time: 0.5000  data_time: 0.2500  last_data_time: 0.2500  lr: 0.000123457"
    )
    assert lines == [expected + (f"  max_mem: {peak_gpu_memory() / 2**20:.0f}M" if peak_gpu_memory() else "")]
    assert storage.latest()["eta_seconds"] == (70.0, 19)


def test_losses_are_medians_over_the_window(lines: list[str]) -> None:
    with EventStorage() as storage:
        for storage.iter, value in enumerate([100.0, 3.0, 1.0, 2.0]):
            storage.put_scalar("loss_x", value)
        CommonMetricPrinter(window_size=3).write()
    assert "loss_x: 2 " in lines[0] + " "
    assert "eta" not in lines[0]


def test_the_last_eta_is_zero(lines: list[str]) -> None:
    printer = CommonMetricPrinter(max_iter=10)
    with EventStorage(9) as storage:
        _fill(storage)
        printer.write()
        assert lines[0].startswith("eta: 0:00:00  iter: 9  ")
        storage.iter = 10
        printer.write()  # after_train: nothing new to say
        assert len(lines) == 1
        storage.put_scalar("bbox/AP", 55.214, smoothing_hint=False)
        printer.write()
    assert lines[1] == "eta: 0:00:00  iter: 10  [bbox/AP: 55.21]"
    with EventStorage(9):  # also where no time is known
        CommonMetricPrinter(max_iter=10).write()
    assert lines[2] == "eta: 0:00:00  iter: 9"


def test_eta_without_time_comes_from_the_clock(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    printer = CommonMetricPrinter(max_iter=100)
    with EventStorage() as storage:
        storage.put_scalar("total_loss", 1.0)
        printer.write()
        storage.iter = 19
        printer.write()
    assert not lines[0].startswith("eta")
    # 10 s for 19 iterations, 80 left: 42.1 s
    assert lines[1].startswith("eta: 0:00:42  iter: 19")


def test_evaluation_results_are_shown_once_without_classes(lines: list[str]) -> None:
    printer = CommonMetricPrinter(max_iter=100)
    with EventStorage(39) as storage:
        for name, value in {"bbox/AP": 50.0, "bbox/AP50": 80.0, "bbox/AP-cat": 20.0}.items():
            storage.put_scalar(name, value, smoothing_hint=False)
        printer.write()
        storage.iter = 59
        printer.write()
    assert "[bbox/AP: 50  bbox/AP50: 80]" in lines[0]
    assert "cat" not in lines[0]
    assert "[" not in lines[1]


def test_an_empty_storage_gives_a_line_too(lines: list[str]) -> None:
    with EventStorage(3):
        CommonMetricPrinter().write()
    assert re.fullmatch(r"iter: 3(  max_mem: \d+M)?", lines[0])


def test_a_clash_of_names_does_not_end_the_run(lines: list[str]) -> None:
    printer = CommonMetricPrinter(max_iter=100)
    with EventStorage() as storage:
        storage.put_scalars(eta_seconds=1.0, time=1.0)  # smoothed, where the printer puts it unsmoothed
        printer.write()
    assert printer.failures == 1
