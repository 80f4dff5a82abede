"""A video file out of pictures, with or without sound: for what a method makes, for examples and for tests."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.extras import require_extra
from paperworks.runs.files import new_file

CLOCK = 90_000
"""Ticks of a second, in which times of frames are written."""
CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".ts": "mpegts",
}
"""Suffix -> container of ffmpeg."""


def write_video(
    path: str | Path,
    pictures: Iterable[np.ndarray | tuple[float, np.ndarray]],
    *,
    fps: float = 25.0,
    bit_rate: int = 2_000_000,
    codec: str = "libx264",
    keyframe_every: int = 50,
    audio: np.ndarray | None = None,
    audio_rate: int = 16_000,
) -> int:
    """Write pictures as a new video, one at a time; returns their number. The same pictures give the same bytes.

    Parameters
    ----------
    path : the suffix names the container: .mp4, .mkv, .mov, ...
    pictures : uint8 ``[h, w, 3]``, h and w even, all of one size; or pairs of a time in seconds and such an array, with
        times that rise: a variable frame rate.
    fps : pictures a second, where they have no times.
    bit_rate : bits a second.
    codec : a video encoder of ffmpeg.
    keyframe_every : frames between those that can be sought.
    audio : float32 ``[n]`` in [-1, 1], one channel, written as AAC.

    Raises
    ------
    InputError : the file exists, there are no pictures, or one has another size or form.
    """
    require_extra("video", "writing videos")
    import av

    path = Path(path)
    if path.suffix.lower() not in CONTAINERS:
        raise InputError("path", path.name, f"a name that ends in {', '.join(CONTAINERS)}")
    with new_file(path) as aside, av.open(str(aside), "w", format=CONTAINERS[path.suffix.lower()]) as container:
        stream: Any = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.pix_fmt, stream.bit_rate = "yuv420p", bit_rate
        stream.codec_context.time_base = Fraction(1, CLOCK)
        stream.codec_context.gop_size = keyframe_every
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            stream.options = {"preset": "veryfast"}
        sound = container.add_stream("aac", rate=audio_rate, layout="mono") if audio is not None else None
        count = _pictures(container, stream, pictures, fps)
        if sound is not None and audio is not None:
            _sound(container, sound, audio, audio_rate)
    return count


def _pictures(container: Any, stream: Any, pictures: Iterable[Any], fps: float) -> int:
    import av

    count, shape, last = 0, (0, 0), -1
    for item in pictures:
        time, pixels = item if isinstance(item, tuple) else (count / fps, item)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise InputError(f"picture {count}", f"{pixels.dtype} {pixels.shape}", "uint8 [h, w, 3]")
        if count == 0:
            shape = pixels.shape[:2]
            if shape[0] % 2 or shape[1] % 2:
                raise InputError("pictures", f"{shape[1]} x {shape[0]} pixels", "an even width and height")
            stream.height, stream.width = shape
        if pixels.shape[:2] != shape:
            raise InputError(f"picture {count}", f"{pixels.shape[:2]}", f"{shape}, as the first")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = round(time * CLOCK), Fraction(1, CLOCK)
        if frame.pts <= last:
            raise InputError(f"picture {count}", f"at {time} s", f"a time after {last / CLOCK} s")
        last = frame.pts
        for packet in stream.encode(frame):
            container.mux(packet)
        count += 1
    if not count:
        raise InputError("pictures", "none", "one picture or more")
    for packet in stream.encode(None):
        container.mux(packet)
    return count


def _sound(container: Any, stream: Any, audio: np.ndarray, rate: int) -> None:
    import av

    samples = np.ascontiguousarray(audio, np.float32).reshape(1, -1)
    for start in range(0, samples.shape[1], 1024):
        part = samples[:, start : start + 1024]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        for packet in stream.encode(frame):
            container.mux(packet)
    for packet in stream.encode(None):
        container.mux(packet)
