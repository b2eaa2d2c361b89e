from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from drivetrain.cli.data import _FORMATS, run
from drivetrain.data.conversion import TARGETS
from drivetrain.data.formats.coco import load_coco_json
from drivetrain.data.formats.known import FORMATS
from drivetrain.data.formats.synthetic import SyntheticDataset, make_synthetic_segmentation
from drivetrain.errors import ConfigError, DatasetError, OutputError, UserInputError

Call = Callable[..., str]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command in an empty folder; what it printed."""
    monkeypatch.chdir(tmp_path)

    def go(*arguments: str) -> str:
        assert run(arguments) == 0
        return capsys.readouterr().out

    return go


def changed(shapes: SyntheticDataset, path: Path, change: Callable[[Any], None]) -> str:
    content = json.loads(Path(shapes.train_json).read_text())
    change(content)
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize("action", ["inspect", "convert", "split"])
def test_each_action_helps_with_an_example(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        run([action, "--help"])
    assert error.value.code == 0
    text = capsys.readouterr().out
    assert "example" in text and f"drivetrain data {action}" in text


def test_the_formats_are_all_that_there_are() -> None:
    assert set(_FORMATS) == set(FORMATS) == set(TARGETS)


def test_mistakes_in_arguments_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["inspct"], ["convert", "a.json"], ["inspect", "a.json", "--format", "x"]):
        with pytest.raises(SystemExit) as error:
            run(arguments)
        err = capsys.readouterr().err
        assert error.value.code == 2 and err.count("\n") == 1 and err.startswith("drivetrain data")


def test_inspect_prints_draws_and_writes(call: Call, shapes: SyntheticDataset) -> None:
    out = call("inspect", shapes.train_json, "--output", "s/sheet.png", "--samples", "3", "--json", "report.json")
    assert "8 images" in out and "circle" in out and "no defects" in out and "samples: s/sheet.png" in out
    assert Image.open("s/sheet.png").width > 900
    report = json.loads(Path("report.json").read_text())
    annotations = json.loads(Path(shapes.train_json).read_text())["annotations"]
    assert report["found"]["objects"] == len(annotations) and report["defects"] == []
    assert (report["format"], report["source"]) == ("coco", shapes.train_json)


def test_inspect_of_a_set_with_errors_tells_them_and_fails(
    shapes: SyntheticDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = changed(shapes, tmp_path / "bad.json", lambda c: c["annotations"][0].update(category_id=99))
    with pytest.raises(DatasetError, match=r"bad\.json' has 1 error, told above"):
        run(["inspect", path, "--images", shapes.train_images, "--json", "report.json", "--output", "sheet.jpg"])
    assert "unknown category id (1)" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["found"] is None and report["defects"][0]["kind"] == "unknown category id"
    assert not (tmp_path / "sheet.jpg").exists()


def test_inspect_refuses_what_it_cannot_write(call: Call, shapes: SyntheticDataset, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"--output sheet\.gif must end with"):
        call("inspect", shapes.train_json, "--output", "sheet.gif")
    with pytest.raises(ConfigError, match="--samples 0 must be at least 1"):
        call("inspect", shapes.train_json, "--samples", "0")
    with pytest.raises(OutputError):
        call("inspect", shapes.train_json, "--quick", "--json", "none/x/report.json")
    assert not (tmp_path / "none").exists()


def test_convert_and_back(call: Call, shapes: SyntheticDataset) -> None:
    out = call("convert", f"train={shapes.train_json}", f"val={shapes.val_json}", "--to", "yolo", "--output", "y")
    assert "yolo, images: train 8, val 4; in y" in out and "lost: masks, as there are keypoints" in out
    out = call("convert", "val=y", "--to", "coco", "--output", "c", "--image-files", "link")
    assert "lost" not in out
    again = load_coco_json("c/instances_val.json", "c/images/val")
    for a, b in zip(again, load_coco_json(shapes.val_json, shapes.val_images), strict=True):
        for x, y in zip(a["annotations"], b["annotations"], strict=True):
            assert (x["bbox"], x["category_id"], x["keypoints"]) == (y["bbox"], y["category_id"], y["keypoints"])


def test_names_of_splits_are_told_from_files_and_must_differ(call: Call, shapes: SyntheticDataset) -> None:
    out = call("convert", shapes.train_json, shapes.val_json, "--to", "voc", "--output", "v", "--image-files", "none")
    assert "train 8, val 4" in out
    with pytest.raises(ConfigError, match="two datasets are the split 'train'"):
        call("convert", shapes.train_json, f"train={shapes.val_json}", "--to", "voc", "--output", "w")
    with pytest.raises(DatasetError, match=r"there is no 'none\.json'"):
        call("convert", "train=none.json", "--to", "voc", "--output", "w")
    assert not Path("w").exists()


def test_label_maps_with_names_given(call: Call, tmp_path: Path) -> None:
    maps = make_synthetic_segmentation(tmp_path / "maps", train=2, val=1, size=(32, 32))
    where = ("inspect", maps.train_labels, "--images", maps.train_images)
    assert "triangle" in call(*where)
    assert "wall" in call(*where, "--classes", "floor,wall,door,window")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n")
    call(*where, "--classes", "names.txt", "--json", "r.json")
    assert [row["name"] for row in json.loads(Path("r.json").read_text())["found"]["classes"]] == ["a", "b", "c", "d"]
    with pytest.raises(ConfigError, match="--classes 'a,,b' must be a file, or names with commas"):
        call(*where, "--classes", "a,,b")
    with pytest.raises(DatasetError, match="has 2 errors"):
        call(*where, "--classes", "floor")


def test_split(call: Call, shapes: SyntheticDataset) -> None:
    out = call("split", shapes.train_json, "--fractions", "0.5", "0.25", "0.25", "--output", "s", "--seed", "3")
    assert "coco, images: train 4, val 2, test 2; in s" in out and shapes.train_images in out
    parts = [load_coco_json(f"s/instances_{name}.json", shapes.train_images) for name in ("train", "val", "test")]
    assert [len(part) for part in parts] == [4, 2, 2]
    out = call(
        "split", shapes.train_json, "--fractions", "a=0.5", "b=0.5", "--output", "g", "--group-by", r"(\d)\.jpg$"
    )
    assert "a 4, b 4" in out


@pytest.mark.parametrize(
    ("fractions", "why"),
    [
        (["0.5", "x"], "--fractions 'x' is no share"),
        (["0.4", "0.3", "0.2", "0.1"], "give those after the third a name"),
        (["a=0.5", "a=0.5"], "'a=0.5': each split needs a name of its own"),
        (["../a=0.5", "b=0.5"], "'../a=0.5': each split needs a name of its own, of letters"),
        (["0.5", "0.6"], "add up to 1, not train=0.5, val=0.6"),
    ],
)
def test_wrong_fractions(call: Call, shapes: SyntheticDataset, fractions: list[str], why: str) -> None:
    with pytest.raises(UserInputError, match=why):
        call("split", shapes.train_json, "--fractions", *fractions, "--output", "s")
    assert not Path("s").exists()


def test_a_split_is_read_under_one_name_and_written_under_another(call: Call, shapes: SyntheticDataset) -> None:
    call("convert", f"default={shapes.train_json}", "--to", "voc", "--output", "v")
    with pytest.raises(DatasetError, match=r"no list .*train\.txt' \(there: default\)"):
        call("convert", "train=v", "--to", "yolo", "--output", "y")
    with pytest.raises(DatasetError, match="splits train, val, test, not 'default': name one as train=DATASET"):
        call("convert", "v", "--to", "yolo", "--output", "y")
    out = call("convert", "train=v", "--split", "default", "--to", "yolo", "--output", "y")
    assert "yolo, images: train 8; in y" in out


def test_help_tells_what_is_not_kept(capsys: pytest.CaptureFixture[str]) -> None:
    for action, text in (("convert", "and supercategories, nothing is kept"), ("split", "hold all that it says")):
        with pytest.raises(SystemExit):
            run([action, "--help"])
        assert text in " ".join(capsys.readouterr().out.split())
