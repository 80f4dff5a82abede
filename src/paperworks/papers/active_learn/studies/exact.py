"""Exact findings: closed forms and bounds of the complexity, values of small games."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from paperworks import runs
from paperworks.papers.active_learn.barrier import barrier_design
from paperworks.papers.active_learn.designs import complexity
from paperworks.papers.active_learn.games import class_values, solve_game
from paperworks.papers.active_learn.problem import ActiveProblem
from paperworks.papers.active_learn.studies.examples import THRESHOLDS, listed, three_arms, two_class_game
from paperworks.runs import Finding, largest, smallest


@runs.study(claims=["complexity-measure"], title="closed forms of the complexity", minutes=0.1)
def closed_forms(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Arms with equal gaps, thresholds, and how C scales."""
    for k, gap, value in ((2, 0.5, 16.0), (5, 0.5, 36.0), (10, 1.0, 16.0)):
        theta = np.zeros(k)
        theta[1] = gap
        directions = np.delete(np.eye(k)[1] - np.eye(k), 1, 0) / gap
        by_root = complexity(ActiveProblem.best_arm(k), theta)[0]
        by_barrier = barrier_design(np.eye(k), directions)[0]
        yield Finding(
            "complexity-measure",
            f"{k} arms with gap {gap}: distance of C from (1 + sqrt(K-1))^2 / gap^2 = {value:g}, by the convex "
            "programme and by the closed form; the larger one.",
            "exact",
            largest((abs(by_root - value), abs(by_barrier - value))),
            "<=",
            1e-6,
        )
    for n, value in ((4, 32 / 3), (8, 13.4095)):
        theta = np.where(np.arange(n) >= n // 2, 0.5, -0.5)
        found, design = complexity(ActiveProblem.thresholds(n), theta)
        yield Finding(
            "complexity-measure",
            f"Thresholds, {n} points, cut in the middle, |theta| = 1/2: distance of C from {value:.4f}.",
            "exact",
            abs(found - value),
            "<=",
            1e-3,
            detail=f"C = {found:.6f}, design {np.round(design, 4).tolist()}",
        )
    rng = run.rng("scale")
    problem = ActiveProblem.transductive(rng.normal(size=(6, 3)), rng.normal(size=(5, 3)))
    worst = 0.0
    for _ in range(20):
        theta = rng.uniform(-0.5, 0.5, size=3)
        worst = largest((worst, abs(complexity(problem, 2 * theta)[0] * 4 / complexity(problem, theta)[0] - 1)))
    yield Finding(
        "complexity-measure",
        "20 random linear models: largest relative error of C(2 theta) = C(theta) / 4.",
        "exact",
        worst,
        "<=",
        1e-6,
    )


@runs.study(claims=["complexity-bounds"], title="H <= C <= 2H for arms", minutes=0.1)
def bounds(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Random arms, and the two extremes."""
    rng = run.rng("arms")
    ratios = []
    for _ in range(30 if fast else 300):
        k = int(rng.integers(2, 12))
        theta = rng.uniform(-1, 1, size=k)
        gaps = np.sort(theta.max() - theta)[1:]
        h = (gaps**-2.0).sum() + gaps[0] ** -2.0
        ratios.append(complexity(ActiveProblem.best_arm(k), theta)[0] / h)
    detail = f"ratios from {min(ratios):.4f} to {max(ratios):.4f}; a gap that is much smaller than the others gives 2"
    text = f"{len(ratios)} random problems of 2 to 11 arms:"
    yield Finding(
        "complexity-bounds", f"{text} smallest C / H.", "exact", smallest(ratios), ">=", 1 - 1e-9, detail=detail
    )
    yield Finding(
        "complexity-bounds", f"{text} largest C / H.", "exact", largest(ratios), "<=", 2 + 1e-9, detail=detail
    )


@runs.study(claims=["robust-objective", "robust-policy-synthetic"], title="small games, solved exactly", minutes=0.3)
def games(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Linear programmes against independently computed values; and what plain minimax gives up."""
    for horizon, values, minimax, gap in ((1, (0.1, 0.3), 0.366667, 0.133333), (3, (0.028, 0.216), 0.3, 0.146667)):
        problem, members = two_class_game(horizon)
        classes = listed(problem, members)
        best = class_values(problem, classes)
        robust, plain = solve_game(problem, classes, best), solve_game(problem, classes)
        found = np.array([*best, plain.value, robust.value])
        yield Finding(
            "robust-objective",
            f"Two-class game, {horizon} queries: largest error of the two class-optimal risks, the minimax risk and "
            f"the largest gap ({values[0]}, {values[1]}, {minimax}, {gap}).",
            "exact",
            float(np.abs(found - [*values, minimax, gap]).max()),
            "<=",
            1e-6,
            detail=f"risks of the robust policy {np.round(robust.risks, 4).tolist()}",
        )
        yield Finding(
            "robust-objective",
            f"Two-class game, {horizon} queries: worst risk of the easy class under the robust policy, less that under "
            "plain minimax.",
            "exact",
            float(robust.risks[:2].max() - plain.risks[:2].max()),
            "<",
            0,
            baseline=float(plain.risks[:2].max()),
            baseline_name="minimax",
        )
    errors = [abs(solve_game(ActiveProblem.flipped_thresholds(n, e, t)).value - v) for n, e, t, v in THRESHOLDS]
    yield Finding(
        "robust-policy-synthetic",
        "Ten games of thresholds with flipped answers: largest error of the optimal worst risk.",
        "exact",
        largest(errors),
        "<=",
        1e-6,
        detail="the values are given to six decimals",
    )
    for horizon, values in ((3, (0.136, 0.489)), (4, (0.0712, 0.4621)), (5, (0.04744, 0.4499))):
        problem, members = three_arms(horizon)
        classes = listed(problem, members)
        best = class_values(problem, classes)
        yield Finding(
            "robust-policy-synthetic",
            f"Three Bernoulli arms, {horizon} queries: largest error of the class-optimal risks {values}.",
            "exact",
            float(np.abs(np.array(best) - values).max()),
            "<=",
            1e-5,
        )
        yield Finding(
            "robust-policy-synthetic",
            f"Three Bernoulli arms, {horizon} queries: largest gap of the optimal robust policy.",
            "exact",
            solve_game(problem, classes, best).value,
            "<=",
            1e-6,
        )
