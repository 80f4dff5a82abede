"""Chunk length, time chunks of tissue frames, and the text window of a chunk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from paperworks.errors import InputError
from paperworks.inputs.transcripts import Transcript, Word

WORDS_PER_CHUNK = 20


@dataclass(frozen=True)
class Chunk:
    """A window of time in which the presenter shows the domain.

    Attributes
    ----------
    start, end : seconds.
    frames : places of its key frames in the list of all.
    """

    start: float
    end: float
    frames: tuple[int, ...]


def chunk_length(words: int, duration: float, words_per_chunk: int = WORDS_PER_CHUNK) -> float:
    """Seconds in which the speaker says ``words_per_chunk`` words: ``20 / (words / duration)``.

    Parameters
    ----------
    words : words of the transcript.
    duration : of the video (or of its speech), seconds.

    Raises
    ------
    InputError : no words (the rate would be 0), or no duration.

    Examples
    --------
    >>> chunk_length(38, 92.5258)
    48.69778947368421
    """
    if words < 1:
        raise InputError("words", words, "a transcript with words: the rate of speech is 0 otherwise")
    if not (math.isfinite(duration) and duration > 0):
        raise InputError("duration", duration, "more than 0 seconds")
    return words_per_chunk / (words / duration)


def time_chunks(
    times: Sequence[float],
    positive: Sequence[bool],
    length: float,
    *,
    flush_tail: bool = True,
    end: float | None = None,
) -> list[Chunk]:
    """Runs of positive key frames, cut into windows that overlap by ``length``, as the released code does.

    Parameters
    ----------
    times : of the key frames, seconds, rising. One at 0 only says whether the video begins inside of a run.
    positive : whether each shows the domain.
    length : chunk length T, seconds.
    flush_tail : also give the run that is open at the end. The released code does not.
    end : of the video, seconds: there the open run ends; by default at its last key frame.

    Raises
    ------
    InputError : lengths that differ, times that do not rise, a length that is not positive.
    """
    if len(times) != len(positive):
        raise InputError("positive", f"{len(positive)} values", f"{len(times)}, one for each key frame")
    if not (math.isfinite(length) and length > 0):
        raise InputError("length", length, "more than 0 seconds")
    for place, time in enumerate(times):
        before = times[place - 1] if place else -math.inf
        if not (math.isfinite(time) and time >= 0 and time > before):
            raise InputError(f"times[{place}]", time, "seconds from 0 on, each later than the one before")
    chunks: list[Chunk] = []
    previous, inside = 0.0, False
    start, gathered, current = 0.0, 0.0, list[int]()

    def emit(end: float, frames: list[int]) -> None:
        nonlocal gathered, current
        chunks.append(Chunk(start, end, tuple(frames)))
        gathered, current = 0.0, []

    for place, (time, shown) in enumerate(zip(times, positive, strict=True)):
        if time > 0 and shown and not inside:
            start = max(previous, time - length)
            current.append(place)
        elif time > 0 and shown:
            gap = time - previous
            if gap > length:
                emit(time, current or [place])
                current, start = [place], time - length
            else:
                gathered += gap
                current.append(place)
                if gathered > length:
                    emit(time, current)
                    start = time - length
        elif time > 0 and inside:
            emit(time, current or [place - 1])
        previous, inside = time, bool(shown)
    last = previous if end is None else max(previous, end)
    if flush_tail and inside and (current or last > previous):
        # after the last key frame the same thing is still shown: it is the frame of what is said until the end
        emit(last, current or [len(times) - 1])
    return chunks


def text_window(chunk: Chunk, length: float, duration: float, pad: float = 0.5) -> tuple[float, float]:
    """The time from which a chunk's text is taken: ``pad`` chunk lengths more at either end, within the video."""
    return max(0.0, chunk.start - pad * length), min(duration, chunk.end + pad * length)


def window_words(transcript: Transcript, window: tuple[float, float]) -> list[Word]:
    """The whole words whose middle lies in a window."""
    return transcript.between(*window)


def fixed_windows(duration: float, length: float = 10.0) -> list[tuple[float, float]]:
    """The baseline: windows of one length, whatever is shown. The last one ends with the video."""
    count = max(1, math.ceil(duration / length - 1e-9))
    return [(i * length, min(duration, (i + 1) * length)) for i in range(count)]
