"""The list of images that cannot be read, and its budget."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from drivetrain.data.quarantine import BadImage, Quarantine
from drivetrain.errors import DatasetError


def bad(number: int) -> BadImage:
    return BadImage(f"{number}.jpg", number, f"image '{number}.jpg' is empty")


def entries(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("fraction", "images", "allowed"), [(0.001, 205, 0), (0.001, 999, 0), (0.001, 3000, 3), (0.29, 100, 29), (0, 9, 0)]
)
def test_the_budget_is_rounded_down(fraction: float, images: int, allowed: int) -> None:
    assert Quarantine(None, fraction, images).allowed == allowed


def test_each_image_is_listed_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "new" / "quarantine.jsonl"
    quarantine = Quarantine(path, 0.5, 10)
    quarantine.add([bad(1), bad(2), bad(1)])
    quarantine.add([bad(2)])
    assert entries(path) == [{"file": f"{n}.jpg", "image_id": n, "reason": f"image '{n}.jpg' is empty"} for n in (1, 2)]
    assert [r.getMessage() for r in caplog.records] == [
        f"image '{n}.jpg' is empty; another image takes its place ({n} of at most 5)" for n in (1, 2)
    ]


def test_over_the_budget_every_batch_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    quarantine = Quarantine(path, 0.2, 10)
    quarantine.add([bad(1), bad(2)])
    with pytest.raises(DatasetError) as caught:
        quarantine.add([bad(n) for n in range(3, 16)])
    text = str(caught.value)
    assert text.startswith("15 images cannot be used: '1.jpg', '2.jpg', ") and "'10.jpg' and 5 more" in text
    assert "'11.jpg'" not in text and str(path) in text and "MAX_BAD_IMAGES = 0.2" in text and "2 of 10" in text
    assert len(entries(path)) == 15
    with pytest.raises(DatasetError, match="15 images"):
        quarantine.add([bad(1)])
    quarantine.add([])


def test_with_no_budget_the_first_one_is_the_error() -> None:
    with pytest.raises(DatasetError, match=r"^image '1.jpg' is empty; repair it .*MAX_BAD_IMAGES = 0.001.*0 of 205"):
        Quarantine(None, 0.001, 205).add([bad(1)])


def test_the_list_is_shared_by_ranks_and_survives_a_resume(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "q.jsonl"
    first, second = (Quarantine(path, 0.3, 10) for _ in range(2))
    first.add([bad(1)])
    second.add([bad(2), bad(1)])
    first.add([bad(2), bad(3)])
    assert [e["image_id"] for e in entries(path)] == [1, 2, 3]
    assert len(caplog.records) == 3
    resumed = Quarantine(path, 0.3, 10)
    resumed.add([bad(3)])  # known: neither listed nor told again
    assert len(caplog.records) == 3
    with pytest.raises(DatasetError, match="4 images"):
        resumed.add([bad(4)])


def test_a_list_with_a_torn_line_or_nonsense_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(b'[1]\n\xff\n{"file": 3}\n' + json.dumps({"file": "1.jpg"}).encode() + b'\n{"file": "2.j')
    Quarantine(path, 0.5, 10).add([bad(1), bad(2), bad(3)])
    lines = path.read_text(errors="replace").splitlines()
    assert lines[4] == '{"file": "2.j'
    assert [json.loads(line)["file"] for line in lines[5:]] == ["2.jpg", "3.jpg"]


def test_a_list_that_cannot_be_written_is_kept_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    quarantine = Quarantine(tmp_path / "file" / "q.jsonl", 0.2, 10)
    quarantine.add([bad(1), bad(2)])
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and "cannot be written" in r.msg]
    assert len(told) == 1
    with pytest.raises(DatasetError, match="3 images"):
        quarantine.add([bad(3)])


def test_control_characters_stay_escaped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "q.jsonl"
    name = "a\x1b[2J\nb\ud800.jpg"
    Quarantine(path, 0.5, 10).add([BadImage(name, "x\ny", f"image {name!r} is empty")])
    assert "\x1b" not in caplog.text and len(path.read_text().splitlines()) == 1
    assert entries(path)[0]["file"] == name
