"""Accuracy per number of examples, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.icl_discrete.fitting import flip
from paperworks.papers.icl_discrete.tasks import BooleanTask, MixedTask, Prompts
from paperworks.parameters import check_seed

if TYPE_CHECKING:
    import pandas as pd

LOW, HIGH = 0.05, 0.95
"""Quantiles of the bootstrap interval, as in the paper's code."""


class Predictor(Protocol):
    """A learner, or an ``InContextModel``."""

    def scores(self, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """Scores ``[B, m]``."""
        ...


def correct(predictor: Predictor, prompts: Prompts, *, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Which predictions are right, bool ``[B, m]``; a score of 0 is wrong.

    ``noise`` flips the labels that the predictor sees; it is judged by the true ones.
    """
    seen = flip(prompts.ys, noise, np.random.default_rng(seed))
    return np.sign(predictor.scores(prompts.xs, seen)) == prompts.ys


def curve(right: np.ndarray, start: int = 0) -> pd.DataFrame:
    """Accuracy at each position, with the 5 % and 95 % quantiles of its bootstrap over prompts.

    The bootstrap of a share of B prompts is a binomial distribution; its quantiles are taken exactly, where the
    paper's code draws 1000 resamples.

    Returns
    -------
    columns position (examples seen before the prediction), accuracy, std (over prompts), lo, hi.
    """
    import pandas as pd
    from scipy.stats import binom

    if right.ndim != 2 or not len(right):
        raise InputError("right", f"shape {right.shape}", "[prompts, positions] with at least one prompt")
    count = len(right)
    accuracy = right.mean(0)
    frame = pd.DataFrame(
        {
            "position": np.arange(right.shape[1]),
            "accuracy": accuracy,
            "std": right.std(0),
            "lo": np.where((accuracy == 0) | (accuracy == 1), accuracy, binom.ppf(LOW, count, accuracy) / count),
            "hi": np.where((accuracy == 0) | (accuracy == 1), accuracy, binom.ppf(HIGH, count, accuracy) / count),
        }
    )
    return frame.iloc[start:].reset_index(drop=True)


def evaluate(
    predictor: Predictor,
    task: BooleanTask | MixedTask,
    *,
    n_prompts: int = 1280,
    n_points: int = 30,
    seed: int = 0,
    noise: float = 0.0,
) -> pd.DataFrame:
    """The accuracy curve of a predictor on fresh prompts of a task, from the first scored position on (see ``curve``).

    The same seed gives every predictor the same prompts.
    """
    check_seed("seed", seed)
    prompts = task.sample(n_prompts, n_points, seed)
    return curve(correct(predictor, prompts, noise=noise, seed=seed), prompts.start)


def mean_interval(right: np.ndarray, rng: np.random.Generator, resamples: int = 1000) -> tuple[float, float, float]:
    """Mean accuracy over all positions of ``right``, and its bootstrap interval over prompts."""
    per_prompt = right.mean(1)
    rows = rng.integers(len(per_prompt), size=(resamples, len(per_prompt)))
    low, high = np.quantile(per_prompt[rows].mean(1), [LOW, HIGH])
    return float(per_prompt.mean()), float(low), float(high)


def last(right: np.ndarray, positions: int = 5) -> float:
    """Mean accuracy over the last positions."""
    return float(right[:, -positions:].mean())


def after_teaching(right: np.ndarray, taught: np.ndarray | Sequence[int], skip: int = 0, window: int = 5) -> float:
    """Mean accuracy over the ``window`` positions that follow each prompt's teaching sequence (and ``skip`` more)."""
    starts = np.asarray(taught) + skip
    positions = starts[:, None] + np.arange(window)
    inside = positions < right.shape[1]
    if not inside.any():
        raise InputError("taught", "sequences as long as the prompts", "at least one point after them")
    rows = np.broadcast_to(np.arange(len(right))[:, None], positions.shape)
    return float(right[rows[inside], positions[inside]].mean())
