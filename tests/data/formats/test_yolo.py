from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.defects import DefectReport
from drivetrain.data.formats.yolo import label_name, load_yolo, read_yolo, register_yolo
from drivetrain.errors import DatasetError
from drivetrain.structures import BoxMode

Draw = Callable[..., Path]


@pytest.fixture
def yolo(tmp_path: Path, draw: Draw) -> Path:
    """Three training images of 20 x 10 pixels: one with two boxes, one with an outline, one without a label file."""
    root = tmp_path / "set"
    for name in ("b.jpg", "a.png", "sub/c.jpg"):
        draw(root / "images" / "train" / name)
    draw(root / "images" / "val" / "v.jpg")
    write(root, "train/b", "0 0.5 0.5 0.5 0.4\n\n1 0.25 0.5 0.5 1\n")
    write(root, "train/sub/c", "1 0.1 0.2 0.5 0.2 0.5 0.8\n")
    write(root, "val/v", "")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    return root / "data.yaml"


def write(root: Path, name: str, text: str) -> None:
    path = root / "labels" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def report_of(data_yaml: Path, split: str = "train") -> DefectReport:
    report = DefectReport(str(data_yaml))
    read_yolo(data_yaml, split, report)
    return report


def test_records_of_a_split(yolo: Path) -> None:
    records = load_yolo(yolo)
    images = yolo.parent / "images" / "train"
    assert [r["file_name"] for r in records] == [str(images / n) for n in ("a.png", "b.jpg", "sub/c.jpg")]
    assert [r["image_id"] for r in records] == ["images/train/a", "images/train/b", "images/train/sub/c"]
    assert all((r["height"], r["width"]) == (10, 20) for r in records)
    assert records[0]["annotations"] == []
    first, second = records[1]["annotations"]
    assert first == {
        "category_id": 0,
        "bbox": pytest.approx([5, 3, 10, 4]),
        "bbox_mode": BoxMode.XYWH_ABS,
        "iscrowd": 0,
    }
    assert second["bbox"] == pytest.approx([0, 0, 10, 10])
    (outlined,) = records[2]["annotations"]
    assert outlined["bbox"] == pytest.approx([2, 2, 8, 6])
    assert outlined["segmentation"] == [pytest.approx([2, 2, 10, 2, 10, 8])]


def test_where_labels_are() -> None:
    assert label_name("images/train/a.b.jpg") == "labels/train/a.b.txt"
    assert label_name("images/x/images/a.jpg") == "images/x/labels/a.txt"
    assert label_name("my_images/a.jpg") == "my_images/a.txt"
    assert label_name("images.jpg") == "images.txt"


def test_lists_of_images(yolo: Path) -> None:
    root = yolo.parent
    lines = ["images/train/b.jpg", "./images/val/v.jpg", str(root / "images" / "train" / "a.png"), ""]
    (root / "list.txt").write_text("\n".join(lines))
    yolo.write_text("train: list.txt\nval: [images/val, list.txt]\nnames: [cat, dog]\n")
    assert [r["image_id"] for r in load_yolo(yolo)] == ["images/train/a", "images/train/b", "images/val/v"]
    assert [r["image_id"] for r in load_yolo(yolo, "val")] == ["images/train/a", "images/train/b", "images/val/v"]


@pytest.mark.parametrize("place", ["../images/train", "./images/train", "images/train/"])
def test_usual_ways_to_name_a_folder(yolo: Path, place: str) -> None:
    yolo.write_text(f"train: {place}\nnames: [cat, dog]\n")
    assert len(load_yolo(yolo)) == 3


def test_a_root_beside_the_file(yolo: Path, tmp_path: Path) -> None:
    other = tmp_path / "configs" / "data.yaml"
    other.parent.mkdir()
    other.write_text("path: set\ntrain: images/train\nnames: [cat, dog]\n")
    with pytest.raises(DatasetError, match="'train' is 'images/train', which is not there inside .*give the folder"):
        load_yolo(other)
    assert len(load_yolo(other, root=tmp_path)) == 3


def test_keypoints(yolo: Path) -> None:
    yolo.write_text("train: images/train\nnames: [cat]\nkpt_shape: [2, 3]\nkpt_names: {0: [left_eye, right_eye]}\n")
    write(yolo.parent, "train/b", "0 0.5 0.5 0.5 0.4 0.5 0.5 2 0.1 0.1 1\n")
    write(yolo.parent, "train/sub/c", "")
    read = read_yolo(yolo, "train", report := DefectReport("x"))
    assert read is not None and not report
    assert read.metadata["keypoint_names"] == ["left_eye", "right_eye"]
    assert read.metadata["keypoint_flip_map"] == [("left_eye", "right_eye")]
    assert read.records[1]["annotations"][0]["keypoints"] == pytest.approx([10, 5, 2, 2, 1, 1])


def test_registered_datasets(yolo: Path) -> None:
    register_yolo("yolo_x", yolo, "val")
    metadata = MetadataCatalog.get("yolo_x")
    assert (metadata.data_yaml, metadata.split, metadata.evaluator_type) == (str(yolo), "val", "coco")
    assert len(DatasetCatalog.get("yolo_x")) == 1 and metadata.thing_classes == ["cat", "dog"]


def test_every_defect_is_told_at_once(yolo: Path) -> None:
    write(yolo.parent, "train/a", "0 0.5 0.5 0 0.4\n0 1.2 0.5 0.1 0.1\n0 0.9 0.5 0.4 0.4\n")
    write(yolo.parent, "train/b", "7 0.5 0.5 0.5 0.4\ncat 1 2 3 4\n0 320 200 20 20\n0 0.5 0.5\n")
    (yolo.parent / "images" / "train" / "d.jpg").write_text("no image")
    report = report_of(yolo)
    assert report.counts == {
        "malformed label": 4,
        "degenerate box": 1,
        "box outside the image": 1,
        "box over the edge": 1,
        "unreadable image": 1,
    }
    with pytest.raises(DatasetError, match="has 4 errors") as error:
        load_yolo(yolo)
    assert "labels/train/b.txt:1 has the class 7, but there are 2 (0 to 1)" in str(error.value)
    assert "labels/train/b.txt:4 has 3 numbers" in str(error.value)


def test_paths_that_lead_out_are_refused(yolo: Path, tmp_path: Path, draw: Draw) -> None:
    secret = draw(tmp_path / "secret" / "s.jpg")
    root = yolo.parent
    yolo.write_text(f"train: {secret.parent}\nval: ../secret\nnames: [cat]\n")
    assert report_of(yolo).counts == {"missing images": 1}
    assert report_of(yolo, "val").counts == {"missing images": 1}
    (root / "list.txt").write_text(f"{secret}\n../secret/s.jpg\nimages/val/v.jpg\n")
    yolo.write_text("train: list.txt\nnames: [cat]\n")
    report = report_of(yolo)
    assert report.counts == {"unsafe file name": 2} and "lies outside" in report.to_text()
    (root / "images" / "val" / "link.jpg").symlink_to(secret)
    (root / "linked").symlink_to(secret.parent)
    yolo.write_text("train: images/val\nval: linked\nnames: [cat]\n")
    assert report_of(yolo).counts == {"unsafe file name": 1}
    assert report_of(yolo, "val").has_errors
    (root / "labels" / "val" / "v.txt").unlink()
    (root / "labels" / "val" / "v.txt").symlink_to("/etc/hostname")
    assert report_of(yolo).counts == {"unsafe file name": 2, "no labels": 1}


def test_splits_that_are_not_there(yolo: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no split 'vla'; did you mean 'val'"):
        load_yolo(yolo, "vla")
    with pytest.raises(DatasetError, match=r"has no split 'test' \(it has: train, val\)"):
        load_yolo(yolo, "test")
    (yolo.parent / "images" / "empty").mkdir()
    yolo.write_text("train: images/empty\nval: images/none\nnames: [cat]\n")
    with pytest.raises(DatasetError, match="the split 'train' .* has no image"):
        load_yolo(yolo)
    with pytest.raises(DatasetError, match="'images/none', which is not there"):
        load_yolo(yolo, "val")


def test_a_set_without_any_label_file_is_a_mistake(yolo: Path) -> None:
    (yolo.parent / "labels").rename(yolo.parent / "lables")
    with pytest.raises(DatasetError, match=r"none of the 3 images has a label file .* 'labels/train/a\.txt'\)"):
        load_yolo(yolo)


def test_paths_of_windows(yolo: Path) -> None:
    yolo.write_text("train: images\\train\nval: ..\\images\\val\nnames: [cat, dog]\n")
    assert len(load_yolo(yolo)) == 3 and len(load_yolo(yolo, "val")) == 1
    (yolo.parent / "list.txt").write_bytes(b".\\images\\train\\b.jpg\r\nimages\\train\\a.png\r\n")
    yolo.write_text("train: list.txt\nnames: [cat, dog]\n")
    assert [r["image_id"] for r in load_yolo(yolo)] == ["images/train/a", "images/train/b"]


def test_a_listed_image_that_is_missing_may_be_elsewhere(yolo: Path) -> None:
    (yolo.parent / "list.txt").write_text("data/images/train/b.jpg\n")
    yolo.write_text("train: list.txt\nnames: [cat, dog]\n")
    assert "b.jpg' in" in (text := report_of(yolo).to_text())
    assert "does not exist; there is 'images/train/b.jpg': name the files relative to the folder" in text


def test_labels_as_tools_write_them(yolo: Path) -> None:
    labels = yolo.parent / "labels" / "train" / "b.txt"
    labels.write_bytes(b"\xef\xbb\xbf0 0.5 0.5 0.5 0.4  \r\n\r\n1.0\t0.25 0.5 0.5 1 \r\n")
    record = next(r for r in load_yolo(yolo) if r["image_id"].endswith("/b"))
    assert [a["category_id"] for a in record["annotations"]] == [0, 1]
