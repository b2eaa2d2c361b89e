"""What the tests of examples and guides share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def on_the_cpu() -> Iterator[None]:
    """MODEL.DEVICE "auto" is the CPU here, where equal means equal bit for bit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drivetrain.runtime.device._count", lambda kind: int(kind == "cpu"))
        yield
