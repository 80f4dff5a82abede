"""Key frames by scene change: the score of ffmpeg's ``select`` filter, frame by frame."""

from __future__ import annotations

import numpy as np

SCENE_THRESHOLD = 0.008


class SceneScorer:
    """Scores of successive frames: ``min(mafd, |mafd - mafd before|) / 100``, cut to [0, 1].

    ``mafd`` is the mean absolute difference of the luma (0 to 255) to the frame before; the first frame scores 0.
    """

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._difference = 0.0

    def __call__(self, luma: np.ndarray) -> float:
        """The score of the next frame, luma uint8 ``[h, w]``; a frame of another size scores 1."""
        last, self._last = self._last, np.array(luma, copy=True)
        if last is None:
            return 0.0
        if last.shape != luma.shape:
            self._difference = 0.0
            return 1.0
        difference = mean_difference(last, luma)
        score = min(difference, abs(difference - self._difference)) / 100
        self._difference = difference
        return min(max(score, 0.0), 1.0)


def mean_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference of two pictures of uint8."""
    gap = np.maximum(first, second)
    gap -= np.minimum(first, second)
    flat = gap.reshape(-1)
    whole = len(flat) // 256 * 256
    # 256 values of uint8 fit into uint16: short sums in narrow numbers are three times as fast
    rows = flat[:whole].reshape(-1, 256).sum(1, dtype=np.uint16)
    return float(rows.sum(dtype=np.uint64) + flat[whole:].sum(dtype=np.uint64)) / len(flat)
