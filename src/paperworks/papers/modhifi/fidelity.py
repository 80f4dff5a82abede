"""Subset fidelity: how well some contributions, each rescaled in the best way, rebuild the output of a layer.

Everything is a function of the similarity matrix Q of one output, Q_ij = E<A_i, A_j>, of the contributions A_i that add
up to it:  FS(C) = max_delta 1 - E||Y - sum_{i in C} delta_i A_i||^2 / E||Y||^2 = b_C' Q_CC^+ b_C / (1' Q 1),  b = Q 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch

from paperworks.errors import InputError
from paperworks.parameters import check_seed

Method = Literal["naive", "greedy", "mc", "exact"]
EXHAUSTIVE_LIMIT = 200_000
"""Most subsets that an exhaustive search looks at."""


def _checked(similarity: torch.Tensor) -> torch.Tensor:
    q = torch.as_tensor(similarity, dtype=torch.float64)
    if q.ndim != 2 or q.shape[0] != q.shape[1] or not len(q):
        raise InputError("similarity", f"shape {tuple(q.shape)}", "a square matrix")
    if not bool(torch.isfinite(q).all()):
        raise InputError("similarity", "NaN or infinite values", "finite values")
    return q


def _indices(subset: Sequence[int] | torch.Tensor, n: int) -> torch.Tensor:
    index = torch.as_tensor(subset, dtype=torch.int64).flatten()
    if len(index) and not (int(index.min()) >= 0 and int(index.max()) < n):
        raise InputError("subset", f"indices from {int(index.min())} to {int(index.max())}", f"0 to {n - 1}")
    if len(index.unique()) != len(index):
        raise InputError("subset", "an index twice", "each index once")
    return index


def subset_fidelity(similarity: torch.Tensor, subset: Sequence[int] | torch.Tensor) -> float:
    """FS of a subset, from 0 to 1; 0 for an output that is always zero.

    Parameters
    ----------
    similarity : Q, symmetric and positive semi-definite [n, n].
    subset : indices of contributions.
    """
    q = _checked(similarity)
    index = _indices(subset, len(q))
    total = float(q.sum())
    if not len(index) or total <= 0:
        return 0.0
    b = q.sum(1)[index]
    inverse = torch.linalg.pinv(q[index][:, index], hermitian=True)
    return min(1.0, max(0.0, float(b @ inverse @ b) / total))


def optimal_scales(similarity: torch.Tensor, subset: Sequence[int] | torch.Tensor, ridge: float = 0.0) -> torch.Tensor:
    """delta* float64 [n]: 1 + Q_CC^{-1} Q_{C, rest} 1 in the subset, 0 outside.

    ``ridge`` is added to the diagonal of Q_CC and pulls the scales towards 1. With 0, the solution of least norm.
    """
    q = _checked(similarity)
    index = _indices(subset, len(q))
    scales = torch.zeros(len(q), dtype=torch.float64)
    if len(index):
        inside = q[index][:, index]
        lost = q.sum(1)[index] - inside.sum(1)
        if ridge > 0:
            change = torch.linalg.solve(inside + ridge * torch.eye(len(index), dtype=torch.float64), lost)
        else:
            change = torch.linalg.pinv(inside, hermitian=True) @ lost
        scales[index] = 1 + change
    return scales


def reconstruction_error(similarity: torch.Tensor, scales: torch.Tensor) -> float:
    """E||Y - sum_i scales_i A_i||^2 / E||Y||^2 = v'Qv / 1'Q1 with v = 1 - scales."""
    q = _checked(similarity)
    v = 1 - torch.as_tensor(scales, dtype=torch.float64)
    total = float(q.sum())
    return float(v @ q @ v) / total if total > 0 else 0.0


def singleton_fidelity(similarity: torch.Tensor) -> torch.Tensor:
    """FS({i}) = (Q 1)_i^2 / (Q_ii 1'Q1), float64 [n]; 0 where a contribution is always zero."""
    q = _checked(similarity)
    rowsum, energy, total = q.sum(1), q.diagonal(), q.sum()
    alive = energy > 1e-12 * energy.max()
    if total <= 0 or not bool(alive.any()):
        return torch.zeros(len(q), dtype=torch.float64)
    return torch.where(alive, rowsum.square() / (energy.clamp(min=1e-300) * total), 0.0).clamp(0, 1)


def hifi_set(
    similarity: torch.Tensor,
    k: int | None = None,
    eta: float | None = None,
    *,
    method: Method = "naive",
    tries: int = 1000,
    seed: int = 0,
) -> tuple[list[int], float]:
    """A set of at most ``k`` contributions with a high fidelity, or the smallest found that reaches ``eta``.

    Parameters
    ----------
    k, eta : one of the two.
    method : ``naive`` takes the best single contributions (optimal where Q is diagonal); ``greedy`` adds what raises FS
        most, solved anew after each addition, so that copies of a feature are taken once; ``mc`` is the best of
        ``tries`` random sets of each size, a lower bound; ``exact`` tries every set (the problem is NP-hard).

    Returns
    -------
    indices in the order in which they were taken (ascending for mc and exact), and their FS.
    """
    check_seed("seed", seed)
    q = _checked(similarity)
    n = len(q)
    if (k is None) == (eta is None):
        raise InputError("k", f"k {k} and eta {eta}", "one of k and eta")
    if k is not None and not 1 <= k <= n:
        raise InputError("k", k, f"1 to {n}, the number of contributions")
    if eta is not None and not 0 < eta <= 1:
        raise InputError("eta", eta, "a fidelity above 0, at most 1")
    if method in ("naive", "greedy"):
        order = singleton_fidelity(q).argsort(descending=True, stable=True).tolist()
        if method == "greedy":
            order = _greedy(q, n if k is None else k, eta)
        if k is not None:
            return order[:k], subset_fidelity(q, order[:k])
        return _shortest(q, order, float(eta or 0))
    if method not in ("mc", "exact"):
        raise InputError("method", method, "naive, greedy, mc or exact")
    if method == "mc" and tries < 1:
        raise InputError("tries", tries, "1 or more")
    generator = torch.Generator().manual_seed(seed)
    best: tuple[list[int], float] = ([], 0.0)
    for size in [k] if k is not None else range(1, n + 1):
        if method == "exact":
            if math.comb(n, size) > EXHAUSTIVE_LIMIT:
                raise InputError("method", f"exact, {math.comb(n, size):,} sets of {size}", "greedy, mc or naive")
            sets = [list(chosen) for chosen in itertools.combinations(range(n), size)]
        else:
            sets = [sorted(torch.randperm(n, generator=generator)[:size].tolist()) for _ in range(tries)]
        found = max(((subset_fidelity(q, chosen), chosen) for chosen in sets), key=lambda pair: pair[0])
        best = (found[1], found[0])
        if eta is not None and best[1] >= eta - 1e-12:
            break
    return best


def _shortest(q: torch.Tensor, order: list[int], eta: float) -> tuple[list[int], float]:
    """The shortest beginning of ``order`` with FS >= eta: FS never falls along it, so it is found by halving."""
    low, high = 1, len(order)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if subset_fidelity(q, order[:middle]) >= eta - 1e-12 else (middle + 1, high)
    return order[:low], subset_fidelity(q, order[:low])


def _greedy(q: torch.Tensor, count: int, eta: float | None) -> list[int]:
    """The order in which contributions raise FS most: pivoted Cholesky on Q with the residual of b = Q 1."""
    n = len(q)
    residual, remaining = q.sum(1).clone(), q.diagonal().clone()
    floor = 1e-12 * float(remaining.max().clamp(min=1e-300))
    factors = torch.zeros(n, 0, dtype=torch.float64)
    total, reached = float(q.sum()), 0.0
    order: list[int] = []
    for _ in range(count):
        gain = torch.where(remaining > floor, residual.square() / remaining.clamp(min=1e-300), -1.0)
        gain[order] = -2.0
        best = int(gain.argmax())
        order.append(best)
        if float(gain[best]) <= 0:
            continue
        column = (q[:, best] - factors @ factors[best]) / remaining[best].sqrt()
        residual = residual - column * (residual[best] / remaining[best].sqrt())
        remaining = (remaining - column.square()).clamp(min=0)
        factors = torch.cat([factors, column[:, None]], 1)
        reached += float(gain[best]) / total if total > 0 else 0.0
        if eta is not None and reached >= eta:
            break
    return order
