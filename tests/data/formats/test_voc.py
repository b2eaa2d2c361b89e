from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.defects import DefectReport
from drivetrain.data.formats.voc import (
    VOC_CLASSES,
    annotation_folder,
    load_voc_instances,
    read_voc,
    register_pascal_voc,
    voc_splits,
)
from drivetrain.errors import DatasetError
from drivetrain.structures import BoxMode

Draw = Callable[..., Path]

SIZE = "<size><width>20</width><height>10</height><depth>3</depth></size>"


def xml(*objects: str, size: str = SIZE, file_name: str = "other.jpg") -> str:
    return f"<annotation><filename>{file_name}</filename>{size}{''.join(objects)}</annotation>"


def item(name: str, x0: float, y0: float, x1: float, y1: float, difficult: int = 0) -> str:
    box = f"<xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox></object>"


@pytest.fixture
def challenge(tmp_path: Path, draw: Draw) -> Path:
    """Two images in the folders of the challenge, and a third that no list names."""
    root = tmp_path / "VOC"
    for name in ("a.jpg", "b.png", "c.jpg"):
        draw(root / "JPEGImages" / name)
    (root / "Annotations").mkdir()
    (root / "Annotations" / "a.xml").write_text(xml(item("dog", 1, 1, 20, 10), item("cat", 3, 4, 5, 6, 1)))
    (root / "Annotations" / "b.xml").write_text(xml(size=""))
    (root / "Annotations" / "c.xml").write_text(xml(item("person", 2, 2, 4, 4)))
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("b\na\n")
    (lists / "val.txt").write_text("c\n")
    (lists / "cat_train.txt").write_text("a  1\nb -1\n")
    return root


def report_of(root: Path, split: str | None = None, names: list[str] | None = None) -> DefectReport:
    report = DefectReport(str(root))
    read_voc(root, split, names, report)
    return report


def test_records_of_a_split(challenge: Path) -> None:
    records = load_voc_instances(challenge, "train", VOC_CLASSES)
    # The files count pixels from 1 and include the last: 1 to 20 is a whole image of 20 pixels.
    assert records == [
        {
            "file_name": str(challenge / "JPEGImages" / "b.png"),
            "image_id": "b",
            "height": 10,
            "width": 20,
            "annotations": [],
        },
        {
            "file_name": str(challenge / "JPEGImages" / "a.jpg"),
            "image_id": "a",
            "height": 10,
            "width": 20,
            "annotations": [
                {
                    "category_id": 11,
                    "bbox": [0, 0, 20, 10],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "iscrowd": 0,
                    "difficult": 0,
                },
                {"category_id": 7, "bbox": [2, 3, 5, 6], "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0, "difficult": 1},
            ],
        },
    ]


def test_splits_and_all_files(challenge: Path) -> None:
    (challenge / "images").mkdir()
    assert voc_splits(challenge) == ["train", "val"]
    assert [r["image_id"] for r in load_voc_instances(challenge)] == ["a", "b", "c"]
    assert [r["image_id"] for r in load_voc_instances(challenge, "cat_train")] == ["a", "b"]


def test_a_plain_folder_of_images_and_xml_files(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "x.jpg")
    draw(tmp_path / "named.jpg")
    (tmp_path / "x.xml").write_text(xml(item("bolt", 1, 1, 5, 5)))
    (tmp_path / "y.xml").write_text(xml(item("nut", 1, 1, 5, 5), file_name="named.jpg"))
    read = read_voc(tmp_path, None, None, report := DefectReport("x"))
    assert read is not None and not report
    assert [r["file_name"] for r in read.records] == [str(tmp_path / "x.jpg"), str(tmp_path / "named.jpg")]
    assert read.metadata == {"thing_classes": ["bolt", "nut"]}


def test_class_names_are_those_given_those_of_the_file_or_those_of_voc(challenge: Path) -> None:
    names = read_voc(challenge, None, None, DefectReport("x"))
    assert names is not None and names.metadata["thing_classes"] == list(VOC_CLASSES)
    (challenge / "classes.txt").write_text("person\ndog\ncat\n")
    listed = load_voc_instances(challenge, "train")
    assert [a["category_id"] for a in listed[1]["annotations"]] == [1, 2]


def test_registered_datasets(challenge: Path) -> None:
    register_pascal_voc("voc_x", challenge, "train", 2007, ["cat", "dog"])
    metadata = MetadataCatalog.get("voc_x")
    assert (metadata.dirname, metadata.split, metadata.year) == (str(challenge), "train", 2007)
    assert metadata.evaluator_type == "pascal_voc" and metadata.thing_classes == ["cat", "dog"]
    assert [a["category_id"] for a in DatasetCatalog.get("voc_x")[1]["annotations"]] == [1, 0]
    register_pascal_voc("voc_y", challenge, "val", 2012, None)
    DatasetCatalog.get("voc_y")
    assert MetadataCatalog.get("voc_y").thing_classes == list(VOC_CLASSES)
    with pytest.raises(DatasetError, match="dirname of dataset 'voc_z' must be a path"):
        register_pascal_voc("voc_z", None, "val", 2012)  # type: ignore[arg-type]


def test_every_defect_is_told_at_once(challenge: Path) -> None:
    folder = challenge / "Annotations"
    (folder / "d.xml").write_text("<annotation>")
    (folder / "e.xml").write_text(xml(item("dgo", 1, 1, 5, 5), file_name="c.jpg"))
    (folder / "f.xml").write_text(xml("<object><name>dog</name></object>", file_name="c.jpg"))
    (folder / "g.xml").write_text(xml(item("dog", 5, 5, 2, 2), item("dog", 1, 1, 40, 10), file_name="c.jpg"))
    (folder / "h.xml").write_text(xml(file_name="../../secret.jpg"))
    (folder / "i.xml").write_text(xml(file_name="missing.jpg"))
    report = report_of(challenge, None, list(VOC_CLASSES))
    assert report.counts == {
        "malformed XML": 1,
        "unknown class": 1,
        "malformed object": 1,
        "degenerate box": 1,
        "box over the edge": 1,
        "unsafe file name": 1,
        "missing image": 1,
    }
    with pytest.raises(DatasetError, match="has 5 errors") as error:
        load_voc_instances(challenge, None, VOC_CLASSES)
    text = str(error.value)
    assert "e.xml, object 1 (dgo) is of the class 'dgo', which is not among the 20 classes; did you mean 'dog'" in text
    assert "'../../secret.jpg'" in text and "climbs out of the folder" in text
    assert "'missing.jpg'" in text and "does not exist" in text


def test_lists_with_wrong_names(challenge: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no list .*vla\.txt'; did you mean 'val'\? \(there: train, val\)"):
        load_voc_instances(challenge, "vla")
    with pytest.raises(DatasetError, match="there is no list"):
        load_voc_instances(challenge, "../../../etc/hostname")
    (challenge / "ImageSets" / "Main" / "val.txt").write_text("../../secret\nnone\n")
    (tmp_path / "secret.xml").write_text(xml())
    report = report_of(challenge, "val")
    assert report.counts == {"unsafe file name": 1, "missing annotation": 1}
    (challenge / "ImageSets" / "Main" / "val.txt").write_text("\n")
    assert report_of(challenge, "val").counts == {"empty list": 1}


def test_links_that_lead_out_are_not_followed(challenge: Path, tmp_path: Path, draw: Draw) -> None:
    secret = draw(tmp_path / "secret.jpg")
    (challenge / "JPEGImages" / "c.jpg").unlink()
    (challenge / "JPEGImages" / "c.jpg").symlink_to(secret)
    report = report_of(challenge)
    assert report.counts == {"unsafe file name": 1} and "through a link" in report.to_text()


def test_folders_without_annotations(tmp_path: Path) -> None:
    assert report_of(tmp_path / "none").counts == {"missing folder": 1}
    assert report_of(tmp_path).counts == {"no annotation": 1}


def test_an_image_that_cannot_be_measured_is_left_out(challenge: Path) -> None:
    (challenge / "JPEGImages" / "b.png").write_text("no image")
    assert [r["image_id"] for r in load_voc_instances(challenge)] == ["a", "c"]
    (challenge / "ImageSets" / "Main" / "val.txt").write_text("b\n")
    with pytest.raises(DatasetError, match="no image of .* can be used"):
        load_voc_instances(challenge, "val")


@pytest.mark.parametrize("lines", ["my cat 1\nIMG 0 1\n", '"my cat"\n"IMG 0 1"\n', "my cat  1\nIMG 0 1 -1\n"])
def test_names_with_spaces_in_lists(challenge: Path, draw: Draw, lines: str) -> None:
    for name in ("my cat", "IMG 0 1", "IMG 0"):
        draw(challenge / "JPEGImages" / f"{name}.JPG")
        (challenge / "Annotations" / f"{name}.xml").write_text(xml())
    (challenge / "ImageSets" / "Main" / "val.txt").write_text(lines)
    assert [r["image_id"] for r in load_voc_instances(challenge, "val")] == ["my cat", "IMG 0 1"]


def test_the_name_of_a_listed_file_that_is_missing(challenge: Path) -> None:
    (challenge / "ImageSets" / "Main" / "val.txt").write_text("no such cat 1\n")
    assert "no such cat.xml' does not exist" in report_of(challenge, "val").to_text()


def test_folders_of_other_names(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "images" / "a.png")
    assert annotation_folder(tmp_path) == ""
    (tmp_path / "annotations").mkdir()
    assert annotation_folder(tmp_path) == ""
    (tmp_path / "annotations" / "a.xml").write_text(xml(item("hat", 1, 1, 5, 5)))
    assert annotation_folder(tmp_path) == "annotations"
    (record,) = load_voc_instances(tmp_path)
    assert record["file_name"] == str(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "a.png").unlink()
    draw(tmp_path / "images" / "A.PNG")
    (tmp_path / "annotations" / "a.xml").write_text(xml(file_name="sub/A.PNG"))
    assert "there is 'A.PNG': name the files relative" in report_of(tmp_path).to_text()


def test_suffixes_in_capitals(challenge: Path) -> None:
    (challenge / "Annotations" / "a.xml").rename(challenge / "Annotations" / "a.XML")
    assert [r["image_id"] for r in load_voc_instances(challenge)] == ["a", "b", "c"]
    assert [len(r["annotations"]) for r in load_voc_instances(challenge, "train")] == [0, 2]


def test_classes_listed_with_their_colours(challenge: Path) -> None:
    (challenge / "labelmap.txt").write_text("# label:color_rgb\nbackground:0,0,0::\ndog:1,1,1::\ncat:2,2,2::\n")
    read = read_voc(challenge, "train", None, DefectReport("x"))
    assert read is not None and read.metadata["thing_classes"] == ["dog", "cat"]
    (challenge / "labelmap.txt").write_text("background:0,0,0::\n")
    read = read_voc(challenge, "train", None, DefectReport("x"))
    assert read is not None and read.metadata["thing_classes"] == list(VOC_CLASSES)
    (challenge / "labelmap.txt").write_bytes(b"\xff")
    assert report_of(challenge, "train").counts == {"unreadable list": 1}


def test_what_labelling_tools_leave_out_or_add(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "IMG (2).JPG")
    box = "<bndbox><xmin>1.5</xmin><ymin> 2 </ymin><xmax>9</xmax><ymax>8</ymax></bndbox>"
    more = "<attributes><attribute><name>colour</name><value>red</value></attribute></attributes>"
    first = f"<object><name> hat </name><pose>Unspecified</pose>{box}</object>"
    second = f"<object><name>hat</name><occluded>1</occluded>{box}{more}</object>"
    path = "<path>C:\\Users\\me\\IMG (2).JPG</path>"
    (tmp_path / "IMG (2).xml").write_text(xml(path, first, second, file_name="IMG (2).JPG"))
    (record,) = load_voc_instances(tmp_path)
    assert [(a["bbox"], a["difficult"]) for a in record["annotations"]] == [([0.5, 1, 9, 8], 0)] * 2
