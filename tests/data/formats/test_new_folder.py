from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.data.formats.new_folder import new_folder, put_image
from drivetrain.errors import DatasetError, OutputError


def test_it_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    with new_folder(target) as folder:
        (folder / "x").write_text("1")
        assert not target.exists() and folder.parent == target.parent
    assert [p.name for p in target.iterdir()] == ["x"] and [p.name for p in (tmp_path / "a").iterdir()] == ["b"]
    assert target.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [DatasetError("x"), KeyboardInterrupt(), ValueError("x")])
def test_an_error_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), new_folder(tmp_path / "a" / "b") as folder:
        (folder / "x").write_text("1")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="'.*b' cannot be written: No space"), new_folder(tmp_path / "b"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as folder:
        (folder / "x").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    for name in ("empty", "file", "link"):
        with (
            pytest.raises(OutputError, match="exists already and nothing in it is overwritten"),
            new_folder(tmp_path / name),
        ):
            pass
    with pytest.raises(OutputError, match="cannot be written"), new_folder(tmp_path / "file" / "x"):
        pass
    assert sorted(tmp_path.rglob("*")) == before


def test_images_are_copied_or_linked(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    source.write_bytes(b"pixels")
    put_image(str(source), tmp_path / "sub" / "copy.jpg", "copy")
    put_image(str(source), tmp_path / "sub" / "link.jpg", "link")
    put_image(str(source), tmp_path / "sub" / "none.jpg", "none")
    assert sorted(p.name for p in (tmp_path / "sub").iterdir()) == ["copy.jpg", "link.jpg"]
    assert (tmp_path / "sub" / "link.jpg").samefile(source) and not (tmp_path / "sub" / "copy.jpg").samefile(source)
    assert (tmp_path / "sub" / "copy.jpg").read_bytes() == b"pixels"
    with pytest.raises(OutputError, match=r"link\.jpg': File exists; copy the images instead"):
        put_image(str(source), tmp_path / "sub" / "link.jpg", "link")
    with pytest.raises(OutputError, match=r"none\.jpg' cannot be put"):
        put_image(str(tmp_path / "none.jpg"), tmp_path / "sub" / "x.jpg", "copy")
