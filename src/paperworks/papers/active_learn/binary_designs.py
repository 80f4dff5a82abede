"""The complexity by its definition for independent queries with two-valued answers.

For a design lambda the nearest theta' for which z is as good as z* has a closed form up to one multiplier. The least
separation over z is a concave function of lambda, which sequential quadratic programming maximises.
"""

from __future__ import annotations

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.active_learn.designs import TIE, Design
from paperworks.papers.active_learn.observations import HIGH, LOW, Binary
from paperworks.papers.active_learn.problem import ActiveProblem


def binary_design(problem: ActiveProblem, theta: np.ndarray) -> Design:
    """C(theta) with Bernoulli KL, mean answers being theta itself.

    Raises InputError for queries that are not the unit vectors, and for real answers.
    """
    from scipy.optimize import minimize

    law, x = problem.observation, problem.queries.double().numpy()
    if problem.outputs is None or not isinstance(law, Binary) or not np.array_equal(x, np.eye(len(x))):
        raise InputError("form", "kl", "two-valued answers and queries e_1 .. e_n, or a finite set")
    n, width = len(x), law.high - law.low
    outputs = problem.outputs.double().numpy()
    values = outputs @ theta
    best = int(values.argmax())
    uniform = np.full(n, 1 / n)
    rivals = np.delete(outputs[best] - outputs, best, 0)
    if len(rivals) == 0:
        return Design(0.0, uniform)
    if np.delete(values[best] - values, best).min() <= TIE * max(np.abs(values).max(), 1e-300):
        return Design(np.inf, uniform)
    p = np.clip((theta - law.low) / width, LOW, HIGH)
    bound = -law.low / width * rivals.sum(1)  # <z* - z, theta'> <= 0, written for probabilities

    def separations(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nearest = np.array([_nearest(p, weights, c, b) for c, b in zip(rivals, bound, strict=True)])
        kl = _kl(p, nearest)
        return kl @ weights, kl

    first = separations(uniform)[0].min()
    # g_z(lambda) = min over theta' of sum lambda KL is concave, and its gradient is the KL at the nearest theta'
    solved = minimize(
        lambda v: -v[n],
        np.r_[uniform, 1.0],
        jac=lambda v: np.r_[np.zeros(n), -1.0],
        constraints=[
            {"type": "eq", "fun": lambda v: v[:n].sum() - 1, "jac": lambda v: np.r_[np.ones(n), 0.0]},
            {
                "type": "ineq",
                "fun": lambda v: separations(v[:n])[0] / first - v[n],
                "jac": lambda v: np.c_[separations(v[:n])[1] / first, -np.ones(len(rivals))],
            },
        ],
        bounds=[(1e-9, 1)] * n + [(0, None)],
        method="SLSQP",
        options={"ftol": 1e-10, "maxiter": 200},
    )
    weights = np.clip(solved.x[:n], 1e-9, None)
    weights /= weights.sum()
    least = float(separations(weights)[0].min())
    return Design(1 / least if least > 0 else np.inf, weights)


def _kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


def _nearest(p: np.ndarray, weights: np.ndarray, direction: np.ndarray, bound: float) -> np.ndarray:
    """argmin over q of sum weights KL(p, q) with <direction, q> <= bound, by bisection on the multiplier."""

    def at(multiplier: float) -> np.ndarray:
        # weights (q - p) / (q (1 - q)) + multiplier direction = 0, a quadratic in q
        k = multiplier * direction / np.maximum(weights, 1e-12)
        root = np.sqrt(np.maximum((1 + k) ** 2 - 4 * k * p, 0))
        q = np.where(np.abs(k) < 1e-12, p, 2 * p / (1 + k + root))
        return np.clip(q, LOW / 2, 1 - LOW / 2)

    high = 1.0
    while direction @ at(high) > bound and high < 1e12:
        high *= 4
    low = 0.0
    for _ in range(80):
        middle = (low + high) / 2
        if direction @ at(middle) > bound:
            low = middle
        else:
            high = middle
    return at(high)
