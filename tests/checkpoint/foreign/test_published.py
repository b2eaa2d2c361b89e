"""Where the file of an address lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.checkpoint.foreign.published import address_of, find_weights
from drivetrain.errors import CheckpointError

ZOO = "https://dl.fbaipublicfiles.com/detectron2/"
MODEL = f"{ZOO}COCO-Detection/faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl"
RESNET = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FVCORE_CACHE", raising=False)
    monkeypatch.setenv("DRIVETRAIN_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_paths_are_what_they_are(folder: Path) -> None:
    assert find_weights("some/where.pth") == Path("some/where.pth")
    assert address_of("some/where.pth") == ""
    assert address_of(RESNET) == f"{ZOO}ImageNetPretrained/MSRA/R-50.pkl"


def test_a_published_model_is_found_by_its_name_alone_and_a_backbone_is_not(folder: Path) -> None:
    bare = put(folder / "model_final_280758.pkl")
    assert find_weights(MODEL) == bare
    put(folder / "R-50.pkl")  # of which there are several
    with pytest.raises(CheckpointError, match=r"put it as MSRA/R-50\.pkl into a folder"):
        find_weights(RESNET)
    for place in ("MSRA/R-50.pkl", "ImageNetPretrained/MSRA/R-50.pkl"):  # the fuller one counts
        kept = put(folder / place)
        assert find_weights(RESNET) == kept


def test_what_detectron2_downloaded_is_found(folder: Path) -> None:
    home = folder.parent / "home"
    kept = put(home / ".torch/iopath_cache/detectron2/ImageNetPretrained/MSRA/R-50.pkl")
    assert find_weights(RESNET) == kept


def test_nothing_is_downloaded(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"download model_final_280758\.pkl from https://dl\..* yourself"):
        find_weights(MODEL)
    with pytest.raises(CheckpointError, match="fetch the file"):
        find_weights("s3://bucket/x.pkl")
    put(folder.parent / "secret")
    with pytest.raises(CheckpointError):
        find_weights(f"{ZOO}../../secret")
