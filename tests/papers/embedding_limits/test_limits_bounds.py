"""Bounds, the moment-curve construction, exact ranks of small matrices, and the curve."""

from __future__ import annotations

from fractions import Fraction
from math import comb, log

import numpy as np
import pytest
from scipy.linalg import hadamard
from scipy.optimize import linprog

from paperworks.errors import InputError
from paperworks.papers.embedding_limits import (
    all_subsets,
    capacity_report,
    exact_margin,
    fit_curve,
    forster_bound,
    forster_bound_qrels,
    make_qrels,
    margin_bound,
    moment_curve_embeddings,
    order_rank,
    paper_curve,
    sign_rank,
    small_ranks,
    subsets_bound,
)
from paperworks.papers.embedding_limits import bounds as bounds_module
from paperworks.papers.embedding_limits.bounds import log_subsets
from paperworks.papers.embedding_limits.construction import returned_by_construction
from paperworks.papers.embedding_limits.published import MARGIN_BOUNDS


def test_bound_table_of_the_paper() -> None:
    assert {(n, k): margin_bound(n, k) for n, k in MARGIN_BOUNDS} == MARGIN_BOUNDS


def test_margin_bound_by_hand() -> None:
    assert margin_bound(46, 2, 0.3) == int(np.ceil(log(comb(46, 2)) / log(1 + 1 / 0.3)))
    assert margin_bound(5, 5) == 1  # all documents: nothing to tell apart
    assert margin_bound(4, 1, 1.0) == 2  # ln 4 / ln 2, exactly
    with pytest.raises(InputError, match="whole number"):
        margin_bound(10, 2.5)  # type: ignore[arg-type]
    for gamma in (0.0, -1.0, 1.5):
        with pytest.raises(InputError, match="gamma"):
            margin_bound(10, 2, gamma)
    with pytest.raises(InputError, match="k"):
        margin_bound(3, 4)


@pytest.mark.parametrize("n", [10**12, 10**15, 10**16, 10**17, 10**18])
@pytest.mark.parametrize("k", [1, 2, 10, 199, 201, 2000])
def test_margin_bound_of_many_documents(n: int, k: int) -> None:
    exact = log(comb(n, k))
    assert log_subsets(n, k) == pytest.approx(exact, rel=1e-13)
    assert log_subsets(n, n - k) == log_subsets(n, k)
    assert margin_bound(n, k) == int(np.ceil(exact / log(11)))


def test_subsets_of_a_large_part_of_the_documents() -> None:
    for n, k in ((1000, 500), (1000, 300), (403, 201), (20_000, 9_999)):
        assert log_subsets(n, k) == pytest.approx(log(comb(n, k)), rel=1e-13)


def test_most_documents_of_a_margin_are_the_most() -> None:
    found = capacity_report((50, 2), dims=(30,)).documents
    assert found is not None
    assert log(comb(int(found.iloc[0, 1]), 2)) == pytest.approx(30 * log(11), rel=1e-12)
    assert int(found.iloc[0, 1]) > 10**15


def test_forster_on_hadamard_matrices_and_on_limit() -> None:
    for order in (4, 8, 16):
        assert forster_bound(hadamard(order)) == pytest.approx(order**0.5, abs=1e-9)
    assert forster_bound_qrels(make_qrels()) == pytest.approx(1.095, abs=5e-4)
    with pytest.raises(InputError, match="-1 and 1"):
        forster_bound([[0, 1]])


def test_forster_without_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = forster_bound_qrels(make_qrels("random", 60, 80, 3))
    monkeypatch.setattr(bounds_module, "DENSE_CELLS", 1)
    assert forster_bound_qrels(make_qrels("random", 60, 80, 3)) == pytest.approx(whole, rel=1e-6)
    assert forster_bound_qrels([[1, 0, 1]]) == pytest.approx(1)
    assert forster_bound_qrels([[1], [1]]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("n", "k", "normalize", "dimensions"), [(46, 2, False, 4), (46, 2, True, 5), (20, 3, False, 6), (9, 7, False, 4)]
)
def test_construction_puts_every_set_on_top(n: int, k: int, normalize: bool, dimensions: int) -> None:
    qrels = all_subsets(n, k)
    queries, documents, margin = moment_curve_embeddings(qrels, normalize=normalize)
    assert queries.shape == (comb(n, k), dimensions)
    assert documents.shape == (n, dimensions)
    relevant = qrels.toarray()
    scores = queries @ documents.T
    gaps = np.where(relevant, scores, np.inf).min(axis=1) - np.where(relevant, -np.inf, scores).max(axis=1)
    assert gaps.min() > 0
    assert margin == pytest.approx(gaps.min())
    if normalize:
        assert np.linalg.norm(documents, axis=1) == pytest.approx(1)


def test_margins_of_46_documents() -> None:
    qrels = all_subsets(46)
    assert moment_curve_embeddings(qrels).margin == pytest.approx(3.9e-6, rel=0.01)
    assert moment_curve_embeddings(qrels, normalize=True).margin == pytest.approx(2.5e-7, rel=0.01)
    assert returned_by_construction(qrels, 4).all()  # in float32
    assert not returned_by_construction(qrels, 3).any()
    assert moment_curve_embeddings(qrels, points="chebyshev").margin < 1e-8


def test_construction_in_exact_numbers() -> None:
    # two neighbours of the middle document: the gap is the fourth power of the spacing
    assert exact_margin(all_subsets(9)) == Fraction(2, 8) ** 4
    assert exact_margin(all_subsets(5, 3)) > 0  # by the complement
    assert float(exact_margin(all_subsets(9))) == pytest.approx(moment_curve_embeddings(all_subsets(9)).margin)


def test_construction_fails_loudly_without_precision() -> None:
    with pytest.raises(InputError, match="precision"):
        moment_curve_embeddings(make_qrels("cycle", 400, 400, 8))
    with pytest.raises(InputError, match="different numbers"):
        moment_curve_embeddings(all_subsets(3, 1), points=[0.0, 0.0, 1.0])


def separable(points: np.ndarray, inside: np.ndarray) -> bool:
    """By linear programming: is there u, c with u.v >= c + 1 inside and u.v <= c - 1 outside?"""
    sign = np.where(inside, -1.0, 1.0)[:, None]
    system = np.hstack([sign * points, -sign])
    return bool(linprog(np.zeros(system.shape[1]), system, -np.ones(len(points)), bounds=(None, None)).status == 0)


def test_ranks_against_random_points() -> None:
    """What lines cut off random points is of order rank at most 2, and no matrix of a smaller rank is found."""
    rng = np.random.default_rng(0)
    for _ in range(6):
        points = rng.normal(size=(5, 2))
        every = np.array([[b >> j & 1 for j in range(5)] for b in range(1, 31)], bool)
        cut = np.array([row for row in every if separable(points, row)])
        assert order_rank(cut) == 2
        line = np.sort(rng.normal(size=(5, 1)), axis=0)
        rows = np.array([row for row in every if separable(line, row)])
        assert order_rank(rows) == 1
    assert order_rank(all_subsets(5)) is None
    assert order_rank(all_subsets(4)) == 2
    assert order_rank(np.ones((2, 3))) == 0


def test_sign_rank_of_known_matrices() -> None:
    assert sign_rank([[1, 0], [0, 1]]) == 1
    assert sign_rank([[1, 1], [1, 0]]) == 2
    assert sign_rank([[1, 1], [1, 1]]) == 1
    assert sign_rank(np.tril(np.ones((5, 5)))) == 2
    assert sign_rank(np.eye(5)) == 3
    assert sign_rank(hadamard(4)[1:] > 0) is not None


def test_proposition_2_is_never_violated() -> None:
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(40):
        m, n = rng.integers(1, 7), rng.integers(2, 6)
        matrix = rng.random((m, n)) < rng.uniform(0.2, 0.8)
        matrix[~matrix.any(axis=1), 0] = True
        order, one, sign = small_ranks(matrix)
        seen.add((order, one, sign))
        top = 9  # what was not decided is above
        low, middle, high = (sign or top) - 1, order if order is not None else top, one if one is not None else top
        assert low <= middle or order is None
        assert middle <= high
        assert one is None or one <= (sign or top)
        assert sign is None or sign > 2 or one is not None
    assert len(seen) > 5


@pytest.mark.parametrize(("n", "k"), [(2, 1), (3, 1), (4, 1), (4, 2), (5, 2), (5, 3), (6, 1), (6, 5)])
def test_bound_of_all_subsets_by_enumeration(n: int, k: int) -> None:
    exact = order_rank(all_subsets(n, k))
    assert subsets_bound(n, k) <= (exact if exact is not None else 3 if n < 6 else 4)
    if n >= 3 * min(k, n - k) and min(k, n - k) == 1:
        assert exact == subsets_bound(n, k) == 2


def test_curve_through_the_papers_points() -> None:
    curve = paper_curve()
    assert curve.coefficients == pytest.approx((-10.53217, 4.030936, 0.05204652, 0.003675585), rel=1e-6)
    assert round(curve.r2, 5) == 0.99858
    assert round(curve(512)) == 509_026
    assert curve.dimensions(46) == 12
    assert curve(curve.dimensions(10**6) or 0) >= 10**6
    line = fit_curve([(1, 3.0), (2, 5.0), (3, 7.0)], degree=1)
    assert line.coefficients == pytest.approx((1.0, 2.0))
    with pytest.raises(InputError, match="3 or more"):
        fit_curve({1: 2}, degree=2)


def test_capacity_says_what_is_proof() -> None:
    report = capacity_report((10**6, 2), dims=(4, 64, 1024))
    found = {s.name: (s.kind, s.direction, s.dimensions) for s in report.statements}
    assert found["Theorem 1, with the margin"] == ("proof", "at least", 12)
    assert found["moment curve, no margin"] == ("proof", "at most", 4)
    assert found["the paper's curve"][0] == "extrapolation"
    assert report.least == report.enough == 4
    assert report.documents is not None
    most = report.documents.iloc[0, 1]
    assert margin_bound(most, 2) <= 4 < margin_bound(most + 1, 2)
    assert report.documents["curve is"].tolist() == ["within the fit", "extrapolation", "extrapolation"]
    assert capacity_report((10, 8)).enough == 4  # the complement has 2 documents
    assert capacity_report((4, 2)).enough == capacity_report(all_subsets(4)).enough == 3  # a simplex
    assert capacity_report((2, 1)).enough == 1
    matrix = capacity_report(make_qrels("random", 200, 90, 3))
    assert 1 <= matrix.least <= matrix.enough <= 6
    assert len(matrix.table()) == len(matrix.statements)
    assert capacity_report(np.ones((3, 4))).enough == 0
