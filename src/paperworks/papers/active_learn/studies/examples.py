"""The small games of the studies and tests."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from paperworks.metrics import Interval
from paperworks.papers.active_learn.classes import DifficultyClass, make_classes
from paperworks.papers.active_learn.problem import ActiveProblem

THRESHOLDS = (
    (4, 0.0, 1, 1 / 2),
    (3, 0.0, 1, 1 / 3),
    (4, 0.0, 2, 0.0),
    (4, 0.1, 2, 0.19),
    (4, 0.1, 3, 0.19),
    (4, 0.1, 4, 0.1252),
    (5, 0.1, 3, 0.2224),
    (4, 0.2, 4, 0.2832),
    (3, 0.2, 2, 0.306667),
    (3, 0.2, 3, 0.274667),
)
"""Hypotheses, flip chance, horizon, and the optimal worst risk."""


def two_class_game(horizon: int) -> tuple[ActiveProblem, list[list[int]]]:
    """Two queries and two outputs: class A is told apart by the first query, class B by the second."""
    thetas = [[0.9, 0.5], [0.1, 0.5], [0.5, 0.7], [0.5, 0.3]]
    loss = [[0, 1], [1, 0], [0, 1], [1, 0]]
    problem = ActiveProblem(
        np.eye(2), 2, "bernoulli", np.array(loss), horizon, np.array(thetas), query_names=("query a", "query b")
    )
    return problem, [[0, 1], [2, 3]]


def three_arms(horizon: int) -> tuple[ActiveProblem, list[list[int]]]:
    """Permutations of (.9, .1, .1) and of (.6, .5, .1)."""
    easy = sorted(set(itertools.permutations((0.9, 0.1, 0.1))))
    hard = sorted(set(itertools.permutations((0.6, 0.5, 0.1))))
    problem = ActiveProblem.best_arm(3, horizon, "bernoulli", theta_set=np.array(easy + hard))
    return problem, [list(range(3)), list(range(3, 9))]


def noisy_cuts(n: int, size: float, horizon: int) -> ActiveProblem:
    """All n + 1 cuts of n points, with mean answers of ``size`` in absolute value."""
    return ActiveProblem.flipped_thresholds(n + 1, (1 - size) / 2, horizon)


def listed(problem: ActiveProblem, members: list[list[int]]) -> list[DifficultyClass]:
    """Listed classes."""
    return make_classes(problem, members=members)


def deviation_interval(values: Sequence[float], unit: str = "seeds") -> Interval:
    """The standard deviation of independent Gaussian values with its 95% interval, by chi-square."""
    from scipy.stats import chi2

    n = len(values)
    deviation = float(np.std(values, ddof=1))
    low, high = (deviation * float(np.sqrt((n - 1) / chi2.ppf(share, n - 1))) for share in (0.975, 0.025))
    return Interval(deviation, low, high, 0.95, "chi-square", n, unit)
