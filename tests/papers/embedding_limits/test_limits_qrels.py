"""Relevance matrices: patterns, density, checks, the exact reduction."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import sparse

from paperworks.errors import InputError
from paperworks.papers.embedding_limits import all_subsets, as_qrels, make_qrels, order_rank, qrel_stats, reduce_qrels
from paperworks.papers.embedding_limits.published import DENSITY
from paperworks.papers.embedding_limits.qrels import GradedScoresWarning, Pattern


def sets(matrix: sparse.csr_array) -> list[tuple[int, ...]]:
    return [tuple(np.flatnonzero(row).tolist()) for row in matrix.toarray()]


def test_limit_has_the_papers_density() -> None:
    stats = qrel_stats(make_qrels("dense", 50_000, 1000, 2))
    assert round(stats.density_queries, 6) == DENSITY["LIMIT"][0]
    assert round(stats.query_strength, 4) == DENSITY["LIMIT"][1]
    assert stats.density_docs == pytest.approx(1000 / 1035)
    assert stats.n_judged == 46
    values, counts = np.unique(stats.degrees[:46], return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {45: 37, 38: 2, 37: 7}
    assert stats.distinct_sets == 1000


def test_density_by_its_definition() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.random((40, 15)) < 0.2
    matrix[np.arange(40), rng.integers(15, size=40)] = True
    stats = qrel_stats(matrix)
    found = [set(s) for s in sets(as_qrels(matrix))]
    edges = sum(bool(a & b) for a, b in combinations(found, 2))
    strength = sum(len(a & b) / len(a | b) for i, a in enumerate(found) for j, b in enumerate(found) if i != j)
    assert stats.density_queries == pytest.approx(edges / (40 * 39 / 2))
    assert stats.query_strength == pytest.approx(strength / 40)
    used = [j for j in range(15) if matrix[:, j].any()]
    together = sum(bool((matrix[:, a] & matrix[:, b]).any()) for a, b in combinations(used, 2))
    assert stats.density_docs == pytest.approx(2 * together / (len(used) * (len(used) - 1)))


def test_patterns() -> None:
    assert sets(make_qrels("dense", 5, 4, 2)) == [(0, 1), (0, 2), (0, 3), (1, 2)]  # n' = 4: C(3, 2) is 3
    assert sets(make_qrels("cycle", 4, 5, 2)) == [(0, 1), (1, 2), (2, 3), (0, 3), (0, 1)]
    assert sets(make_qrels("disjoint", 7, 3, 2)) == [(0, 1), (2, 3), (4, 5)]
    drawn = make_qrels("random", 30, 50, 3, seed=1)
    assert drawn.dtype == bool
    assert np.diff(drawn.indptr).tolist() == [3] * 50
    assert (drawn != make_qrels("random", 30, 50, 3, seed=1)).nnz == 0
    assert (drawn != make_qrels("random", 30, 50, 3, seed=2)).nnz > 0
    assert all_subsets(6, 3).shape == (20, 6)


@pytest.mark.parametrize(
    ("pattern", "n", "m", "k", "word"),
    [
        ("dense", 45, 1000, 2, "46 or more"),
        ("disjoint", 5, 3, 2, "6 or more"),
        ("random", 3, 3, 4, "at most 3"),
        ("cycle", 3, 0, 1, "n_queries"),
        ("dens", 3, 2, 1, "did you mean 'dense'"),
    ],
)
def test_patterns_that_do_not_fit(pattern: Pattern, n: int, m: int, k: int, word: str) -> None:
    with pytest.raises(InputError, match=word):
        make_qrels(pattern, n, m, k)


def test_bad_matrices_are_refused() -> None:
    with pytest.raises(InputError, match=r"rows 1: found no relevant"):
        as_qrels([[1, 0], [0, 0]])
    with pytest.raises(InputError, match="-1"):
        as_qrels([[1, -1]])
    with pytest.raises(InputError, match="NaN"):
        as_qrels([[1, float("nan")]])
    with pytest.raises(InputError, match="shape"):
        as_qrels(np.ones(3))
    with pytest.warns(GradedScoresWarning):
        assert as_qrels([[0, 3, 1]]).toarray().tolist() == [[False, True, True]]


def test_repeated_cells_count_once() -> None:
    twice = sparse.coo_array((np.ones(3), ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    assert as_qrels(twice).toarray().tolist() == [[False, True], [True, False]]


def test_reduction_merges_equal_rows_and_columns_and_keeps_the_rank() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        core = rng.random((3, 3)) < 0.5
        core[~core.any(axis=1), 0] = True
        rows, columns = rng.integers(3, size=6), rng.integers(3, size=6)
        whole = core[rows][:, columns]
        if not whole.any(axis=1).all():
            continue
        small = reduce_qrels(whole)
        assert (small.matrix.toarray()[small.query_of][:, small.document_of] == whole).all()
        assert len({r.tobytes() for r in small.matrix.toarray()}) == small.matrix.shape[0]
        assert len({c.tobytes() for c in small.matrix.toarray().T}) == small.matrix.shape[1]
        assert order_rank(small.matrix) == order_rank(whole)
