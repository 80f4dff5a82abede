"""The sound of a video in blocks, for speech recognition, and whether there is any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.video.probing import open_container


def read_audio(path: str | Path, *, rate: int = 16_000, seconds: float = 30.0) -> Iterator[tuple[float, np.ndarray]]:
    """The first audio stream, mixed to one channel: the start of each block in seconds, and float32 ``[n]``.

    Parameters
    ----------
    rate : samples a second.
    seconds : length of a block; the last one may be shorter.

    Raises
    ------
    InputError : no such file, or no sound in it.
    """
    if rate < 1 or not seconds > 0:
        raise InputError("rate", f"{rate}, {seconds} seconds", "1 sample a second or more, in blocks above 0 seconds")
    size = max(1, round(rate * seconds))
    done = 0
    held: list[np.ndarray] = []
    count = 0
    for part in _samples(path, rate):
        held.append(part)
        count += len(part)
        while count >= size:
            block = np.concatenate(held)
            yield done / rate, block[:size]
            done += size
            held, count = [block[size:]], count - size
    if count:
        yield done / rate, np.concatenate(held)


def _samples(path: str | Path, rate: int) -> Iterator[np.ndarray]:
    from av.audio.resampler import AudioResampler
    from av.error import FFmpegError

    with open_container(path) as container:
        if not container.streams.audio:
            raise InputError(str(path), "a video without sound", "a video with sound, or a transcript beside it")
        stream = container.streams.audio[0]
        resampler = AudioResampler(format="flt", layout="mono", rate=rate)
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except FFmpegError:
                continue  # a corrupt packet: the sound goes on behind it
            for frame in frames:
                frame.pts = None
                for out in resampler.resample(frame):
                    yield out.to_ndarray().reshape(-1)
        for out in resampler.resample(None):
            yield out.to_ndarray().reshape(-1)


def audible_share(path: str | Path, *, decibels: float = -50.0) -> float:
    """Share of the seconds that are louder than ``decibels`` (full scale is 0). 0 for a video without sound."""
    with open_container(path) as container:
        if not container.streams.audio:
            return 0.0
    loud = whole = 0
    for _, block in read_audio(path, rate=8000, seconds=1.0):
        power = float(np.mean(np.square(block, dtype=np.float64)))
        loud += power > 10 ** (decibels / 10)
        whole += 1
    return loud / whole if whole else 0.0
