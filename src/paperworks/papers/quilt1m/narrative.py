"""The narrative test: whether a presenter keeps showing one thing while talking about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEXT_FRAMES, LIKE, SHARE = 3, 0.9, 0.1


@dataclass(frozen=True)
class Narrative:
    """Result of the test: the share of sampled positive key frames that begin a streak, and how many were sampled."""

    share: float
    sampled: int
    narrative: bool


def narrative_test(
    embeddings: np.ndarray,
    positive: np.ndarray,
    *,
    following: int = NEXT_FRAMES,
    like: float = LIKE,
    least: float = SHARE,
    samples: int = 200,
    rng: np.random.Generator | None = None,
) -> Narrative:
    """Whether at least ``least`` of the positive key frames resemble all of the ``following`` key frames.

    Parameters
    ----------
    embeddings : unit rows float ``[k, d]`` of all key frames.
    positive : bool ``[k]``.
    samples : positive key frames that are looked at, drawn by ``rng`` if there are more.
    """
    places = np.flatnonzero(positive[: max(0, len(positive) - following)])
    if rng is not None and len(places) > samples:
        places = np.sort(rng.choice(places, samples, replace=False))
    if not len(places):
        return Narrative(0.0, 0, False)
    streak = np.ones(len(places), bool)
    for step in range(1, following + 1):
        streak &= (embeddings[places] * embeddings[places + step]).sum(1) >= like
    share = float(streak.mean())
    return Narrative(share, len(places), share >= least)
