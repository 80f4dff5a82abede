"""What must hold on any machine: ranks by enumeration, bounds, the construction, density, the cubic."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import hadamard
from scipy.optimize import linprog
from scipy.stats import spearmanr

from paperworks import runs
from paperworks.papers.embedding_limits.bounds import forster_bound, forster_bound_qrels, margin_bound, subsets_bound
from paperworks.papers.embedding_limits.construction import exact_margin, margins, moment_curve_embeddings
from paperworks.papers.embedding_limits.critical import paper_curve
from paperworks.papers.embedding_limits.free import FreeEmbeddings
from paperworks.papers.embedding_limits.published import (
    BEIR,
    CRITICAL_N,
    DENSITY,
    MARGIN_BOUNDS,
    RECALL_AT_100,
    SMALL_RECALL,
)
from paperworks.papers.embedding_limits.qrels import all_subsets, make_qrels, qrel_stats
from paperworks.papers.embedding_limits.ranks import one_threshold_rank, order_rank, sign_rank, small_ranks
from paperworks.runs import Finding, largest, smallest

PRINTED = (-10.5322, 4.0309, 0.0520, 0.0037)
"""Coefficients of the cubic as the paper prints them, to four digits."""


@runs.study(claims=["rank-sandwich"], title="ranks of small matrices by enumeration", minutes=0.5)
def ranks(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Order rank, rank with one threshold and sign rank of random matrices of up to 5 documents."""
    rng = run.rng("matrices")
    count, violated, decided, between = 40 if fast else 300, 0, 0, 0
    for _ in run.progress(range(count), "random matrices"):
        m, n = rng.integers(1, 9), rng.integers(2, 6)
        matrix = rng.random((m, n)) < rng.uniform(0.2, 0.8)
        matrix[~matrix.any(axis=1), 0] = True
        order, one, sign = small_ranks(matrix)
        # what was not decided lies above: order and one-threshold ranks above 2, sign ranks above 3
        low, high = (3 if order is None else order), (3 if one is None else one)
        violated += low > high or (sign is not None and high > sign) or (order is not None and (sign or 4) - 1 > order)
        decided += None not in (order, one, sign)
        between += order != one
    yield Finding(
        "rank-sandwich",
        f"{count} random matrices of up to 8 queries and 5 documents: violations of signrank - 1 <= rank_rop <= "
        "rank_gt <= "
        "signrank.",
        "exact",
        violated,
        "==",
        0,
        detail=f"all three ranks were decided for {decided}; rank_gt was larger than rank_rop for {between}. "
        "rank_rop and "
        "rank_rt are one number by the enumeration itself: a direction that orders a row has a threshold in its gap.",
    )
    larger, drawn, tight = 0, 0, dict.fromkeys(("rank_rop", "rank_gt", "signrank"), 0)
    draws = 30 if fast else 200
    for _ in run.progress(range(draws), "scores of known rank"):
        for name, found, known in _ranks_of_scores(rng):
            larger += found is None or found > known
            drawn += 1
            tight[name] += found == known
    yield Finding(
        "rank-sandwich",
        f"{draws} draws of score matrices of rank 1 and 2 (signs: up to 3), 4 to 8 queries and 3 to 5 documents, cut "
        "by a threshold for each row, by one threshold, or by 0: enumerated ranks above the rank of the scores.",
        "exact",
        larger,
        "==",
        0,
        detail=f"of {drawn} matrices; ranks equal to that of the scores: "
        + ", ".join(f"{name} {count}" for name, count in tight.items())
        + ". The scores are products of random vectors, which the enumeration does not see.",
    )


def _ranks_of_scores(rng: np.random.Generator) -> Iterator[tuple[str, int | None, int]]:
    """The enumerated rank of relevance cut out of random scores, and the rank of these scores, which it cannot exceed.

    Rows without a relevant document are left out: they are no queries.
    """
    m, n = rng.integers(4, 9), rng.integers(3, 6)
    for rank in (1, 2, 3):
        scores = rng.normal(size=(m, rank)) @ rng.normal(size=(rank, n))
        ordered = np.sort(scores, axis=1)
        place = rng.integers(1, n, size=m)
        rows = np.arange(m)
        tau = (ordered[rows, place - 1] + ordered[rows, place]) / 2
        cuts = [("signrank", sign_rank, scores > 0)]
        if rank < 3:  # above 2 the other ranks are not decided
            cuts.append(("rank_rop", order_rank, scores > tau[:, None]))
            threshold = rng.choice([-1, 1]) * rng.uniform(0.05, 0.5) * np.median(np.abs(scores))
            cuts.append(("rank_gt", one_threshold_rank, scores > threshold))
        for name, enumerated, relevant in cuts:
            kept = relevant[relevant.any(axis=1)]
            if len(kept):
                yield name, enumerated(kept), rank


@runs.study(claims=["margin-bound", "forster-bound"], title="the margin bound and Forster's bound", minutes=0.3)
def bounds(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """The paper's table, the theorem against fitted vectors, and spectral norms."""
    wrong = sum(margin_bound(n, k) != d for (n, k), d in MARGIN_BOUNDS.items())
    yield Finding(
        "margin-bound",
        f"Entries of the paper's bound table ({len(MARGIN_BOUNDS)}) that differ.",
        "exact",
        wrong,
        "==",
        0,
    )
    room = []
    for d, n in ((4, 8), (6, 14)) if fast else ((4, 8), (6, 14), (8, 20), (12, 30)):
        fitted = FreeEmbeddings(d, n_init=3).fit(all_subsets(n), progress=run.progress)
        gaps = margins(fitted.query_embeddings_, fitted.doc_embeddings_, all_subsets(n))
        if gaps.min() > 0:
            room.append(d - margin_bound(n, 2, min(1.0, float(gaps.min()) / 2)))
    yield Finding(
        "margin-bound",
        "Fitted unit vectors that return all pairs: their dimension less what the bound demands at their own "
        "margin; the "
        "smallest.",
        "exact",
        min(room, default=None),
        ">=",
        0,
        detail=f"dimensions to spare, by fit: {room}",
    )
    error = max(abs(forster_bound(hadamard(order)) - order**0.5) for order in (4, 8, 16, 64))
    yield Finding(
        "forster-bound",
        "Hadamard matrices of order 4, 8, 16, 64: largest difference from the square root.",
        "exact",
        error,
        "<=",
        1e-9,
    )
    yield Finding(
        "forster-bound",
        "Forster's bound of LIMIT's sign matrix, 1000 queries and 46 documents: difference from 1.095.",
        "exact",
        abs(forster_bound_qrels(make_qrels()) - 1.095),
        "<=",
        5e-4,
        detail="it proves a sign rank of 2 and so a dimension of 1: it says next to nothing about LIMIT",
    )


@runs.study(claims=["two-k-construction"], title="the moment-curve construction", minutes=0.2)
def construction(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Smallest gaps in float64 and in exact numbers, and the lower bound that meets them."""
    for n, k, normalize in ((46, 2, False), (46, 2, True), (20, 3, False)):
        queries, _, margin = moment_curve_embeddings(all_subsets(n, k), normalize=normalize)
        kind = "unit vectors" if normalize else "vectors"
        yield Finding(
            "two-k-construction",
            f"All {k}-subsets of {n} documents, {kind} in {queries.shape[1]} dimensions: smallest gap in float64.",
            "exact",
            margin,
            ">",
            0.0,
        )
    n = 12 if fast else 30
    yield Finding(
        "two-k-construction",
        f"All pairs of {n} documents in exact rational numbers: smallest gap over its value in float64.",
        "exact",
        float(exact_margin(all_subsets(n))) / moment_curve_embeddings(all_subsets(n)).margin,
        "==",
        1.0,
        tolerance=1e-6,
    )
    exact = {(n, k): order_rank(all_subsets(n, k)) for n in range(2, 7) for k in range(1, n)}
    yield Finding(
        "two-k-construction",
        "All k-subsets of up to 6 documents: cases in which the dimensions that Radon's theorem demands, min(2k, "
        "n - k) for k <= n / 2, differ from the enumerated rank (3 stands for any number above 2).",
        "exact",
        sum(smallest((subsets_bound(n, k), 3)) != (3 if found is None else found) for (n, k), found in exact.items()),
        "==",
        0,
        detail=f"an addition; {len(exact)} cases. By enumeration all pairs of 4 documents need {exact[4, 2]} "
        "dimensions, all pairs of 5 or 6 more than 2.",
    )
    sets = 20 if fast else 200
    points = run.rng("points").normal(size=(sets, 6, 3))
    yield Finding(
        "two-k-construction",
        f"{sets} random sets of 6 points in 3 dimensions: those of which hyperplanes cut off every pair.",
        "exact",
        sum(_cuts_off_all(some, all_subsets(6).toarray()) for some in points),
        "==",
        0,
        detail="by linear programming. With 3k documents or more the construction's 2k dimensions, here 4, cannot be "
        "undercut.",
    )


def _cuts_off_all(points: np.ndarray, subsets: np.ndarray) -> bool:
    """Whether for each subset [m, n] a hyperplane parts its points from the others: u.p >= c + 1, and <= c - 1."""
    for inside in subsets:
        side = np.where(inside, -1.0, 1.0)[:, None]
        system = np.hstack([side * points, -side])
        solved = linprog(np.zeros(system.shape[1]), system, -np.ones(len(points)), bounds=(None, None))
        if solved.status not in (0, 2):
            raise ArithmeticError(f"linear program: {solved.message}")
        if solved.status == 2:  # no solution
            return False
    return True


@runs.study(claims=["density-of-limit"], title="density of LIMIT", minutes=0.1)
def density(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Density and strength of the dense pattern."""
    stats = qrel_stats(make_qrels("dense", 46, 1000, 2))
    published = DENSITY["LIMIT"]
    yield Finding(
        "density-of-limit",
        "Density of the query graph of the dense pattern (1000 queries, k = 2), to six digits.",
        "exact",
        round(stats.density_queries, 6),
        "==",
        published[0],
        detail=f"the document graph has {stats.density_docs:.3f}: the paper's figure is that of the query graph",
    )
    yield Finding(
        "density-of-limit",
        "Mean query strength, to four digits.",
        "exact",
        round(stats.query_strength, 4),
        "==",
        published[1],
    )
    others = {p: qrel_stats(make_qrels(p, 2000, 1000, 2)) for p in ("random", "cycle", "disjoint")}
    strongest = largest(s.query_strength for s in others.values())
    yield Finding(
        "density-of-limit",
        "The other patterns over 2000 documents: largest mean query strength.",
        "exact",
        strongest,
        "<",
        stats.query_strength,
        baseline=stats.query_strength,
        baseline_name="dense",
        detail="; ".join(
            f"{p}: density {s.density_queries:.6f}, strength {s.query_strength:.4f}" for p, s in others.items()
        ),
    )


@runs.study(claims=["critical-n-polynomial"], title="the cubic through Table 6", minutes=0.1)
def curve(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Coefficients, share of the variance, extrapolation."""
    cubic = paper_curve()
    off = max(abs(a - b) for a, b in zip(cubic.coefficients, PRINTED, strict=True))
    yield Finding(
        "critical-n-polynomial",
        "Coefficients of the cubic through Table 6: largest difference from those the paper prints, to four digits.",
        "exact",
        off,
        "<=",
        5e-5,
        detail=f"coefficients {', '.join(f'{c:.7g}' for c in cubic.coefficients)}",
    )
    yield Finding(
        "critical-n-polynomial",
        "Share of the variance (r^2), to three digits.",
        "exact",
        round(cubic.r2, 3),
        "==",
        0.999,
    )
    far = {512: 500e3, 768: 1.7e6, 1024: 4e6, 3072: 107e6, 4096: 250e6}
    yield Finding(
        "critical-n-polynomial",
        "Extrapolation to 512, 768, 1024, 3072, 4096 dimensions: largest relative difference from the "
        "paper's rounded numbers.",
        "exact",
        largest(abs(cubic(d) / n - 1) for d, n in far.items()),
        "<=",
        0.02,
        detail="; ".join(f"{d}: {cubic(d):,.0f}" for d in far) + ". The printed 0.0037 is rounded: with it 512 gives "
        f"{-10.5322 + 4.0309 * 512 + 0.0520 * 512**2 + 0.0037 * 512**3:,.0f}",
    )
    yield Finding(
        "critical-n-polynomial",
        "Largest distance of the cubic from a point of Table 6, in documents.",
        "exact",
        float(np.max([abs(cubic(d) - n) for d, n in CRITICAL_N.items()])),
        "<=",
        30,
    )


@runs.study(claims=["no-link-with-beir"], title="published scores on BEIR and on LIMIT", minutes=0.1)
def beir(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Rank correlation of the paper's own figures for six embedding models."""
    scores = list(BEIR.values())
    large, small = (
        float(spearmanr(scores, [figures[name] for name in BEIR]).statistic)
        for figures in (RECALL_AT_100, {name: row[1] for name, row in SMALL_RECALL.items()})
    )
    yield Finding(
        "no-link-with-beir",
        "Six embedding models, published figures: size of Spearman's correlation of BEIR with recall at 100 on LIMIT.",
        "exact",
        abs(large),
        "<",
        0.5,
        detail=f"the correlation is {large:.2f}; with recall at 2 of LIMIT-small it is {small:.2f}. Six models cannot "
        "tell a weak link from none.",
    )
