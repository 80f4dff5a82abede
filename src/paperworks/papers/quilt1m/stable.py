"""Still segments of a video, found while it is decoded, and the median picture of each, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from paperworks.papers.quilt1m.likeness import patch_similarities

DETECT_WIDTH = 160
DETECT_RATE = 4.0
DETECT_PATCH = 16
STILL = 0.98
SHORTEST = 3.0
LONGEST = 30.0
MOST_FRAMES = 32
BAND_BYTES = 1_000_000


@dataclass
class Segment:
    """A still segment.

    Attributes
    ----------
    start, end : seconds.
    picture : uint8 ``[h, w, 3]``: the median over time of its frames.
    frames : frames of which it is the median.
    """

    start: float
    end: float
    picture: np.ndarray
    frames: int


@dataclass
class StableSettings:
    """Options of ``StableTracker``.

    Attributes
    ----------
    rate : pictures a second that are looked at.
    still : two patches are the same from this structural similarity on.
    share : a picture is still if more than this share of its patches is the same.
    shortest, longest : seconds of a segment; a longer one is cut.
    frames : pictures kept for a median at most; there are never more in memory.
    """

    rate: float = DETECT_RATE
    still: float = STILL
    share: float = 0.5
    shortest: float = SHORTEST
    longest: float = LONGEST
    frames: int = MOST_FRAMES


@dataclass
class _Open:
    start: float
    anchor: np.ndarray
    last: np.ndarray
    seen: float
    count: int = 0
    stride: int = 1
    kept: list[np.ndarray] = field(default_factory=list)


class StableTracker:
    """Feed pictures in order; a segment comes out when it ends.

    A segment lasts while most patches of each picture are the same as in the picture before and as in the segment's
    first: the first keeps a cursor from ending it, the second keeps a slow pan from being called still. Of a long
    segment evenly spaced pictures are kept: when there are too many, every other one goes.
    """

    def __init__(self, settings: StableSettings | None = None) -> None:
        self.settings = settings or StableSettings()
        self._open: _Open | None = None

    def wants(self, time: float) -> bool:
        """Whether the picture at ``time`` is to be given (by the rate)."""
        return self._open is None or time - self._open.seen >= 1 / self.settings.rate - 1e-3

    def add(self, time: float, small: np.ndarray, picture: np.ndarray) -> Segment | None:
        """The next picture; returns the segment that it ends, if it ends one.

        Parameters
        ----------
        time : seconds.
        small : grey uint8 ``[h, 160]``, for the comparison.
        picture : uint8 ``[H, W, 3]``, for the median.
        """
        one = self._open
        if one is not None and self._same(one, small) and time - one.start <= self.settings.longest:
            one.last, one.seen = small, time
            one.count += 1
            if one.count % one.stride == 0:
                one.kept.append(picture)
                if len(one.kept) > self.settings.frames:
                    one.kept, one.stride = one.kept[::2], one.stride * 2
            return None
        self._open = _Open(time, small, small, time, kept=[picture])
        return self._closed(one, time)

    def finish(self, end: float) -> Segment | None:
        """The segment that is open when the video ends at ``end``, if it is long enough."""
        one, self._open = self._open, None
        return self._closed(one, end)

    def _same(self, one: _Open, small: np.ndarray) -> bool:
        if small.shape != one.last.shape:
            return False
        still, share = self.settings.still, self.settings.share
        patch = min(DETECT_PATCH, *small.shape)
        return all(
            float((patch_similarities(before, small, patch) >= still).mean()) > share
            for before in (one.last, one.anchor)
        )

    def _closed(self, one: _Open | None, end: float) -> Segment | None:
        if one is None or end - one.start < self.settings.shortest:
            return None
        return Segment(one.start, end, median_picture(one.kept), len(one.kept))


def median_picture(pictures: list[np.ndarray]) -> np.ndarray:
    """The median of each pixel over pictures uint8 ``[h, w, 3]``; halves are rounded up.

    Bands of rows are sorted over time by a network of minima and maxima (Batcher's odd-even merge), which is many times
    faster than sorting each pixel, and needs one copy of a band of each picture.
    """
    count = len(pictures)
    result = np.empty_like(pictures[0])
    rows = max(1, BAND_BYTES // max(1, count * pictures[0][0].size))
    network = list(sorting_network(count))
    for top in range(0, len(result), rows):
        band = [picture[top : top + rows].copy() for picture in pictures]
        spare = np.empty_like(band[0])
        for first, second in network:
            np.minimum(band[first], band[second], out=spare)
            np.maximum(band[first], band[second], out=band[second])
            band[first], spare = spare, band[first]
        low, high = band[(count - 1) // 2], band[count // 2]
        result[top : top + rows] = high if low is high else (high - (high - low) // 2)
    return result


def sorting_network(count: int) -> Iterator[tuple[int, int]]:
    """Pairs of places to compare, in order, that sort ``count`` values (Knuth, Sorting and Searching, 5.2.2M)."""
    largest = 1 << max(0, (count - 1).bit_length() - 1)
    step = largest if count > 1 else 0
    while step:
        span, offset, distance = largest, 0, step
        while True:
            yield from ((i, i + distance) for i in range(count - distance) if i & step == offset)
            if span == step:
                break
            distance, offset = span - step, step
            span //= 2
        step //= 2
