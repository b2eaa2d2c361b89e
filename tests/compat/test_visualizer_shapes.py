"""Single shapes: which pixels they cover, in which colour."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.compat.visualizer_shapes import ShapeDrawer
from drivetrain.visualization import class_color

_RED = [255, 0, 0]


def _drawer(scale: float = 1.0) -> ShapeDrawer:
    return ShapeDrawer(np.full((100, 120, 3), 100, dtype=np.uint8), scale)


def _changed(drawer: ShapeDrawer) -> np.ndarray[Any, Any]:
    return (drawer.output.get_image() != 100).any(axis=2)


def test_every_method_returns_the_picture() -> None:
    v, mask = _drawer(), np.ones((100, 120))
    square = [(10, 10), (30, 10), (30, 30)]
    pictures = [
        v.get_output(),
        v.draw_text("a", (50, 50)),
        v.draw_box((1, 2, 3, 4)),
        v.draw_rotated_box_with_label((50, 50, 20, 10, 30), label="b"),
        v.draw_circle((5, 5), "r"),
        v.draw_line([1, 2], [3, 4], "r"),
        v.draw_binary_mask(mask),
        v.draw_soft_mask(mask),
        v.draw_polygon(square, "r"),
    ]
    assert all(picture is v.output for picture in pictures)


def test_a_box_is_a_frame() -> None:
    v = _drawer()
    v.draw_box((20, 30, 80, 70), alpha=1, edge_color="r")
    picture = v.output.get_image()
    for y, x in ((30, 50), (70, 50), (50, 20), (50, 80)):
        assert picture[y, x].tolist() == _RED
    assert not _changed(v)[35:65, 25:75].any()
    dashed = _drawer()
    dashed.draw_box((20, 30, 80, 70), alpha=1, edge_color="r", line_style="--")
    assert 0.3 < _changed(dashed).sum() / _changed(v).sum() < 0.9


def test_a_turned_box_is_turned_counterclockwise() -> None:
    v = _drawer()
    v.draw_rotated_box_with_label((60, 50, 60, 2, 45), alpha=1, edge_color="r")
    ys, xs = np.nonzero(_changed(v))
    right = xs > 75
    assert ys[right].max() < 40  # its right end points up
    upright = _drawer()
    upright.draw_rotated_box_with_label((60, 50, 60, 20, 0), alpha=1, edge_color="r")
    box = _drawer()
    box.draw_box((30, 40, 90, 60), alpha=1, edge_color="r")
    assert (upright.output.get_image() == box.output.get_image()).all()


def test_a_turned_box_gets_its_label() -> None:
    plain, labelled = _drawer(), _drawer()
    plain.draw_rotated_box_with_label((60, 50, 60, 20, 10))
    labelled.draw_rotated_box_with_label((60, 50, 60, 20, 10), label="name")
    assert _changed(labelled).sum() > _changed(plain).sum() + 100


def test_circles_and_lines_are_where_they_were_asked_for() -> None:
    v = _drawer(0.5)
    v.draw_circle(torch.tensor([40.0, 60.0]), "r", radius=6)  # type: ignore[arg-type]
    assert v.output.get_image()[30, 20].tolist() == _RED
    v.draw_line([80, 110], [20, 20], (0, 0, 1.0), linewidth=4)
    assert v.output.get_image()[10, 48].tolist() == [0, 0, 255]
    with pytest.raises(ValueError, match="zip"):
        v.draw_line([1, 2, 3], [1, 2], "r")


def test_a_polygon_is_filled_to_its_outline() -> None:
    v = _drawer()
    v.draw_polygon(np.array([(20, 20), (80, 20), (80, 60), (20, 60)]), "r", edge_color="b", alpha=0.5)
    picture = v.output.get_image()
    assert np.abs(picture[40, 50].astype(int) - (178, 50, 50)).max() <= 1
    assert picture[20, 50].tolist() == [0, 0, 255]
    assert not _changed(v)[65:].any()


def test_a_mask_has_a_colour_an_edge_and_a_text() -> None:
    mask = np.zeros((100, 120), np.uint8)
    mask[10:90, 10:110] = 1
    plain = _drawer()
    plain.draw_binary_mask(torch.tensor(mask), edge_color="w", alpha=0.5)
    expected = (0.5 * 100 + 0.5 * np.array(class_color(0))).round()
    assert plain.output.get_image()[50, 60].tolist() == expected.tolist()
    assert plain.output.get_image()[10, 10].tolist() == [255, 255, 255]
    written = _drawer()
    written.draw_binary_mask(mask, edge_color="w", text="name", alpha=0.5)
    differing = (written.output.get_image() != plain.output.get_image()).any(axis=2)
    assert 100 < differing.sum() < 2000
    assert mask[differing].all()


def test_a_small_mask_is_left_out() -> None:
    mask = np.zeros((100, 120), bool)
    mask[0, :9] = True
    for threshold, drawn in ((10, False), (9, True)):
        v = _drawer()
        v.draw_binary_mask(mask, "r", area_threshold=threshold)
        assert _changed(v).any() == drawn
    empty = _drawer()
    empty.draw_binary_mask(~mask & mask, "r", area_threshold=0, text="nothing")
    assert not _changed(empty).any()


def test_a_soft_mask_is_as_thick_as_it_says() -> None:
    v, soft = _drawer(), np.zeros((100, 120))
    soft[:, 60:], soft[:, 90:] = 0.5, 1.0
    v.draw_soft_mask(soft, "r", alpha=0.8)
    row = v.output.get_image()[50]
    assert row[20].tolist() == [100, 100, 100]
    assert row[70].tolist() == [162, 60, 60]
    assert row[100].tolist() == [224, 20, 20]
