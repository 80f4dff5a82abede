"""C(theta): how many answers it takes to tell the right output from the others, with the best design of queries.

    C(theta) = min over designs lambda of  max over theta' with another right output of  1 / sum_x lambda_x KL_x

For a finite set this is a linear programme. For a box the paper's formula for linear models is used,

    C(theta) = sigma^2  min over lambda of  max over z != z* of  ||z* - z||^2_{A(lambda)^-1} / <z* - z, theta>^2,

a convex programme that a barrier method (barrier.py) solves to a relative gap of 1e-9; for K arms it has a closed form
up to one root. It is half of the definition with Gaussian KL. ``form="kl"`` computes the definition for independent
queries with two-valued answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.papers.active_learn.barrier import barrier_designs
from paperworks.papers.active_learn.problem import ActiveProblem

Form = Literal["auto", "linear", "kl"]
FLAT = 3e-7
"""Share of the queries' largest extent that is rounding of their 32 bits, as of a column that is another's double."""
TIE = 1e-9
"""Outputs whose values differ by less (relative to the largest) are tied."""


@dataclass(frozen=True)
class Design:
    """The complexity of one theta.

    Attributes
    ----------
    value : C(theta); infinite where two outputs are best, or where the queries do not tell them apart.
    weights : the optimal design lambda ``[queries]``, summing to 1.
    gradient : dC / dtheta ``[d]`` by the envelope theorem, weighted by the multipliers of the active constraints; None
        for a finite set.
    """

    value: float
    weights: np.ndarray
    gradient: np.ndarray | None = None


def complexity(problem: ActiveProblem, theta: ArrayLike | int, form: Form = "auto") -> tuple[float, np.ndarray]:
    """C(theta) and the optimal design lambda ``[queries]``.

    Parameters
    ----------
    theta : a vector ``[d]``, or for a finite set its index or one of its rows.
    form : "auto" is "kl" for a finite set and "linear" for a box; see the module.

    Returns
    -------
    The value (infinity for ties, never NaN), and the design; uniform where the value is infinite.
    """
    found = complexity_design(problem, theta, form)
    return found.value, found.weights


def complexity_gradient(problem: ActiveProblem, theta: ArrayLike) -> np.ndarray:
    """The gradient of C in theta ``[d]`` (linear form). Raises InputError for a finite set."""
    found = complexity_design(problem, theta, "linear")
    if found.gradient is None:
        raise InputError("theta", "a tie: the complexity is infinite", "a theta with one best output")
    return found.gradient


def complexity_design(problem: ActiveProblem, theta: ArrayLike | int, form: Form = "auto") -> Design:
    """``complexity`` with its gradient."""
    if form not in ("auto", "linear", "kl"):
        raise InputError("form", repr(form), "auto, linear or kl")
    instance = problem.instances(np.asarray(theta)[None] if np.ndim(theta) == 0 else theta)
    if len(instance) != 1:
        raise InputError("theta", f"{len(instance)} thetas", "one")
    if problem.finite:
        if form == "linear":
            raise InputError("form", "linear, for a finite set", "auto or kl")
        return _finite(problem, int(instance[0]))
    given = np.asarray(theta, dtype=np.float64).reshape(-1)
    if form == "kl":
        from paperworks.papers.active_learn.binary_designs import binary_design

        return binary_design(problem, given)
    if problem.link is not None or problem.outputs is None:
        raise InputError("form", "linear, for answers that are not linear in theta", "a finite theta_set")
    return linear_complexity(problem, given)


# -- a finite set: a linear programme -----------------------------------------------------------------------------


def _finite(problem: ActiveProblem, index: int) -> Design:
    from scipy.optimize import linprog

    everyone = problem.instances()
    uniform = np.full(problem.n_queries, 1 / problem.n_queries)
    right = _right_outputs(problem)
    if problem.loss_matrix is None and right[index].sum() > 1:
        return Design(np.inf, uniform)
    rivals = np.flatnonzero(~(right & right[index]).any(1))
    if len(rivals) == 0:
        return Design(0.0, uniform)
    means = problem.means(everyone).double()
    kl = problem.observation.kl(means[index], means[rivals]).numpy()
    size = kl.max()
    if size == 0 or bool((kl.max(1) <= 0).any()):
        return Design(np.inf, uniform)
    count = problem.n_queries
    solved = linprog(
        np.r_[np.zeros(count), -1.0],
        A_ub=np.c_[-kl / size, np.ones(len(kl))],
        b_ub=np.zeros(len(kl)),
        A_eq=np.r_[np.ones(count), 0.0][None],
        b_eq=[1.0],
        bounds=[(0, None)] * (count + 1),
        method="highs",
    )
    weights = np.clip(solved.x[:count], 0, None)
    least = float((kl @ weights).min())
    return Design(1 / least if least > 0 else np.inf, weights)


def _right_outputs(problem: ActiveProblem) -> np.ndarray:
    """Which outputs are best ``[thetas, outputs]``."""
    losses = problem.losses(problem.instances()).double().numpy()
    return losses <= losses.min(1, keepdims=True) + TIE * max(1.0, float(np.abs(losses).max()))


# -- a box: linear models -----------------------------------------------------------------------------------------


def linear_complexity(problem: ActiveProblem, theta: np.ndarray) -> Design:
    """The linear form with its gradient, for a problem with output vectors."""
    return linear_complexities(problem, theta[None])[0]


def linear_complexities(problem: ActiveProblem, thetas: np.ndarray) -> list[Design]:
    """``linear_complexity`` of each theta ``[n, d]``; all of them are solved at once."""
    assert problem.outputs is not None
    outputs, queries = problem.outputs.double().numpy(), problem.queries.double().numpy()
    uniform = np.full(len(queries), 1 / len(queries))
    if len(outputs) == 1:
        return [Design(0.0, uniform, np.zeros(outputs.shape[1])) for _ in thetas]
    values = thetas @ outputs.T
    best = values.argmax(1)
    others = np.argsort(np.arange(len(outputs))[None] == best[:, None], axis=1, kind="stable")[:, :-1]
    differences = outputs[best][:, None] - outputs[others]
    gaps = values.max(1, keepdims=True) - np.take_along_axis(values, others, 1)
    told = gaps.min(1) > TIE * np.maximum(np.abs(values).max(1), 1e-300)
    found = [Design(np.inf, uniform) for _ in thetas]
    apart = np.flatnonzero(told)
    if problem.arms:
        solved = [arms_design(gaps[i], int(best[i])) for i in apart]
    elif len(apart):
        directions = differences[apart] / gaps[apart][:, :, None]
        solved = list(zip(*barrier_designs(queries, directions, FLAT), strict=True))
    else:
        solved = []
    for i, (value, weights, multipliers, ratios) in zip(apart, solved, strict=True):
        gradient = -2 * ((multipliers * ratios / gaps[i]) @ differences[i])
        found[i] = Design(problem.scale * float(value), weights, problem.scale * gradient)
    return found


def arms_design(gaps: np.ndarray, best: int) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """K arms with gaps ``[K - 1]``: min over lambda of max_i (1 / lambda_best + 1 / lambda_i) / gap_i^2.

    At the optimum all ratios are equal to c, and lambda_best^2 is the sum of the other lambda_i^2. With u = c
    lambda_best, lambda_i / lambda_best = 1 / (u gap_i^2 - 1), whose squares sum to 1: one root in u.

    Returns
    -------
    The value, the design ``[K]``, the multipliers of the other arms, and their ratios ``[K - 1]``.
    """
    squares = gaps**2
    u = _arms_root(squares[None])[0]
    shares = 1 / (u * squares - 1)
    first = 1 / (1 + shares.sum())
    others = shares * first
    multipliers = squares * others**2
    value = float(u / first)
    return value, np.insert(others, best, first), multipliers / multipliers.sum(), np.full(len(gaps), value)


def arms_values(thetas: np.ndarray) -> np.ndarray:
    """C of many arms' means ``[n, K]`` with unit variance; infinite for ties."""
    ordered = np.sort(thetas, axis=1)
    gaps = ordered[:, -1:] - ordered[:, :-1]
    tied = gaps[:, -1] <= TIE * np.maximum(np.abs(thetas).max(1), 1e-300)
    squares = np.where(tied[:, None], 1.0, gaps**2)
    u = _arms_root(squares)
    values = u * (1 + (1 / (u[:, None] * squares - 1)).sum(1))
    return np.where(tied, np.inf, values)


def _arms_root(squares: np.ndarray) -> np.ndarray:
    """The u of each row of squared gaps ``[n, K - 1]``, by bisection."""
    least = squares.min(1)
    low, high = 1 / least, (1 + np.sqrt(squares.shape[1])) / least
    for _ in range(60):
        u = (low + high) / 2
        with np.errstate(divide="ignore"):
            over = ((1 / (u[:, None] * squares - 1)) ** 2).sum(1) > 1
        low, high = np.where(over, u, low), np.where(over, high, u)
    return high
