"""Videos: their frames as arrays, and arrays as the frames of a video.

Video files are read and written by PyAV, the extra ``video``, which brings FFmpeg with it; animated GIFs are read by
Pillow. A video comes from somewhere else and is not trusted: only containers are opened that hold their own content (no
playlists, which may name other files and addresses), and no frames beyond a number of pixels.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageSequence

from drivetrain.data.images import MAX_PIXELS, convert_PIL_to_numpy
from drivetrain.errors import DatasetError, MissingDependencyError, OutputError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["VideoFrames", "VideoWriter", "is_video"]

UInt8Array = np.ndarray[Any, np.dtype[np.uint8]]

_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".3gp", ".ogv"}
)
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,asf,flv,ogg"
_USUAL_RATE = Fraction(25)  # where a file does not tell


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a file's suffix is that of a video; an animated GIF counts as an image."""
    return Path(path).suffix.lower() in _SUFFIXES


class VideoFrames:
    """The frames of a video file or an animated GIF, each turned upright.

    Iterating reads the file from its start and decodes as it goes, so that memory does not grow with the length.

    Args:
        path: the file.
        format: the channel order of the frames, ``"RGB"`` or ``"BGR"``.
        max_pixels: a video of larger frames is refused.

    Attributes:
        path: as given.
        rate: frames per second, the mean where it varies.

    Raises:
        DatasetError: the file is missing, no video, damaged, too large or without a picture; at once where its header
            tells, else while iterating.
        MissingDependencyError: PyAV is not installed, and the file is no GIF.
    """

    def __init__(self, path: str | os.PathLike[str], format: str = "RGB", *, max_pixels: int = MAX_PIXELS) -> None:
        if format not in ("RGB", "BGR"):
            raise DatasetError(f"video frames have the format 'RGB' or 'BGR', but {format!r} was asked for")
        self.path = os.fspath(path)
        self._format = format
        self._max_pixels = max_pixels
        self._is_gif = Path(self.path).suffix.lower() == ".gif"
        if self._is_gif:
            with _opened_gif(self.path) as image:
                self._check_size(*image.size)
                milliseconds = int(image.info.get("duration", 0))
            self.rate = Fraction(1000, milliseconds) if milliseconds > 0 else Fraction(10)  # as browsers show them
        else:
            with _opened_video(self.path) as (_, stream):
                self._check_size(stream.width, stream.height)
                self.rate = Fraction(stream.average_rate or stream.guessed_rate or _USUAL_RATE)

    def __iter__(self) -> Iterator[UInt8Array]:
        """The frames: uint8, shape (height, width, 3), contiguous, each its own memory."""
        empty = True
        for frame in self._gif_frames() if self._is_gif else self._video_frames():
            empty = False
            yield frame
        if empty:
            raise DatasetError(f"video {self.path!r} holds no picture: it is empty or cut off")

    def _gif_frames(self) -> Iterator[UInt8Array]:
        with _opened_gif(self.path) as image:
            for frame in ImageSequence.Iterator(image):
                yield convert_PIL_to_numpy(frame, self._format)

    def _video_frames(self) -> Iterator[UInt8Array]:
        with _opened_video(self.path) as (container, stream):
            stream.thread_type = "AUTO"
            for packet in container.demux(stream):
                for frame in packet.decode():
                    if packet.is_corrupt or frame.is_corrupt:
                        raise DatasetError(f"video {self.path!r} is damaged or cut off {_where(frame)}")
                    self._check_size(frame.width, frame.height)
                    pixels = np.asarray(frame.to_ndarray(format=f"{self._format.lower()}24"), dtype=np.uint8)
                    # The angle is counterclockwise, as numpy's quarters of a turn are.
                    yield np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise DatasetError(
                f"video {self.path!r} has frames of {width} x {height} = {width * height:,} pixels, over the limit of "
                f"{self._max_pixels:,}; scale it down or raise max_pixels"
            )


class VideoWriter:
    """Writes pictures as an mp4 video, for use in a ``with`` statement.

    The file appears whole when the block ends, or not at all when an error ends it or nothing was added.

    Args:
        path: the file, ``.mp4``; its folder has to exist.
        rate: frames per second.

    Raises:
        MissingDependencyError: PyAV is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], rate: Fraction | int = _USUAL_RATE) -> None:
        self.path = Path(path)
        self._av = _import_av(f"writing video {os.fspath(path)!r}")
        self._rate = max(Fraction(rate).limit_denominator(1001), Fraction(1, 1001))
        self._temporary = self.path.with_name(f".{self.path.name[:100]}.{secrets.token_hex(4)}.tmp")
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> VideoWriter:
        """The writer."""
        return self

    def add(self, picture: UInt8Array) -> None:
        """Append one frame.

        Args:
            picture: uint8, shape (height, width, 3), RGB. The first one sets the size of the video, rounded up to even
                numbers as its colours are stored at half the size; later ones are scaled to it.

        Raises:
            OutputError: the file cannot be written.
        """
        height, width = picture.shape[:2]
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        with self._errors_named():
            if self._container is None:
                self._open(even.shape[1], even.shape[0])
            frame = frame.reformat(self._stream.width, self._stream.height, "yuv420p")
            self._container.mux(self._stream.encode(frame))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Finish the file, or take it back."""
        if self._container is None:
            return
        try:
            if kind is not None:
                with suppress(OSError, self._av.FFmpegError):  # the error that led here is the one to see
                    self._container.close()
                return
            with self._errors_named():
                self._container.mux(self._stream.encode())
                self._container.close()
                os.replace(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _open(self, width: int, height: int) -> None:
        self._container = self._av.open(str(self._temporary), "w", format="mp4")
        # Every player shows H.264; builds of FFmpeg without its encoder have MPEG-4's.
        codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        self._stream = self._container.add_stream(codec, rate=self._rate)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, self._av.FFmpegError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"video {self.path} cannot be written: {reason}; choose another folder") from error


def _where(frame: Any) -> str:
    return f"at {frame.time:.2f} s" if frame.time is not None else "somewhere"


def _import_av(purpose: str) -> ModuleType:
    try:
        import av
    except ImportError:
        raise MissingDependencyError.for_extra("PyAV", "video", purpose) from None
    return av


@contextmanager
def _opened_video(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A video file and its main picture stream; whatever FFmpeg has to say about it is raised as DatasetError."""
    av = _import_av(f"reading video {path!r}")
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below; errors of opening and of decoding are told apart
    except FileNotFoundError:
        raise DatasetError(f"video {path!r} does not exist") from None
    except OSError as error:
        raise DatasetError(f"video {path!r} cannot be read: {error.strerror or error}") from error
    try:
        # FFmpeg gets an open file rather than a name, which it might take for an address.
        with file, av.open(file, options={"format_whitelist": _CONTAINERS}) as container:
            stream = container.streams.best("video")
            if stream is None:
                raise DatasetError(f"video {path!r} holds no picture")
            yield container, stream
    except (av.FFmpegError, OSError) as error:  # the latter where damaged numbers point outside the file
        raise DatasetError(f"video {path!r} is damaged or no video ({error.strerror})") from error


@contextmanager
def _opened_gif(path: str) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=("GIF",)) as image:
            yield image
    except FileNotFoundError:
        raise DatasetError(f"video {path!r} does not exist") from None
    except DatasetError:
        raise
    except Exception as error:  # decoders meet damaged files with almost any exception
        raise DatasetError(f"video {path!r} is damaged or no GIF: {error}") from error
