"""SODA: captions of a story scored in their order (Fujita et al., ECCV 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paperworks.papers.sieve_swap.segments import THRESHOLDS, harmonic


def ordered_matching(scores: np.ndarray) -> tuple[float, list[tuple[int, int]]]:
    """The order-preserving one-to-one matching with the largest sum, by dynamic programming.

    ``D(i, j) = max(D(i-1, j), D(i, j-1), D(i-1, j-1) + s(i, j))``

    Parameters
    ----------
    scores : not negative, ``[n, m]``; both sides in order of time.

    Returns
    -------
    (the sum, pairs that it is of, in order). (0, []) where a side is empty.
    """
    n, m = scores.shape
    table = np.zeros((n + 1, m + 1))
    for i in range(1, n + 1):
        table[i, 1:] = np.maximum.accumulate(np.maximum(table[i - 1, 1:], table[i - 1, :-1] + scores[i - 1]))
    pairs = []
    i, j = n, m
    while i and j:
        if table[i, j] == table[i - 1, j]:
            i -= 1
        elif table[i, j] == table[i, j - 1]:
            j -= 1
        else:
            pairs.append((i - 1, j - 1))
            i, j = i - 1, j - 1
    return float(table[n, m]), pairs[::-1]


def soda(
    iou: np.ndarray, scores: np.ndarray, kind: str = "c", thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, float]:
    """Precision, recall and F1 of one video.

    Parameters
    ----------
    iou : ``[predictions, references]``, both in order of their start.
    scores : of the captions, the same shape.
    kind : "c" matches by IoU times score and sums that; "d" by IoU alone, without captions; "b" matches by IoU and sums
        the captions' scores of the pairs; "a" does so with pairs below a threshold of IoU left out, as the mean over
        ``thresholds``.

    Returns
    -------
    ``precision``, ``recall`` and ``f1``; 0 where a side is empty.
    """
    if not iou.size:
        return {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    if kind == "c":
        total = ordered_matching(iou * scores)[0]
    elif kind == "d":
        total = ordered_matching(iou)[0]
    elif kind == "b":
        total = _sum_of_pairs(iou, scores)
    else:
        total = float(np.mean([_sum_of_pairs(np.where(iou >= limit, iou, 0.0), scores) for limit in thresholds]))
    precision, recall = total / iou.shape[0], total / iou.shape[1]
    return {"precision": precision, "recall": recall, "f1": harmonic(precision, recall)}


def _sum_of_pairs(iou: np.ndarray, scores: np.ndarray) -> float:
    return float(sum(scores[i, j] for i, j in ordered_matching(iou)[1] if iou[i, j] > 0))
