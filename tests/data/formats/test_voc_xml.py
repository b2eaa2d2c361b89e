from __future__ import annotations

import time
from pathlib import Path

import pytest

from drivetrain.data.formats.voc_xml import VocObject, read_voc_xml
from drivetrain.errors import DatasetError

OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult>"
    "<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
)


def write(folder: Path, *objects: str, head: str = "<filename>a.jpg</filename>", before: str = "") -> Path:
    path = folder / "a.xml"
    path.write_text(f"{before}<annotation>{head}{''.join(objects)}</annotation>", encoding="utf-8")
    return path


def item(box: tuple[object, ...] = (1, 2, 3, 4), name: str = "dog", difficult: object = 0) -> str:
    return OBJECT.format(box=box, name=name, difficult=difficult)


def test_what_a_file_says(tmp_path: Path) -> None:
    head = "<filename> a.jpg </filename><size><width>500</width><height>375</height></size>"
    file = read_voc_xml(write(tmp_path, item(), item((1.5, 2, 30, 40.25), "traffic light", 1), head=head))
    assert (file.file_name, file.size) == ("a.jpg", (375, 500))
    assert file.objects == [
        VocObject("object 1 (dog)", "dog", (1, 2, 3, 4), 0),
        VocObject("object 2 (traffic light)", "traffic light", (1.5, 2, 30, 40.25), 1),
    ]


def test_parts_of_objects_do_not_count(tmp_path: Path) -> None:
    nested = item().replace("</object>", "<part><name>head</name><bndbox><xmin>9</xmin></bndbox></part></object>")
    assert read_voc_xml(write(tmp_path, nested)).objects == [VocObject("object 1 (dog)", "dog", (1, 2, 3, 4))]


@pytest.mark.parametrize("size", ["", "<size/>", "<size><width>0</width><height>0</height></size>", "<size>5</size>"])
def test_a_size_that_is_not_given(tmp_path: Path, size: str) -> None:
    assert read_voc_xml(write(tmp_path, head=size)).size is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<object><bndbox/></object>", "has no <name>"),
        ("<object><name>dog</name></object>", "has no xmin, no ymin, no xmax, no ymax; its <bndbox> must have four"),
        (item(("x", 2, 3, "nan")), "has xmin 'x', ymin '2', xmax '3', ymax 'nan'; its <bndbox>"),
        (item(difficult="yes"), "has <difficult> 'yes'; it is 0 or 1"),
    ],
)
def test_malformed_objects(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = read_voc_xml(write(tmp_path, text)).objects
    assert problem in found.problem


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is not XML at line 1, column 0: no element found"),
        (b"<annotation>\n<object></annotation>", "is not XML at line 2, column 10: mismatched tag"),
        (b"<html/>", "begins with <html>, not <annotation>"),
        (b"<?xml version='1.0' encoding='no-such'?><annotation/>", "is not XML"),
        (b"<annotation>&what;</annotation>", "undefined entity"),
        (b"\xff\xfe\x00", "is not XML"),
    ],
)
def test_files_that_are_not_annotations(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "a.xml").write_bytes(content)
    with pytest.raises(DatasetError, match=why) as error:
        read_voc_xml(tmp_path / "a.xml")
    assert "a.xml" in str(error.value)


LAUGHS = "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(12))


@pytest.mark.parametrize(
    "doctype",
    [
        f'<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa">{LAUGHS}]>',
        '<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE annotation SYSTEM "http://127.0.0.1:9/x.dtd">',
        '<!DOCTYPE annotation [<!ENTITY % x SYSTEM "file:///dev/zero"> %x;]>',
    ],
)
def test_document_types_are_refused_before_anything_in_them_is_read(tmp_path: Path, doctype: str) -> None:
    head = "<filename>&m;&x;</filename>"
    start = time.monotonic()
    with pytest.raises(DatasetError, match=r"a\.xml' has a document type declaration \(<!DOCTYPE annotation>\)"):
        read_voc_xml(write(tmp_path, head=head, before=f'<?xml version="1.0"?>{doctype}'))
    assert time.monotonic() - start < 1.0


def test_deep_and_long_files_end(tmp_path: Path) -> None:
    deep = write(tmp_path, "<a>" * 200_000 + "</a>" * 200_000)
    assert read_voc_xml(deep).objects == []
    deep.write_bytes(b"<annotation>" + b" " * (1 << 24))
    with pytest.raises(DatasetError, match=r"bytes, more than the 16,777,216"):
        read_voc_xml(deep)


@pytest.mark.parametrize(("text", "difficult"), [("", 0), (" ", 0), ("Unspecified", 0), ("1", 1), (" 0\n", 0)])
def test_marks_as_tools_write_them(tmp_path: Path, text: str, difficult: int) -> None:
    (found,) = read_voc_xml(write(tmp_path, item(difficult=text))).objects
    assert (found.difficult, found.problem) == (difficult, "")
