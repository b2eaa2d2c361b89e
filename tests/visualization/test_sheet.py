"""Contact sheets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drivetrain.visualization.sheet import captioned, contact_sheet, side_by_side

_COLORS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250)]


def _plain(color: tuple[int, int, int], height: int = 30, width: int = 40) -> np.ndarray[Any, Any]:
    return np.full((height, width, 3), color, dtype=np.uint8)


def test_pictures_stand_row_by_row_with_a_gap() -> None:
    sheet = contact_sheet([("", _plain(c)) for c in _COLORS], columns=2, cell_width=64, background=(9, 9, 9))
    # Gap 4, cells of 64 x 48, no captions: 3 rows of 2.
    assert sheet.shape == (3 * 52 + 4, 2 * 68 + 4, 3)
    for number, color in enumerate(_COLORS):
        y, x = 4 + number // 2 * 52 + 24, 4 + number % 2 * 68 + 32
        assert sheet[y, x].tolist() == list(color)
    assert sheet[4 + 2 * 52 + 24, 4 + 68 + 32].tolist() == [9, 9, 9]  # the sixth cell is empty
    assert (sheet[:4] == 9).all()


def test_captions_are_below_their_picture_and_long_ones_stay_in_their_cell() -> None:
    picture = _plain((0, 0, 250))
    without = contact_sheet([(" ", picture), ("x", picture)], columns=2, cell_width=100)
    long = contact_sheet([("W" * 150, picture), ("x", picture)], columns=2, cell_width=100)
    assert long.shape == without.shape
    changed = np.argwhere((long != without).any(axis=2))
    assert changed[:, 0].min() >= 4 + 75
    assert changed[:, 1].max() <= 4 + 100


def test_other_shapes_are_fitted_not_distorted() -> None:
    sheet = contact_sheet(
        [("", _plain((250, 0, 0))), ("", _plain((0, 250, 0), 300, 10)), ("", _plain((0, 0, 250)))],
        columns=3,
        cell_width=64,
    )
    green = np.argwhere((sheet == (0, 250, 0)).all(axis=2))
    height, width = np.ptp(green, axis=0) + 1
    assert (height, width) == (48, 2)


def test_default_grid_is_about_square() -> None:
    assert contact_sheet([("", _plain(c)) for c in _COLORS], cell_width=64).shape[1] == 3 * 68 + 4


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([])
    with pytest.raises(ValueError, match="0 and 480"):
        contact_sheet([("", _plain((0, 0, 0)))], columns=0)


def test_side_by_side_scales_the_right_one() -> None:
    joined = side_by_side(_plain((250, 0, 0), 60, 80), _plain((0, 250, 0)), captions=("", ""), gap_color=(1, 2, 3))
    assert joined.shape == (60, 162, 3)
    assert (joined[:, :80] == (250, 0, 0)).all()
    assert (joined[:, 80:82] == (1, 2, 3)).all()
    assert (joined[:, 82:] == (0, 250, 0)).all()


def test_side_by_side_tags_both() -> None:
    left, right = _plain((250, 0, 0), 200, 300), _plain((0, 250, 0), 200, 300)
    joined = side_by_side(left, right)
    for part, color in ((joined[:, :300], (250, 0, 0)), (joined[:, -300:], (0, 250, 0))):
        changed = np.argwhere((part != color).any(axis=2))
        assert len(changed) > 200
        assert changed[:, 0].min() > 150
        assert changed[:, 1].max() < 200


def test_a_caption_lies_in_the_lower_left_corner() -> None:
    plain = _plain((0, 0, 250), 60, 90)
    tagged = captioned(plain, "a cell")
    rows, columns = np.nonzero((tagged != plain).any(axis=2))
    assert tagged.shape == plain.shape and rows.min() > 30 and columns.min() < 10 and columns.max() < 80
    assert captioned(plain, "a cell", min_side=120).shape == (120, 180, 3)
