"""Frames of videos, read and written."""

from __future__ import annotations

import builtins
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from drivetrain.engine.defaults.video import VideoFrames, VideoWriter, is_video
from drivetrain.errors import DatasetError, MissingDependencyError, OutputError

Pixels = np.ndarray[Any, Any]
SIZE = (48, 64)
CODECS = {"mp4": "libx264", "mov": "mpeg4", "mkv": "libx264", "webm": "libvpx-vp9", "avi": "mpeg4", "ts": "libx264"}


def shades(count: int, size: tuple[int, int] = SIZE) -> list[Pixels]:
    """Frames whose left half tells their number, in red, and whose right half is blue."""
    frames = []
    for number in range(count):
        frame = np.zeros((*size, 3), np.uint8)
        frame[:, : size[1] // 2, 0] = 40 + 8 * number
        frame[:, size[1] // 2 :, 2] = 200
        frames.append(frame)
    return frames


def write(path: Path, frames: list[Pixels], codec: str = "libx264", rate: Fraction | int = 25, **options: str) -> Path:
    """A video written by PyAV alone."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def noise(count: int) -> list[Pixels]:
    """Frames that do not compress, so that a file cut in half has lost frames."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(count)]


def assert_near(frames: list[Pixels], expected: list[Pixels], tolerance: float = 12) -> None:
    """Compression changes pixels a little, most at the edge between the colours."""
    assert len(frames) == len(expected)
    for frame, original in zip(frames, expected, strict=True):
        assert frame.shape == original.shape and frame.dtype == np.uint8
        assert np.abs(frame.astype(int) - original.astype(int)).mean() < tolerance


@pytest.mark.parametrize("kind", CODECS)
def test_frames_of_every_container(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a.{kind}", shades(12), CODECS[kind])
    assert is_video(path)
    video = VideoFrames(path)
    frames = list(video)
    assert_near(frames, shades(12))
    reds = [int(frame[10, 10, 0]) for frame in frames]
    assert reds == sorted(reds) and reds[-1] - reds[0] > 60  # in their order
    assert video.rate == 25 and all(frame.flags.c_contiguous and frame.flags.writeable for frame in frames)
    assert_near(list(video), shades(12))  # from the start again
    assert_near([frame[:, :, ::-1] for frame in VideoFrames(path, "BGR")], shades(12))
    with pytest.raises(AssertionError):  # and the order of the channels would be seen
        assert_near([frame[:, :, ::-1] for frame in video], shades(12))


def test_the_rate_may_be_a_fraction(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", shades(3), rate=Fraction(30000, 1001))
    assert VideoFrames(path).rate == Fraction(30000, 1001)


@pytest.mark.parametrize(("quarters", "matrix"), [(-1, (0, 1, -1, 0)), (1, (0, -1, 1, 0)), (2, (-1, 0, 0, -1))])
def test_a_video_that_says_how_it_was_held_is_turned_upright(
    quarters: int, matrix: tuple[int, ...], tmp_path: Path
) -> None:
    """As phones write it: the display matrix of the track header (ISO 14496-12, 8.3.2) turns the picture."""
    path = write(tmp_path / "a.mp4", shades(2))
    content = bytearray(path.read_bytes())
    start = content.find(b"tkhd") + 4 + 4 + 20 + 16  # version and flags, times and ids, layer and volume
    assert struct.unpack(">9i", content[start : start + 36])[0] == 1 << 16
    a, b, c, d = (v << 16 for v in matrix)
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    assert_near(list(VideoFrames(path)), [np.rot90(frame, quarters) for frame in shades(2)])


def test_frames_are_decoded_as_they_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", shades(4))
    frames = iter(VideoFrames(path))
    next(frames)
    path.unlink()  # open until the iterator is closed
    assert len(list(frames)) == 3


def test_an_animated_gif(tmp_path: Path) -> None:
    pictures = [Image.fromarray(frame) for frame in shades(5)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=40)
    video = VideoFrames(tmp_path / "a.gif")
    assert_near(list(video), shades(5))
    assert video.rate == 25 and not is_video("a.gif")
    pictures[0].save(tmp_path / "one.gif")
    assert len(list(VideoFrames(tmp_path / "one.gif", "BGR"))) == 1 and VideoFrames(tmp_path / "one.gif").rate == 10


@pytest.mark.parametrize("kind", ["mp4", "avi", "webm", "gif"])
@pytest.mark.parametrize("content", [b"", b"junk" * 300])
def test_what_is_no_video(kind: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"video '.*a\.{kind}' is damaged or no ") as raised:
        VideoFrames(path)
    assert "\n" not in str(raised.value)


def test_missing_and_folder_and_formats(tmp_path: Path) -> None:
    for name in ("none.mp4", "none.gif"):
        with pytest.raises(DatasetError, match=r"none\.\w+' does not exist"):
            VideoFrames(tmp_path / name)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(DatasetError, match=r"folder\.mp4' cannot be read: Is a directory"):
        VideoFrames(tmp_path / "folder.mp4")
    with pytest.raises(DatasetError, match="'L' was asked for"):
        VideoFrames(tmp_path / "none.mp4", "L")


@pytest.mark.parametrize(("kind", "options"), [("mp4", {"movflags": "faststart"}), ("avi", {}), ("mp4", {})])
def test_a_video_that_was_cut_off_ends_with_an_error(kind: str, options: dict[str, str], tmp_path: Path) -> None:
    path = write(tmp_path / f"a.{kind}", noise(40), CODECS[kind], **options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=r"a\.\w+' is damaged or"):
        list(VideoFrames(path))


def test_damage_in_the_middle(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", noise(40))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4000] = bytes(4000)
    path.write_bytes(content)
    read = []
    with pytest.raises(DatasetError, match=r"a\.mp4' is damaged"):
        read.extend(VideoFrames(path))


def test_a_video_without_a_picture(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(DatasetError, match=r"sound\.mp4' holds no picture"):
        VideoFrames(tmp_path / "sound.mp4")
    path = write(tmp_path / "cut.mkv", shades(20), rate=25)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # all that is left is the header
    with pytest.raises(DatasetError, match=r"cut\.mkv' holds no picture: it is empty or cut off"):
        list(VideoFrames(path))


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {path}\n",
    ],
)
def test_lists_of_other_files_are_not_followed(playlist: str, tmp_path: Path) -> None:
    path = write(tmp_path / "secret.ts", shades(3))
    (tmp_path / "list.mp4").write_text(playlist.format(path=path))
    with pytest.raises(DatasetError, match=r"list\.mp4' is damaged or no video"):
        VideoFrames(tmp_path / "list.mp4")


def test_addresses_are_not_opened() -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        VideoFrames("http://127.0.0.1:9/a.mp4")


def test_large_frames_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", shades(2))
    with pytest.raises(DatasetError, match=r"64 x 48 = 3,072 pixels, over the limit of 3,071"):
        VideoFrames(path, max_pixels=3071)
    Image.fromarray(shades(1)[0]).save(tmp_path / "a.gif")
    with pytest.raises(DatasetError, match="over the limit"):
        VideoFrames(tmp_path / "a.gif", max_pixels=3071)


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_written_frames_come_back(size: tuple[int, int], tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", Fraction(30000, 1001)) as writer:
        for frame in shades(10, size):
            writer.add(frame)
    video = VideoFrames(tmp_path / "a.mp4")
    frames = [frame[: size[0], : size[1]] for frame in video]  # sizes are even in the file
    assert_near(frames, shades(10, size))
    assert video.rate == Fraction(30000, 1001)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_frames_of_another_size_are_scaled_to_the_first(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for frame in (shades(1)[0], shades(1, (96, 128))[0]):
            writer.add(frame)
    assert_near(list(VideoFrames(tmp_path / "a.mp4")), shades(1) * 2)


def test_an_error_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> None:
        with VideoWriter(tmp_path / "a.mp4") as writer:
            for frame in noise(90):  # more than the encoder keeps to itself
                writer.add(frame)
            assert list(tmp_path.iterdir())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    with VideoWriter(tmp_path / "b.mp4"):
        pass  # nothing was added
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"a\.mp4 cannot be written: No such file"),
        VideoWriter(tmp_path / "none" / "a.mp4") as writer,
    ):
        writer.add(shades(1)[0])


@pytest.mark.parametrize(
    "use", [lambda folder: VideoFrames(folder / "a.mp4"), lambda folder: VideoWriter(folder / "b.mp4")]
)
def test_without_the_library_the_extra_is_named(
    use: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.mp4", shades(1))
    found = builtins.__import__

    def without_av(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "av":
            raise ImportError(name)
        return found(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(MissingDependencyError, match=r"PyAV, .* pip install 'drivetrain\[video\]'"):
        use(tmp_path)
