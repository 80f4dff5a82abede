"""Every frame of a video with its time, in one pass; what is broken in the file is passed over and counted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.video.probing import open_container, video_stream

MOST_ERRORS_IN_A_ROW = 200
"""After so many unreadable packets without a frame between them the rest of a file is given up."""
UNEVEN = 1.5
"""Frames are unevenly spaced if one step is more than so many times another."""


@dataclass
class DecodeTally:
    """What happened while a video was decoded.

    Attributes
    ----------
    frames : frames with a usable time.
    corrupt : packets that could not be decoded, and frames that the decoder calls corrupt.
    without_time : frames without a time stamp; they follow the one before at the file's rate.
    out_of_order : frames that are not later than the one before; they are left out.
    given_up : whether the rest of the file could not be read.
    shortest_step, longest_step : seconds between two frames.
    end : seconds; the end of the last frame.
    """

    frames: int = 0
    corrupt: int = 0
    without_time: int = 0
    out_of_order: int = 0
    given_up: bool = False
    shortest_step: float = math.inf
    longest_step: float = 0.0
    end: float = 0.0

    @property
    def variable_rate(self) -> bool:
        """Whether frames are unevenly spaced."""
        return self.frames > 2 and self.longest_step > UNEVEN * self.shortest_step


class TimedFrame:
    """A decoded frame and its time in seconds. It is converted only when pixels are asked for."""

    __slots__ = ("_frame", "time")

    def __init__(self, time: float, frame: Any) -> None:
        self.time, self._frame = time, frame

    @property
    def quarter_turns(self) -> int:
        """Turns by 90 degrees, counter-clockwise, from the stored picture to the one that is shown."""
        return round((getattr(self._frame, "rotation", 0) or 0) / 90) % 4

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as shown, pixels."""
        height, width = self._frame.height, self._frame.width
        return (width, height) if self.quarter_turns % 2 else (height, width)

    @property
    def duration(self) -> float | None:
        """Seconds for which it is shown, where the file says it."""
        base = self._frame.time_base
        return float(self._frame.duration * base) if self._frame.duration and base else None

    def rgb(self, width: int | None = None, height: int | None = None) -> np.ndarray:
        """Pixels as shown: uint8 ``[height, width, 3]``. With one side given, the other keeps the proportions."""
        return self._pixels("rgb24", width, height)

    def gray(self, width: int | None = None, height: int | None = None) -> np.ndarray:
        """Brightness as shown: uint8 ``[height, width]``."""
        return self._pixels("gray", width, height)

    def luma(self) -> np.ndarray:
        """The luma plane as it is stored (not turned, in the file's range): uint8 ``[h, w]``, valid until the next
        frame is decoded. Formats without a plane of eight bits are converted to grey.
        """
        frame = self._frame
        if not frame.format.name.startswith(("yuv4", "yuvj4", "nv12", "nv21", "gray")) or frame.format.name.endswith(
            ("le", "be")
        ):
            frame = frame.reformat(format="gray")
        plane = frame.planes[0]
        rows = np.frombuffer(plane, np.uint8)[: plane.line_size * frame.height].reshape(frame.height, plane.line_size)
        return rows[:, : frame.width]

    def _pixels(self, form: str, width: int | None, height: int | None) -> np.ndarray:
        shown_height, shown_width = self.size
        if min(width or 1, height or 1) < 1 or 0 in (width, height):
            raise InputError("width", f"{width} x {height}", "1 pixel or more")
        if width is None and height is not None:
            width = max(1, round(shown_width * height / shown_height))
        elif height is None and width is not None:
            height = max(1, round(shown_height * width / shown_width))
        turned = self.quarter_turns % 2
        stored = (height, width) if turned else (width, height)
        frame = self._frame.reformat(width=stored[0], height=stored[1], format=form)
        pixels = frame.to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels, self.quarter_turns)) if self.quarter_turns else pixels


def decode_frames(
    path: str | Path,
    *,
    start: float = 0.0,
    end: float | None = None,
    tally: DecodeTally | None = None,
    threads: int = 0,
) -> Iterator[TimedFrame]:
    """The frames of a video in the order of their times; only one is held at a time.

    Parameters
    ----------
    start : seconds: the first frame is the one on screen then (the last one, if the video is shorter).
    end : seconds: frames from there on are left out.
    tally : filled while the frames are read.
    threads : of the decoder; 0 leaves it to ffmpeg.

    Raises
    ------
    InputError : no such file, no video in it, or a start below 0.
    """
    if not (math.isfinite(start) and start >= 0):
        raise InputError("start", start, "0 seconds or more")
    counted = DecodeTally() if tally is None else tally
    with open_container(path) as container:
        stream = video_stream(container, path)
        stream.thread_type = "AUTO"
        if threads:
            stream.codec_context.thread_count = threads
        origin = container.start_time / 1_000_000 if container.start_time else 0.0
        step = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        if start > 0:
            _seek(container, stream, start + origin)
        held: TimedFrame | None = None
        last = -math.inf
        for frame in _decoded(container, stream, counted):
            if frame.pts is None or frame.time_base is None:
                counted.without_time += 1
                time = 0.0 if last == -math.inf else last + step
            else:
                time = float(frame.pts * frame.time_base) - origin
            if time <= last:
                counted.out_of_order += 1
                continue
            if last > -math.inf:
                counted.shortest_step = min(counted.shortest_step, time - last)
                counted.longest_step = max(counted.longest_step, time - last)
            last = time
            one = TimedFrame(time, frame)
            counted.frames += 1
            counted.end = time + (one.duration or step)
            if end is not None and time >= end:
                break
            if time <= start:
                held = one  # on screen at the start, unless the next one is too
                if time < start:
                    continue
            if held is not None and held is not one:
                yield held
            held = None
            yield one
        if held is not None and held.time < start:
            yield held


def _seek(container: Any, stream: Any, time: float) -> None:
    from av.error import FFmpegError

    try:
        container.seek(int(time / stream.time_base), stream=stream, backward=True)
    except FFmpegError:  # a format without an index: decode from the beginning
        container.seek(0)


def _decoded(container: Any, stream: Any, tally: DecodeTally) -> Iterator[Any]:
    """Frames of PyAV. Packets that cannot be read or decoded are counted and passed over."""
    from av.error import EOFError as EndOfFile
    from av.error import FFmpegError

    failed = 0
    packets = container.demux(stream)
    while failed < MOST_ERRORS_IN_A_ROW:
        try:
            packet = next(packets)
        except (StopIteration, EndOfFile):
            return
        except FFmpegError:
            failed += 1
            tally.corrupt += 1
            packets = container.demux(stream)
            continue
        try:
            frames = packet.decode()
        except EndOfFile:
            return
        except FFmpegError:
            failed += 1
            tally.corrupt += 1
            continue
        for frame in frames:
            if frame.is_corrupt:
                tally.corrupt += 1
                continue
            failed = 0
            yield frame
    tally.given_up = True
