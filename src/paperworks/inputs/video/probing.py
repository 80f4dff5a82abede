"""What a video file is, without decoding it; and which files of a folder are videos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paperworks.errors import InputError
from paperworks.extras import require_extra

VIDEO_SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mkv",
    ".webm",
    ".mov",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mts",
    ".wmv",
    ".flv",
    ".ogv",
)
EXPECTED = "a video file that ffmpeg reads, such as .mp4, .mkv or .webm"


@dataclass(frozen=True)
class VideoInfo:
    """What the header of a video says.

    Attributes
    ----------
    path : the file.
    duration : seconds, or None where the header has none.
    width, height : pixels of the picture as it is shown (a turned phone's video is turned).
    fps : frames a second on average, or None.
    codec : such as "h264".
    has_audio : whether there is sound.
    """

    path: Path
    duration: float | None
    width: int
    height: int
    fps: float | None
    codec: str
    has_audio: bool


@contextmanager
def open_container(path: str | Path) -> Iterator[Any]:
    """An open container of PyAV. Raises InputError for a file that is missing or that ffmpeg does not read."""
    require_extra("video", "reading videos")
    import av
    from av.error import FFmpegError

    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(str(path), "a folder" if path.is_dir() else "no such file", EXPECTED)
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(str(path), f"a file that cannot be opened as a video ({reason})", EXPECTED) from None
    with container:
        yield container


def video_stream(container: Any, path: str | Path) -> Any:
    """The first stream of pictures that is no cover image. Raises InputError if there is none."""
    for stream in container.streams.video:
        attached = "attached_pic" in str(stream.disposition)
        if not attached and stream.codec_context is not None and stream.codec_context.width:
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no stream"
    raise InputError(str(path), f"a file with {kinds}, without moving pictures", EXPECTED)


def probe_video(path: str | Path) -> VideoInfo:
    """What the header says. The picture's turn is read from the first frame.

    Raises
    ------
    InputError : no such file, no video, or none of its frames can be decoded.
    """
    from paperworks.inputs.video.decoding import decode_frames

    with open_container(path) as container:
        stream = video_stream(container, path)
        duration = None
        if container.duration:
            duration = container.duration / 1_000_000
        elif stream.duration:
            duration = float(stream.duration * stream.time_base)
        rate = stream.average_rate or stream.guessed_rate
        codec = stream.codec_context.name
        has_audio = bool(container.streams.audio)
    first = next(iter(decode_frames(path)), None)
    if first is None:
        raise InputError(str(path), "a video of which no frame can be decoded", EXPECTED)
    height, width = first.size
    return VideoInfo(Path(path), duration, width, height, float(rate) if rate else None, codec, has_audio)


def find_videos(source: str | Path) -> list[Path]:
    """The videos of a folder and its subfolders, by their suffix, in order of name; or the one file.

    Raises InputError if there are none, or two with one stem (transcripts are matched by stem).
    """
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(str(source), "no such file or folder", "a video, or a folder with videos")
    hidden = (".", "__")
    found = sorted(
        p
        for p in path.rglob("*")
        if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file() and not p.name.startswith(hidden)
    )
    if not found:
        raise InputError(str(source), "a folder without videos", f"files with {', '.join(VIDEO_SUFFIXES)}")
    stems: dict[str, Path] = {}
    for one in found:
        if one.stem in stems:
            raise InputError(str(source), f"{stems[one.stem].name} and {one.name}", "another stem for every video")
        stems[one.stem] = one
    return found
