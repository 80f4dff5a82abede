"""Localisation: overlap of segments, recall, precision and F1 at thresholds of overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
EPSILON = 1e-8


def temporal_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Overlap of segments ``[n, 2]`` and ``[m, 2]`` as evaluation tools compute it: ``[n, m]``.

    The intersection over the smaller of the hull and the sum of lengths, with 1e-8 added below, so that equal segments
    have a value just under 1.
    """
    a, b = np.asarray(a, float).reshape(-1, 2), np.asarray(b, float).reshape(-1, 2)
    inter = np.minimum(a[:, None, 1], b[None, :, 1]) - np.maximum(a[:, None, 0], b[None, :, 0])
    inter = np.maximum(inter, 0)
    hull = np.maximum(a[:, None, 1], b[None, :, 1]) - np.minimum(a[:, None, 0], b[None, :, 0])
    lengths = (a[:, 1] - a[:, 0])[:, None] + (b[:, 1] - b[:, 0])[None]
    return inter / (np.minimum(hull, lengths) + EPSILON)


def recall_precision(iou: np.ndarray, threshold: float) -> tuple[float, float]:
    """Share of references (columns) and of predictions (rows) with an overlap above the threshold; 0 for none.

    Several predictions may be right about one reference, and the other way round.
    """
    if not iou.size:
        return 0.0, 0.0
    hit = iou > threshold
    return float(hit.any(0).mean()), float(hit.any(1).mean())


def localisation(
    predictions: Sequence[np.ndarray],
    references: Sequence[Sequence[np.ndarray]],
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict[str, float]:
    """Recall, precision and F1: means over videos at each threshold, F1 of these means, then means over thresholds.

    Parameters
    ----------
    predictions : segments ``[n, 2]`` of each video; a video without any counts as 0.
    references : of each video the annotations, one or more arrays ``[m, 2]``; the best counts, for recall and
        precision apart.

    Returns
    -------
    ``recall``, ``precision``, ``f1``, and each at each threshold (``f1@0.5``).
    """
    out: dict[str, float] = {}
    recalls, precisions, scores = [], [], []
    for threshold in thresholds:
        pairs = []
        for predicted, known in zip(predictions, references, strict=True):
            each = [recall_precision(temporal_iou(predicted, one), threshold) for one in known]
            pairs.append((max(r for r, _ in each), max(p for _, p in each)))
        recall, precision = (float(np.mean([pair[side] for pair in pairs])) if pairs else 0.0 for side in (0, 1))
        score = harmonic(precision, recall)
        out |= {f"recall@{threshold:g}": recall, f"precision@{threshold:g}": precision, f"f1@{threshold:g}": score}
        recalls.append(recall)
        precisions.append(precision)
        scores.append(score)
    return {
        "recall": float(np.mean(recalls)),
        "precision": float(np.mean(precisions)),
        "f1": float(np.mean(scores)),
    } | out


def harmonic(precision: float, recall: float) -> float:
    """F1; 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def suppress(segments: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Non-maximum suppression in one dimension: positions of the segments that stay, best first."""
    left = list(np.argsort(-np.asarray(scores), kind="stable"))
    iou = temporal_iou(segments, segments)
    kept = []
    while left:
        best = left.pop(0)
        kept.append(int(best))
        left = [other for other in left if iou[best, other] <= threshold]
    return np.array(kept, np.int64)
