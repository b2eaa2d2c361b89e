"""Fixtures that every test may use."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("untimed", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def bccd() -> Path:
    """The folder of the blood cell images beside the checkout; the test is skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data" / "bccd"
    if not folder.is_dir():
        pytest.skip("the blood cell images are not beside this checkout")
    return folder


@pytest.fixture(autouse=True)
def leave_no_logger() -> Iterator[None]:
    """Take back what a test made of the package's logger, so that later tests print nothing."""
    yield
    logger = logging.getLogger("drivetrain")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


@pytest.fixture(autouse=True)
def forget_datasets() -> Iterator[None]:
    """Forget the datasets that a test registered: names belong to the process, and other tests use the same ones."""
    names, metadata = DatasetCatalog.list(), MetadataCatalog.list()
    yield
    for name in set(DatasetCatalog.list()) - set(names):
        DatasetCatalog.remove(name)
    for name in set(MetadataCatalog.list()) - set(metadata):
        MetadataCatalog.remove(name)
