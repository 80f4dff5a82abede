"""Vectors in 2k dimensions that return every result set of at most k documents (moment curve; Alon, Frankl, Rodl 1985).

Document j has a number t_j and the vector (t_j, t_j^2, ..., t_j^2k). A query for S has the coefficients of
q_S(t) = -prod over a in S of (t - t_a)^2, which is 0 on S and negative elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import sparse

from paperworks.errors import InputError
from paperworks.papers.embedding_limits.qrels import as_qrels


class Construction(NamedTuple):
    """Vectors whose products return every result set.

    Attributes
    ----------
    queries : float64 [queries, d].
    documents : float64 [documents, d].
    margin : the smallest gap of any query between its last relevant and its first other document, of these vectors.
    """

    queries: np.ndarray
    documents: np.ndarray
    margin: float


def construction_dimension(qrels: Any, *, normalize: bool = False) -> int:
    """Dimensions of ``moment_curve_embeddings``: 2 max over queries of min(k, n - k), and 1 more with unit vectors."""
    matrix = as_qrels(qrels)
    sizes = np.diff(matrix.indptr)
    return 2 * max(1, int(np.minimum(sizes, matrix.shape[1] - sizes).max())) + bool(normalize)


def moment_curve_embeddings(
    qrels: Any,
    *,
    normalize: bool = False,
    points: Literal["equal", "chebyshev"] | Sequence[float] | np.ndarray = "equal",
) -> Construction:
    """Vectors that put the relevant documents of every query strictly on top.

    A query with more than half of the documents uses the polynomial of the others with the opposite sign.

    Parameters
    ----------
    qrels : relevance matrix [queries, documents], at most k relevant (or at most k others) per query.
    normalize : add a coordinate, and give documents and queries unit length: 2k + 1 dimensions. The coordinate makes
        scores the polynomials themselves, so that lengths do not change signs.
    points : t_j: "equal" spacing in [-1, 1], "chebyshev" points, or numbers, one for each document, all different.

    Raises
    ------
    InputError : points that are not different, or more documents than float64 can tell apart: the result is checked.
    """
    matrix = as_qrels(qrels)
    n = matrix.shape[1]
    t = _points(points, n)
    degree = construction_dimension(matrix)
    powers = np.vander(t, degree + 1, increasing=True)
    rows = np.stack([_coefficients(t, matrix.indices[a:b], degree) for a, b in _spans(matrix)])
    queries, documents = (rows, powers) if normalize else (rows[:, 1:], powers[:, 1:])
    if normalize:
        documents = documents / np.linalg.norm(documents, axis=1, keepdims=True)
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    margin = smallest_margin(queries, documents, matrix)
    if not margin > 0:
        raise InputError(
            "qrels",
            f"{n} documents and result sets of up to {degree // 2}: the smallest gap is below the precision of float64",
            "fewer documents or smaller sets (the construction exists for any number, in exact numbers)",
        )
    return Construction(queries, documents, margin)


def returned_by_construction(qrels: Any, d: int) -> np.ndarray:
    """Which result sets the moment curve returns in d dimensions in float32: bool [queries].

    Those with min(k, n - k) above d / 2 are not, and those whose gap is lost in float32.
    """
    matrix = as_qrels(qrels)
    n = matrix.shape[1]
    t = _points("equal", n)
    sizes = np.diff(matrix.indptr)
    few = np.minimum(sizes, n - sizes)
    possible = np.flatnonzero(2 * few <= d)
    found = np.zeros(matrix.shape[0], bool)
    if not len(possible):
        return found
    degree = max(2, 2 * int(few[possible].max()))
    spans = _spans(matrix)
    rows = np.stack([_coefficients(t, matrix.indices[slice(*spans[i])], degree) for i in possible])
    powers = np.vander(t, degree + 1, increasing=True)
    gaps = margins(rows[:, 1:].astype(np.float32), powers[:, 1:].astype(np.float32), matrix[possible])
    found[possible] = gaps > 0
    return found


def exact_margin(qrels: Any, points: Sequence[Fraction] | None = None) -> Fraction:
    """The smallest gap of the construction in exact rational numbers, at equally spaced points by default.

    Coefficients and powers are multiplied out as in the vectors, so that this checks the construction for any size.
    """
    matrix = as_qrels(qrels)
    n = matrix.shape[1]
    t = list(points) if points is not None else [Fraction(2 * j - (n - 1), max(n - 1, 1)) for j in range(n)]
    if len(set(t)) != n:
        raise InputError("points", f"{len(set(t))} different numbers", f"{n}, one for each document")
    smallest: Fraction | None = None
    for a, b in _spans(matrix):
        members = set(matrix.indices[a:b].tolist())
        if len(members) == n:
            continue
        c = _exact_coefficients(
            [t[j] for j in sorted(members)] if 2 * len(members) <= n else [t[j] for j in range(n) if j not in members],
            2 * len(members) <= n,
        )
        scores = [sum(c[p] * x**p for p in range(1, len(c))) for x in t]
        inside = min(scores[j] for j in members)
        outside = max(scores[j] for j in range(n) if j not in members)
        gap = Fraction(inside - outside)
        smallest = gap if smallest is None else min(smallest, gap)
    return smallest if smallest is not None else Fraction(1)


def smallest_margin(queries: np.ndarray, documents: np.ndarray, qrels: Any, *, chunk: int = 1024) -> float:
    """The smallest gap over queries of (least relevant score - greatest other score); ties are gaps of 0.

    Parameters
    ----------
    queries, documents : [queries, d] and [documents, d].
    """
    return float(margins(queries, documents, qrels, chunk=chunk).min())


def margins(queries: np.ndarray, documents: np.ndarray, qrels: Any, *, chunk: int = 1024) -> np.ndarray:
    """Gap of every query [queries]; above 0 where the result set is returned, infinite where all are relevant."""
    matrix = as_qrels(qrels)
    if len(queries) != matrix.shape[0] or len(documents) != matrix.shape[1]:
        raise InputError("qrels", f"shape {matrix.shape}", f"({len(queries)}, {len(documents)}), as the vectors have")
    gaps = np.empty(matrix.shape[0])
    for start in range(0, len(gaps), chunk):
        part = matrix[start : start + chunk].toarray()
        scores = np.asarray(queries[start : start + chunk] @ documents.T)
        inside = np.where(part, scores, np.inf).min(axis=1)
        outside = np.where(part, -np.inf, scores).max(axis=1)
        gaps[start : start + chunk] = inside - outside
    return gaps


def _spans(matrix: sparse.csr_array) -> list[tuple[int, int]]:
    return list(zip(matrix.indptr[:-1].tolist(), matrix.indptr[1:].tolist(), strict=True))


def _points(points: Any, n: int) -> np.ndarray:
    if isinstance(points, str):
        if points == "equal":
            return np.linspace(-1.0, 1.0, n) if n > 1 else np.ones(1)
        if points == "chebyshev":
            return np.cos((2 * np.arange(n) + 1) * np.pi / (2 * n))
        raise InputError("points", repr(points), "equal, chebyshev, or one number for each document")
    t = np.asarray(points, np.float64)
    if t.shape != (n,) or len(np.unique(t)) != n or not np.isfinite(t).all():
        raise InputError("points", f"{len(np.unique(t))} different numbers", f"{n}, one for each document")
    return t


def _coefficients(t: np.ndarray, members: np.ndarray, degree: int) -> np.ndarray:
    """Coefficients of t^0 ... t^degree of the polynomial of a result set."""
    n = len(t)
    few = 2 * len(members) <= n
    roots = t[members] if few else np.delete(t, members)
    c = np.polynomial.polynomial.polyfromroots(np.repeat(roots, 2)) * (-1.0 if few else 1.0)
    out = np.zeros(degree + 1)
    out[: len(c)] = c
    return out


def _exact_coefficients(roots: list[Fraction], few: bool) -> list[Fraction]:
    c = [Fraction(-1 if few else 1)]
    for root in roots:
        for _ in range(2):
            c = [
                (c[p - 1] if p else Fraction(0)) - (root * c[p] if p < len(c) else Fraction(0))
                for p in range(len(c) + 1)
            ]
    return c
