"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def bccd() -> Path:
    """The folder of the blood cell images beside the checkout; the test is skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data" / "bccd"
    if not folder.is_dir():
        pytest.skip("the blood cell images are not beside this checkout")
    return folder
