"""Relevance matrices (qrels): patterns, checks, measures of density, and an exact reduction.

A relevance matrix is a ``scipy.sparse.csr_array`` of bool [queries, documents].
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import combinations, islice
from math import comb
from typing import Any, Literal

import numpy as np
from scipy import sparse

from paperworks.errors import InputError, nearest
from paperworks.parameters import check_seed

Pattern = Literal["dense", "random", "cycle", "disjoint"]
PATTERNS: tuple[Pattern, ...] = ("dense", "random", "cycle", "disjoint")
LARGEST_PAIRS = 2**30
"""Relevant pairs of the largest matrix that is made of all subsets."""
GRAPH_ROWS = 1024
"""Queries (or documents) whose overlaps with all others are held at a time."""


class GradedScoresWarning(UserWarning):
    """Relevance was graded; every score above 0 counts as relevant."""


def as_qrels(given: Any, *, field: str = "qrels") -> sparse.csr_array:
    """A checked relevance matrix from a dense or sparse matrix.

    Parameters
    ----------
    given : [queries, documents], bool or numbers. Scores above 0 are relevant; other values than 0 and 1 give a
        GradedScoresWarning. A cell that a sparse matrix has twice counts once.

    Returns
    -------
    csr_array of bool, without stored zeros, columns sorted.

    Raises
    ------
    InputError : not a matrix, empty, a query without a relevant document, negative or missing scores.
    """
    if sparse.issparse(given):
        matrix = sparse.coo_array(given)
        values = np.asarray(matrix.data)
    else:
        dense = np.asarray(given)
        if dense.ndim != 2 or dense.dtype.kind not in "biuf":
            raise InputError(field, f"{dense.dtype} of shape {dense.shape}", "numbers or bools [queries, documents]")
        matrix = sparse.coo_array(dense)
        values = dense
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise InputError(field, f"shape {matrix.shape}", "[queries, documents], one or more of each")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(field, "NaN or infinity", "relevance scores: 0, 1, or grades")
    if values.dtype.kind != "b" and (values < 0).any():
        raise InputError(field, f"the score {values.min():g}", "scores of 0 or more")
    if values.dtype.kind != "b" and not np.isin(np.unique(values), (0, 1)).all():
        warnings.warn("relevance is graded: every score above 0 counts as relevant", GradedScoresWarning, stacklevel=2)
    kept = matrix.data > 0
    rows, columns = (axis[kept] for axis in matrix.coords)
    cells = np.unique(rows.astype(np.int64) * matrix.shape[1] + columns)
    rows, columns = np.divmod(cells, matrix.shape[1])
    found = sparse.csr_array((np.ones(len(cells), bool), (rows, columns)), shape=matrix.shape)
    empty = np.flatnonzero(np.diff(found.indptr) == 0)
    if len(empty):
        some = ", ".join(str(i) for i in empty[:5])
        more = ", ..." if len(empty) > 5 else ""
        raise InputError(f"{field}, rows {some}{more}", "no relevant document", "one or more in each row (query)")
    return found


def make_qrels(
    pattern: Pattern = "dense", n_docs: int = 46, n_queries: int = 1000, k: int = 2, seed: int = 0
) -> sparse.csr_array:
    """A relevance matrix of one of the paper's four patterns, k documents per query.

    Parameters
    ----------
    pattern : "dense" (all k-subsets of as few documents as there must be, in lexicographic order, the first
        ``n_queries``), "random" (k of all documents for each query), "cycle" (query i has i, i+1, ..., modulo
        ``n_docs``) or "disjoint" (query i has ik, ..., ik+k-1).
    seed : of the random pattern.

    Raises
    ------
    InputError : an unknown pattern, k outside 1..n_docs, or too few documents for the pattern.
    """
    check_seed("seed", seed)
    for name, value in (("n_docs", n_docs), ("n_queries", n_queries), ("k", k)):
        if value < 1:
            raise InputError(name, value, "1 or more")
    if k > n_docs:
        raise InputError("k", k, f"at most {n_docs}, the number of documents")
    if pattern == "dense":
        needed = dense_documents(n_queries, k)
        if needed > n_docs:
            raise InputError("n_docs", n_docs, f"{needed} or more: fewer have no {n_queries} subsets of {k}")
        columns = np.fromiter(islice(combinations(range(needed), k), n_queries), dtype=(np.int64, (k,)))
    elif pattern == "random":
        rng = np.random.default_rng(seed)
        columns = np.stack([rng.choice(n_docs, size=k, replace=False) for _ in range(n_queries)])
    elif pattern == "cycle":
        columns = (np.arange(n_queries)[:, None] + np.arange(k)) % n_docs
    elif pattern == "disjoint":
        if n_queries * k > n_docs:
            raise InputError("n_docs", n_docs, f"{n_queries * k} or more: {n_queries} queries with {k} of their own")
        columns = np.arange(n_queries * k).reshape(n_queries, k)
    else:
        raise InputError("pattern", repr(pattern), f"one of {', '.join(PATTERNS)}{nearest(pattern, PATTERNS)}")
    return _from_columns(np.sort(columns, axis=1), n_docs)


def all_subsets(n_docs: int, k: int = 2) -> sparse.csr_array:
    """Every k-subset of ``n_docs`` documents as a query, in lexicographic order: C(n, k) rows."""
    if not 1 <= k <= n_docs:
        raise InputError("k", k, f"from 1 to {n_docs}, the number of documents")
    if comb(n_docs, k) * k > LARGEST_PAIRS:
        raise InputError("n_docs", f"{n_docs} documents with {comb(n_docs, k):,} subsets of {k}", "fewer subsets")
    return make_qrels("dense", n_docs, comb(n_docs, k), k)


def dense_documents(n_queries: int, k: int) -> int:
    """The fewest documents n >= k with C(n, k) >= n_queries."""
    n = k
    while comb(n, k) < n_queries:
        n += 1
    return n


def _from_columns(columns: np.ndarray, n_docs: int) -> sparse.csr_array:
    """From equally many sorted column numbers [queries, k]."""
    m, k = columns.shape
    starts = np.arange(m + 1) * k
    return sparse.csr_array((np.ones(m * k, bool), columns.ravel(), starts), shape=(m, n_docs))


@dataclass(frozen=True)
class QrelStats:
    """Measures of a relevance matrix (appendix F).

    Attributes
    ----------
    n_queries, n_docs, n_judged : queries, documents, and documents that are relevant to some query.
    density_queries : density 2 |E| / (|V| (|V| - 1)) of the graph of queries; an edge where two share a document. The
        paper's 0.085481 of LIMIT is this one.
    density_docs : the same of the judged documents; an edge where two are relevant to one query.
    query_strength : mean over queries of the sum of Jaccard similarities with the other queries.
    degrees : int64 [n_docs], queries that each document is relevant to.
    set_sizes : int64 [n_queries], relevant documents of each query.
    distinct_sets : different result sets.
    """

    n_queries: int
    n_docs: int
    n_judged: int
    density_queries: float
    density_docs: float
    query_strength: float
    degrees: np.ndarray
    set_sizes: np.ndarray
    distinct_sets: int


def qrel_stats(qrels: Any) -> QrelStats:
    """Density and strength of a relevance matrix [queries, documents]; see ``QrelStats``."""
    matrix = as_qrels(qrels)
    counts = sparse.csr_array(matrix, dtype=np.int64)
    sizes = np.diff(matrix.indptr).astype(np.int64)
    degrees = np.bincount(matrix.indices, minlength=matrix.shape[1]).astype(np.int64)
    judged = np.flatnonzero(degrees)
    edges, strength = _overlaps(counts, sizes)
    document_edges, _ = _overlaps(sparse.csr_array(counts[:, judged].T), degrees[judged])
    m = matrix.shape[0]
    return QrelStats(
        n_queries=m,
        n_docs=matrix.shape[1],
        n_judged=len(judged),
        density_queries=_density(edges, m),
        density_docs=_density(document_edges, len(judged)),
        query_strength=strength / m,
        degrees=degrees,
        set_sizes=sizes,
        distinct_sets=len(set(_keys(matrix))),
    )


def _overlaps(matrix: sparse.csr_array, sizes: np.ndarray) -> tuple[int, float]:
    """Pairs of rows that share a column, and the sum over ordered pairs of their Jaccard similarity."""
    twice, total = 0, 0.0
    columns = sparse.csc_array(matrix.T)
    for start in range(0, matrix.shape[0], GRAPH_ROWS):
        shared = sparse.coo_array(matrix[start : start + GRAPH_ROWS] @ columns)
        rows, others = shared.coords
        apart = rows + start != others
        rows, others, common = rows[apart] + start, others[apart], shared.data[apart]
        twice += len(common)
        total += float((common / (sizes[rows] + sizes[others] - common)).sum())
    return twice // 2, total


def _density(edges: int, vertices: int) -> float:
    return 2 * edges / (vertices * (vertices - 1)) if vertices > 1 else 0.0


def _keys(matrix: sparse.csr_array) -> list[bytes]:
    """One key for each row; equal rows have equal keys."""
    parts = matrix.indices.astype(np.int64)
    return [parts[a:b].tobytes() for a, b in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)]


@dataclass(frozen=True)
class ReducedQrels:
    """A relevance matrix with every result set once and every kind of document once.

    Documents that are relevant to the same queries can share a vector, and so can queries with the same result set:
    the dimension that a matrix needs is that of its reduction. All documents in no result set become one.

    Attributes
    ----------
    matrix : csr_array of bool [distinct result sets, distinct documents].
    query_of : int64 [queries], the row of each query.
    document_of : int64 [documents], the column of each document.
    """

    matrix: sparse.csr_array
    query_of: np.ndarray
    document_of: np.ndarray


def reduce_qrels(qrels: Any) -> ReducedQrels:
    """Merge queries with equal result sets and documents with equal queries; see ``ReducedQrels``."""
    matrix = as_qrels(qrels)
    rows, query_of = _distinct(matrix)
    columns, document_of = _distinct(sparse.csr_array(matrix.T))
    return ReducedQrels(sparse.csr_array(matrix[rows][:, columns]), query_of, document_of)


def _distinct(matrix: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """First row of each kind, in order, and the kind of each row."""
    matrix.sort_indices()
    kinds: dict[bytes, int] = {}
    kind_of = np.array([kinds.setdefault(key, len(kinds)) for key in _keys(matrix)], np.int64)
    _, first = np.unique(kind_of, return_index=True)
    return first, kind_of
