"""Sentences by their similarity to a direction, independent of the corpus's own order (step 3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def retrieve(delta: np.ndarray, vectors: np.ndarray, sentences: Sequence[str], k: int) -> list[str]:
    """The ``k`` sentences with the largest inner product with ``delta`` ``[q]``; ties in the order of the text."""
    return [sentences[i] for i in ranked(np.asarray(vectors) @ np.asarray(delta), text_order(sentences))[:k]]


def text_order(sentences: Sequence[str]) -> np.ndarray:
    """Positions in the order of the text: that of equal scores, so that the corpus's own order decides nothing."""
    return np.array(sorted(range(len(sentences)), key=sentences.__getitem__))


def ranked(scores: np.ndarray, by_text: np.ndarray) -> np.ndarray:
    """Positions by score, the highest first; equal ones as ``by_text`` has them."""
    return by_text[np.argsort(-scores[by_text], kind="stable")]
