"""C(theta): how many answers it takes to tell the right output from the others, with the best design of queries.

    C(theta) = min over designs lambda of  max over theta' with another right output of  1 / sum_x lambda_x KL_x

For a finite set this is a linear programme. For a box the paper's formula for linear models is used,

    C(theta) = sigma^2  min over lambda of  max over z != z* of  ||z* - z||^2_{A(lambda)^-1} / <z* - z, theta>^2,

a convex programme that a barrier method solves to a relative gap of 1e-9; for K arms it has a closed form up to one
root. It is half of the definition with Gaussian KL. ``form="kl"`` computes the definition for independent queries with
two-valued answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.papers.active_learn.problem import ActiveProblem

Form = Literal["auto", "linear", "kl"]
GAP = 1e-9
"""Relative gap at which the barrier method stops."""
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
    assert problem.outputs is not None
    outputs, queries = problem.outputs.double().numpy(), problem.queries.double().numpy()
    values = outputs @ theta
    best = int(values.argmax())
    differences, gaps = np.delete(outputs[best] - outputs, best, 0), np.delete(values[best] - values, best)
    if len(gaps) == 0:
        return Design(0.0, np.full(len(queries), 1 / len(queries)), np.zeros_like(theta))
    if gaps.min() <= TIE * max(np.abs(values).max(), 1e-300):
        return Design(np.inf, np.full(len(queries), 1 / len(queries)))
    if problem.symmetric:
        value, weights, multipliers, ratios = arms_design(gaps, best)
    else:
        value, weights, multipliers, ratios = barrier_design(queries, differences / gaps[:, None])
    gradient = -2 * ((multipliers * ratios / gaps) @ differences)
    return Design(problem.scale * value, weights, problem.scale * gradient)


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


def barrier_design(
    queries: np.ndarray, directions: np.ndarray, start: np.ndarray | None = None
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """min over lambda of max_j v_j' A(lambda)^-1 v_j, by Newton's method on the logarithmic barrier.

    Parameters
    ----------
    queries : X ``[n, d]``. directions : v ``[m, d]``, combinations of queries. start : a first design ``[n]``.

    Returns
    -------
    The value, the design ``[n]``, the multipliers of the constraints ``[m]`` (they sum to 1), and the m ratios.
    """
    _, sizes, axes = np.linalg.svd(queries, full_matrices=False)
    axes = axes[sizes > 1e-9 * sizes[0]]
    x, v = queries @ axes.T, directions @ axes.T
    n, m = len(x), len(v)
    weights = np.full(n, 1 / n) if start is None else 0.9 * start / start.sum() + 0.1 / n
    size = _ratios(x, v, weights).max()
    v = v / np.sqrt(size)
    level, sharpness = 1.1 * _ratios(x, v, weights).max() + 1e-3, 10.0
    while True:
        for _ in range(60):
            step_w, step_t, decrement = _newton(x, v, weights, level, sharpness)
            if decrement < 1e-8:
                break
            weights, level = _line_search(x, v, weights, level, step_w, step_t, sharpness, decrement)
        if (n + m) / sharpness < GAP * level:
            break
        sharpness *= 20
    ratios = _ratios(x, v, weights)
    multipliers = 1 / np.maximum(level - ratios, 1e-300) / sharpness
    return size * float(ratios.max()), weights, multipliers / multipliers.sum(), size * ratios


def _ratios(x: np.ndarray, v: np.ndarray, weights: np.ndarray) -> np.ndarray:
    a = (x * weights[:, None]).T @ x
    return (v * np.linalg.solve(a, v.T).T).sum(1)


def _newton(
    x: np.ndarray, v: np.ndarray, weights: np.ndarray, level: float, sharpness: float
) -> tuple[np.ndarray, float, float]:
    """Newton's step in (lambda, t) of t * sharpness - sum log(t - f_j) - sum log lambda, with sum lambda fixed."""
    inverse = np.linalg.inv((x * weights[:, None]).T @ x)
    g = v @ inverse @ x.T
    ratios = ((v @ inverse) * v).sum(1)
    r = 1 / (level - ratios)
    slopes = -(g**2)
    n = len(weights)
    hessian = np.empty((n + 2, n + 2))
    hessian[:n, :n] = 2 * (x @ inverse @ x.T) * ((g * r[:, None]).T @ g) + (slopes * (r**2)[:, None]).T @ slopes
    hessian[np.arange(n), np.arange(n)] += 1 / weights**2
    hessian[:n, n] = hessian[n, :n] = -(slopes.T @ r**2)
    hessian[n, n] = (r**2).sum()
    hessian[:n, n + 1] = hessian[n + 1, :n] = 1.0
    hessian[n, n + 1] = hessian[n + 1, n] = hessian[n + 1, n + 1] = 0.0
    gradient = np.r_[slopes.T @ r - 1 / weights, sharpness - r.sum()]
    # in units of the weights, so that tiny ones do no harm to the solution
    unit = np.r_[weights, 1 / np.sqrt(hessian[n, n]), 1.0]
    scaled = hessian * unit[:, None] * unit[None]
    step = unit * np.linalg.solve(scaled, np.r_[-gradient, 0.0] * unit)
    return step[:n], float(step[n]), float(-(gradient @ step[: n + 1]))


def _line_search(
    x: np.ndarray,
    v: np.ndarray,
    weights: np.ndarray,
    level: float,
    step_w: np.ndarray,
    step_t: float,
    sharpness: float,
    decrement: float,
) -> tuple[np.ndarray, float]:
    def barrier(w: np.ndarray, t: float) -> float:
        if w.min() <= 0:
            return np.inf
        slack = t - _ratios(x, v, w)
        return np.inf if slack.min() <= 0 else sharpness * t - np.log(slack).sum() - np.log(w).sum()

    before, size = barrier(weights, level), 1.0
    for _ in range(50):
        w, t = weights + size * step_w, level + size * step_t
        if barrier(w, t) <= before - 0.1 * size * decrement + 1e-12 * abs(before):
            return w, t
        size /= 2
    return weights, level
