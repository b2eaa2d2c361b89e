"""What values of a config have to meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from drivetrain.engine.defaults.schema.checks import (
    below_one,
    increasing,
    positive,
    seconds_or_auto,
    targets,
)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (positive, [1, 0.1, (1, 2), [0.5]], [0, -1, (1, 0), [2, -0.1]]),
        (increasing, [(), (1,), (1, 2, 5)], [(2, 1), (3, 3), (1, 5, 4)]),
        (targets, [(), ("boxes", "masks")], [("box",), ("boxes", "")]),
        (seconds_or_auto, [0, 0.5, 600, "auto"], [-1, float("nan"), "", "10 minutes"]),
        (below_one, [0, 0.999, (0.9, 0.5)], [1, -0.1, (0.9, 1.0), 2]),
    ],
)
def test_what_passes_and_what_does_not(check: Callable[[Any], None], good: list[Any], bad: list[Any]) -> None:
    for value in good:
        check(value)
    for value in bad:
        with pytest.raises(ValueError, match="received"):
            check(value)
