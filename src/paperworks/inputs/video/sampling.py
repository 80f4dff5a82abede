"""Pictures at a rate or at given times, whatever the rate of the file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.video.decoding import DecodeTally, TimedFrame, decode_frames

_CLOSE = 1e-6


class Picture(NamedTuple):
    """What is on screen at ``time`` (seconds): pixels uint8 ``[h, w, 3]``, or ``[h, w]`` in grey."""

    time: float
    pixels: np.ndarray


def frames_at_rate(
    path: str | Path,
    rate: float,
    *,
    width: int | None = None,
    height: int | None = None,
    gray: bool = False,
    start: float = 0.0,
    end: float | None = None,
    tally: DecodeTally | None = None,
    threads: int = 0,
) -> Iterator[Picture]:
    """What is on screen at ``start``, ``start + 1 / rate``, ... in one pass, with one picture in memory.

    A frame stays on screen until the next one. Where frames are further apart than ``1 / rate`` one is given several
    times; only frames that are given are converted. There are ``ceil((end - start) * rate)`` pictures, with the end
    of the last frame for ``end``.

    Parameters
    ----------
    rate : pictures a second.
    width, height : pixels that pictures are resized to; with one of them, the other keeps the proportions.
    gray : brightness only.
    tally, threads : as for ``decode_frames``.

    Raises
    ------
    InputError : as ``decode_frames``; a rate that is not positive.
    """
    if not (math.isfinite(rate) and rate > 0):
        raise InputError("rate", rate, "more than 0 pictures a second")
    counted = DecodeTally() if tally is None else tally
    shown: TimedFrame | None = None
    pixels: np.ndarray | None = None
    number = 0
    for frame in decode_frames(path, start=start, end=end, tally=counted, threads=threads):
        if shown is not None:
            while start + number / rate < frame.time - _CLOSE:
                pixels = _pixels(shown, width, height, gray) if pixels is None else pixels
                yield Picture(start + number / rate, pixels)
                number += 1
        if shown is None or frame.time > shown.time:
            shown, pixels = frame, None
    if shown is None:
        return
    stop = counted.end if end is None else min(end, counted.end)
    while start + number / rate < stop - _CLOSE:
        pixels = _pixels(shown, width, height, gray) if pixels is None else pixels
        yield Picture(start + number / rate, pixels)
        number += 1


def still(path: str | Path, time: float, *, width: int | None = None, height: int | None = None) -> Picture:
    """What is on screen at ``time`` seconds; the last frame if the video is shorter.

    Raises InputError as ``decode_frames``, and where no frame can be decoded.
    """
    frame = next(iter(decode_frames(path, start=time)), None)
    if frame is None:
        raise InputError(str(path), "a video of which no frame can be decoded", "a readable video")
    return Picture(frame.time, frame.rgb(width, height))


def thumbnails(
    path: str | Path, times: Sequence[float], *, width: int | None = 320, height: int | None = None
) -> list[np.ndarray]:
    """Small pictures at ``times`` (seconds, in any order): uint8 ``[h, w, 3]``, in the order of ``times``."""
    return [still(path, time, width=width, height=height).pixels for time in times]


def _pixels(frame: TimedFrame, width: int | None, height: int | None, gray: bool) -> np.ndarray:
    return frame.gray(width, height) if gray else frame.rgb(width, height)
