"""The progress display, on a pretended terminal and elsewhere."""

from __future__ import annotations

import io
import logging
import random
import sys
import threading

import numpy as np
import pytest
import torch
from rich.console import Console

from drivetrain.events import EventStorage, ProgressBar


def _terminal(width: int = 120) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, _environ={"TERM": "xterm"})


def _shown(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_everything_asked_for_is_on_the_display() -> None:
    console = _terminal()
    bar = ProgressBar(100, interval=0.0, console=console)
    with EventStorage() as storage:
        for storage.iter in range(50):
            storage.put_scalars(loss_cls=0.5, total_loss=1.25, data_time=1e-9)
            storage.put_scalar("lr", 0.002, smoothing_hint=False)
            bar.write()
        bar.close()
    text = _shown(console)
    for part in ("50%", "50/100", "it/s", "eta 0:0", "total_loss 1.25  loss_cls 0.5", "lr 0.002", "data wait 0%"):
        assert part in text
    assert bar.failures == 0


def test_the_end_is_a_full_bar_with_no_time_left() -> None:
    console = _terminal()
    bar = ProgressBar(3, interval=1e9, console=console)  # so slow that only the first and the last are drawn
    with EventStorage() as storage:
        for storage.iter in range(3):
            bar.write()
        storage.iter = 3  # as in after_train
        bar.write()
        bar.close()
    last = _shown(console).rsplit("eta", 1)
    assert "100%" in last[0]
    assert "3/3" in last[0]
    assert last[1].strip().startswith("0:00:00")
    assert "2/3" not in last[0]


def test_elsewhere_nothing_is_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich would take that for a terminal
    bar = ProgressBar(10, interval=0.0)
    out = sys.stdout
    with EventStorage() as storage:
        storage.put_scalar("total_loss", 1.0)
        bar.write()
        assert sys.stdout is out
        bar.close()
    assert capsys.readouterr() == ("", "")


def test_prints_and_log_lines_come_out_above_and_streams_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    console = _terminal()
    monkeypatch.setattr(sys, "stdout", console.file)
    monkeypatch.setattr(sys, "stderr", console.file)
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    try:
        bar = ProgressBar(10, interval=0.0, console=console)
        with EventStorage():
            bar.write()
            print("from a print")
            logging.getLogger("elsewhere").error("from a logger")
            assert handler.stream is not console.file
            bar.close()
            bar.close()
    finally:
        logging.getLogger().removeHandler(handler)
    assert handler.stream is console.file
    assert sys.stdout is console.file
    text = _shown(console)
    assert "from a print\n" in text
    assert "from a logger\n" in text
    # The display is drawn again below the line.
    assert "1/10" in text.split("from a logger\n")[1]


def test_no_thread_and_no_random_number_is_used() -> None:
    def state() -> tuple[object, object, object]:
        return random.getstate(), np.random.get_state()[2], torch.get_rng_state().tolist()

    before, threads = state(), threading.active_count()
    bar = ProgressBar(10, interval=0.0, console=_terminal())
    with EventStorage() as storage:
        storage.put_scalar("total_loss", 1.0)
        bar.write()
        assert threading.active_count() == threads
        bar.close()
    assert state() == before


def test_a_terminal_that_goes_away_ends_nothing() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("terminal is gone")

    console = Console(file=Gone(), force_terminal=True, _environ={"TERM": "xterm"})
    bar = ProgressBar(10, interval=0.0, console=console)
    out = sys.stdout
    with EventStorage():
        bar.write()
        bar.write()
        bar.close()
    assert bar.failures == 1
    assert sys.stdout is out


def test_names_are_shown_as_they_are() -> None:
    console = _terminal()
    bar = ProgressBar(10, interval=0.0, console=console)
    with EventStorage() as storage:
        storage.put_scalar("[red]loss[/red]", 1.0)
        bar.write()
        bar.close()
    assert "[red]loss[/red] 1" in _shown(console)
