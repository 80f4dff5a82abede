"""Optimal designs of linear models by Newton's method on the logarithmic barrier, many at once."""

from __future__ import annotations

import numpy as np

GAP = 1e-9
"""Relative gap at which the barrier method stops."""
ROUNDING = 1e-15
"""Relative distance from a constraint below which numbers of 64 bits do not tell it from none."""
FIRST, FACTOR, MOST_STEPS = 10.0, 20.0, 60
"""Weight of the objective in the first stage, from stage to stage, and Newton's steps in a stage."""


def barrier_design(queries: np.ndarray, directions: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """min over lambda of max_j v_j' A(lambda)^-1 v_j, A(lambda) = sum_x lambda_x x x'.

    Parameters
    ----------
    queries : X ``[n, d]``. directions : v ``[m, d]``, combinations of queries.

    Returns
    -------
    The value, the design ``[n]``, the multipliers of the constraints ``[m]`` (they sum to 1), and the m ratios.
    """
    values, weights, multipliers, ratios = barrier_designs(queries, directions[None])
    return float(values[0]), weights[0], multipliers[0], ratios[0]


def barrier_designs(
    queries: np.ndarray, directions: np.ndarray, flat: float = 1e-9
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``barrier_design`` for B sets of directions ``[B, m, d]``: values ``[B]``, and the rest with B rows each.

    ``flat`` is the share of the queries' largest extent below which an extent is rounding, and left out.
    """
    # The value is the same in every basis; in that of whitened queries columns of unlike units do no harm.
    _, sizes, axes = np.linalg.svd(queries, full_matrices=False)
    kept = sizes > flat * sizes[0]
    whiten = (axes[kept] / sizes[kept, None]).T * np.sqrt(len(queries))
    x, v = queries @ whiten, directions @ whiten
    n, m = len(x), v.shape[1]
    if x.shape[1] == 1:
        return _on_a_line(x[:, 0], v[:, :, 0])
    weights = np.full((len(v), n), 1 / n)
    size = _ratios(x, v, weights).max(1)
    v = v / np.sqrt(size)[:, None, None]
    level = 1.1 * _ratios(x, v, weights).max(1) + 1e-3
    sharpness, steps = np.full(len(v), FIRST), np.zeros(len(v), dtype=np.int64)
    left = np.arange(len(v))
    while len(left):
        step_w, step_t, decrement = _newton(x, v[left], weights[left], level[left], sharpness[left])
        centred = (decrement < 1e-8) | (steps[left] >= MOST_STEPS)
        moving = left[~centred]
        if len(moving):
            weights[moving], level[moving] = _line_search(
                x,
                v[moving],
                weights[moving],
                level[moving],
                step_w[~centred],
                step_t[~centred],
                sharpness[moving],
                decrement[~centred],
            )
        steps[moving] += 1
        ended = left[centred]
        steps[ended] = 0
        done = (n + m) / sharpness[ended] < GAP * level[ended]
        sharpness[ended[~done]] *= FACTOR
        left = np.setdiff1d(left, ended[done], assume_unique=True)
    ratios = _ratios(x, v, weights)
    multipliers = 1 / np.maximum(level[:, None] - ratios, 1e-300) / sharpness[:, None]
    return (
        size * ratios.max(1),
        weights,
        multipliers / multipliers.sum(1, keepdims=True),
        size[:, None] * ratios,
    )


def _on_a_line(x: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Queries of one dimension, where Newton's equations have no single solution: the longest one tells the most."""
    longest = np.abs(x).argmax()
    ratios = (v / x[longest]) ** 2
    worst = ratios == ratios.max(1, keepdims=True)
    weights = np.zeros((len(v), len(x)))
    weights[:, longest] = 1.0
    return ratios.max(1), weights, worst / worst.sum(1, keepdims=True), ratios


def _gram(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A(lambda) ``[B, d, d]``."""
    return np.matmul(x.T[None] * weights[:, None], x)


def _ratios(x: np.ndarray, v: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """v_j' A(lambda)^-1 v_j ``[B, m]``."""
    solved = np.linalg.solve(_gram(x, weights), v.transpose(0, 2, 1))
    return np.einsum("bmd,bdm->bm", v, solved)


def _newton(
    x: np.ndarray, v: np.ndarray, weights: np.ndarray, level: np.ndarray, sharpness: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Newton's steps in (lambda, t) of t * sharpness - sum log(t - f_j) - sum log lambda, with sum lambda fixed."""
    inverse = np.linalg.inv(_gram(x, weights))
    v_inverse = v @ inverse
    g = v_inverse @ x.T
    ratios = (v_inverse * v).sum(2)
    r = 1 / np.maximum(level[:, None] - ratios, ROUNDING * level[:, None])
    slopes = -(g**2)
    rows, n = weights.shape
    hessian = np.zeros((rows, n + 2, n + 2))
    curvature = 2 * (x @ inverse @ x.T) * np.matmul((g * r[:, :, None]).transpose(0, 2, 1), g)
    hessian[:, :n, :n] = curvature + np.matmul((slopes * (r**2)[:, :, None]).transpose(0, 2, 1), slopes)
    place = np.arange(n)
    hessian[:, place, place] += 1 / weights**2
    mixed = -np.einsum("bmn,bm->bn", slopes, r**2)
    hessian[:, :n, n] = hessian[:, n, :n] = mixed
    hessian[:, n, n] = (r**2).sum(1)
    hessian[:, :n, n + 1] = hessian[:, n + 1, :n] = 1.0
    slope_w = np.einsum("bmn,bm->bn", slopes, r) - 1 / weights
    slope_t = sharpness - r.sum(1)
    # in units of the weights, so that tiny ones do no harm to the solution
    unit = np.concatenate([weights, 1 / np.sqrt(hessian[:, n, n])[:, None], np.ones((rows, 1))], 1)
    scaled = hessian * unit[:, :, None] * unit[:, None]
    right = np.concatenate([-slope_w, -slope_t[:, None], np.zeros((rows, 1))], 1) * unit
    try:
        solved = np.linalg.solve(scaled, right[:, :, None])
    except np.linalg.LinAlgError:  # arms that differ by rounding alone
        solved = np.linalg.pinv(scaled, hermitian=True) @ right[:, :, None]
    step = unit * solved[:, :, 0]
    return step[:, :n], step[:, n], -((slope_w * step[:, :n]).sum(1) + slope_t * step[:, n])


def _line_search(
    x: np.ndarray,
    v: np.ndarray,
    weights: np.ndarray,
    level: np.ndarray,
    step_w: np.ndarray,
    step_t: np.ndarray,
    sharpness: np.ndarray,
    decrement: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The first of steps 1, 1/2, 1/4, ... that lowers the barrier enough; none where 50 halvings do not."""
    before = _barrier(x, v, weights, level, sharpness)
    weights, level = weights.copy(), level.copy()
    left, size = np.arange(len(v)), 1.0
    for _ in range(50):
        w, t = weights[left] + size * step_w[left], level[left] + size * step_t[left]
        after = _barrier(x, v[left], w, t, sharpness[left])
        good = after <= before[left] - 0.1 * size * decrement[left] + 1e-12 * np.abs(before[left])
        weights[left[good]], level[left[good]] = w[good], t[good]
        left = left[~good]
        if not len(left):
            break
        size /= 2
    return weights, level


def _barrier(x: np.ndarray, v: np.ndarray, weights: np.ndarray, level: np.ndarray, sharpness: np.ndarray) -> np.ndarray:
    """The barrier's value ``[B]``, infinite outside."""
    found = np.full(len(v), np.inf)
    inside = np.flatnonzero(weights.min(1) > 0)
    if len(inside):
        slack = level[inside, None] - _ratios(x, v[inside], weights[inside])
        fits = slack.min(1) > 0
        inside, slack = inside[fits], slack[fits]
        logs = np.log(slack).sum(1) + np.log(weights[inside]).sum(1)
        found[inside] = sharpness[inside] * level[inside] - logs
    return found
