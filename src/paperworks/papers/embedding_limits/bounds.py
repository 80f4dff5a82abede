"""Lower bounds on the dimension that a relevance matrix needs."""

from __future__ import annotations

from math import ceil, comb, log, log1p, pi
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds

from paperworks.errors import InputError
from paperworks.papers.embedding_limits.qrels import as_qrels

DENSE_CELLS = 4_000_000
"""Up to so many cells the spectral norm is computed from the whole matrix."""
EXACT_SUBSET = 200
"""Up to so large subsets are counted in whole numbers; the series for larger ones is exact to float64."""


def log_subsets(n: int, k: int) -> float:
    """ln C(n, k), for any size."""
    n, k = _whole("n", n), _whole("k", k)
    if n < 1:
        raise InputError("n", n, "1 or more")
    if not 1 <= k <= n:
        raise InputError("k", k, f"from 1 to {n}, the number of documents")
    few = min(k, n - k)
    if few <= EXACT_SUBSET:
        return log(comb(n, few))
    # Stirling's series, written so that no two large terms cancel (a difference of log-gammas does for large n)
    share = few / n
    main = few * log(n / few) - (n - few) * log1p(-share)
    return main - 0.5 * log(2 * pi * few * (1 - share)) + _stirling(n) - _stirling(few) - _stirling(n - few)


def _whole(name: str, number: Any) -> int:
    try:
        if int(number) == number:
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(name, repr(number), "a whole number")


def _stirling(n: int) -> float:
    """ln n! less its main part (n + 1/2) ln n - n + ln(2 pi) / 2, for n of 200 or more."""
    return 1 / (12 * n) - 1 / (360 * n**3)


def margin_bound(n: int, k: int, gamma: float = 0.1) -> int:
    """Theorem 1: fewest dimensions in which unit vectors return every k-subset of n documents with margin ``gamma``.

    d >= ln C(n, k) / ln(1 + 1 / gamma), rounded up; at least 1. The margin is half of the gap between the last relevant
    document and the first other one, 0 < gamma <= 1.
    """
    return _packing(log_subsets(n, k), gamma)


def margin_bound_sets(n_sets: int, gamma: float = 0.1) -> int:
    """Theorem 1 for ``n_sets`` different result sets of one size: d >= ln(n_sets) / ln(1 + 1 / gamma), rounded up.

    The proof packs one ball per query. It needs of each two sets that neither contains the other, which sets of one
    size fulfil.
    """
    if n_sets < 1:
        raise InputError("n_sets", n_sets, "1 or more")
    return _packing(log(n_sets), gamma)


def subsets_bound(n: int, k: int) -> int:
    """Fewest dimensions in which every k-subset of n documents can be on top, without any margin: at least this many.

    min(2k, n - k), with k <= n / 2 (a larger k has the rank of n - k). Of d + 2 points in d dimensions some have a hull
    that meets the hull of the others (Radon); the smaller part has at most k points if d < 2k, and with n - k > d there
    is a k-subset with it and without the others, which no direction can put on top. From 3k documents on this is 2k,
    which the moment curve reaches. An addition to the paper's bounds.
    """
    log_subsets(n, k)
    few = min(k, n - k)
    return min(2 * few, n - few) if few else 0


def _packing(log_sets: float, gamma: float) -> int:
    if not 0 < gamma <= 1:
        raise InputError("gamma", gamma, "a margin above 0, at most 1")
    return max(1, ceil(log_sets / log1p(1 / gamma) - 1e-12))


def forster_bound(signs: Any) -> float:
    """Forster's bound: sign rank >= sqrt(m n) / (spectral norm), of a matrix [m, n] of -1 and 1.

    Raises
    ------
    InputError : a matrix with other values.
    """
    matrix = np.asarray(signs, np.float64)
    if matrix.ndim != 2 or not matrix.size or not (np.abs(matrix) == 1).all():
        raise InputError("signs", f"shape {matrix.shape} or other values", "a matrix of -1 and 1")
    return float(np.sqrt(matrix.size) / np.linalg.norm(matrix, 2))


def forster_bound_qrels(qrels: Any) -> float:
    """Forster's bound on the sign rank of 2A - 1, for a relevance matrix A that may be sparse and large.

    The rank that orders every row rightly is at least this less 1 (Proposition 2).
    """
    matrix = as_qrels(qrels)
    m, n = matrix.shape
    if min(m, n) == 1:
        return 1.0
    if m * n <= DENSE_CELLS:
        return forster_bound(2.0 * matrix.toarray() - 1)
    twice = sparse.csr_array(matrix, dtype=np.float64) * 2.0

    def product(x: np.ndarray) -> np.ndarray:
        return twice @ x.ravel() - x.sum()

    def transposed(y: np.ndarray) -> np.ndarray:
        return twice.T @ y.ravel() - y.sum()

    operator = LinearOperator((m, n), matvec=product, rmatvec=transposed, dtype=np.float64)
    norm = svds(operator, k=1, return_singular_vectors=False, v0=np.ones(min(m, n)), solver="arpack")[0]
    return float(np.sqrt(m) * np.sqrt(n) / norm)
