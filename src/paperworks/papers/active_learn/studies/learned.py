"""Trained policies on games whose exact values are known, and on one that is too large for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.active_learn.baselines import SGBS, Passive
from paperworks.papers.active_learn.evaluation import evaluate, exact_risk, worst_case
from paperworks.papers.active_learn.games import class_values, solve_game
from paperworks.papers.active_learn.learner import RobustActiveLearner, fixed_prior_policy
from paperworks.papers.active_learn.problem import ActiveProblem
from paperworks.papers.active_learn.studies.examples import (
    THRESHOLDS,
    deviation_interval,
    listed,
    noisy_cuts,
    three_arms,
    two_class_game,
)
from paperworks.papers.active_learn.training import GameSettings
from paperworks.runs import Finding, smallest

SMALL = GameSettings(draws=16, roll_outs=32, policy_rate=3e-3, chunk=100)
SEEDS = (0, 1, 2)
EXACT = "risks are exact, by all histories"


@runs.study(claims=["robust-objective", "stable-training"], title="the two-class game, learned", minutes=2)
def two_classes(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Probabilities and gaps of trained policies beside the closed form, three seeds."""
    for horizon, gap in ((1, 0.133333), (3, 0.146667)):
        problem, members = two_class_game(horizon)
        best = class_values(problem, listed(problem, members))
        gaps, robust, minimax, prior_gaps = [], [], [], []
        for seed in SEEDS[:2] if fast else SEEDS:
            learner = _learn(problem, members, seed, 40 if fast else 250, 80 if fast else 500, run, f"two-{horizon}")
            risks = exact_risk(learner.policy_)
            gaps.append(float(max(risks[m].max() - v for m, v in zip(members, best, strict=True))))
            first = learner.policy_.query_probabilities(learner.policy_.begin(1))
            robust.append(float(first.detach()[0, 0]))
            if horizon == 1:
                plain = _learn(problem, [[0, 1, 2, 3]], seed, 80 if fast else 500, 1, run, "minimax-1").policy_
                minimax.append(float(plain.query_probabilities(plain.begin(1)).detach()[0, 0]))
                wrong = fixed_prior_policy(
                    problem,
                    [1, 1, 0, 0],
                    hidden=(32, 32),
                    iterations=20 if fast else 100,
                    settings=SMALL,
                    seed=seed,
                    progress=run.progress,
                )
                there = exact_risk(wrong)
                prior_gaps.append(float(max(there[m].max() - v for m, v in zip(members, best, strict=True))))
        yield Finding(
            "robust-objective",
            f"Two-class game, {horizon} queries, trained: largest gap of the two classes, less the optimum {gap}.",
            "empirical",
            mean_interval(np.array(gaps) - gap),
            "<=",
            0.02,
            baseline=gap,
            baseline_name="optimum",
            detail=f"gaps {np.round(gaps, 4).tolist()}; {EXACT}",
        )
        if horizon == 1:
            yield Finding(
                "robust-objective",
                "Two-class game, 1 query: largest gap of the robust policy less that of a policy trained for a prior "
                "on the easy class alone.",
                "empirical",
                mean_interval(np.array(gaps) - np.array(prior_gaps)),
                "<",
                0,
                baseline=float(np.mean(prior_gaps)),
                baseline_name="fixed prior",
                detail=f"gaps of the fixed prior {np.round(prior_gaps, 4).tolist()}",
            )
            for name, found, right in (("robust", robust, 2 / 3), ("minimax", minimax, 1 / 3)):
                yield Finding(
                    "robust-objective",
                    f"Two-class game, 1 query, trained: the {name} policy's probability of query a, within 0.05 of the "
                    "closed form.",
                    "empirical",
                    mean_interval(found),
                    "==",
                    right,
                    tolerance=0.05,
                    baseline=right,
                    baseline_name="closed form",
                    detail=f"probabilities {np.round(found, 4).tolist()}",
                )
        if not fast:
            yield Finding(
                "stable-training",
                f"Two-class game, {horizon} queries: standard deviation of the gap over seeds.",
                "empirical",
                deviation_interval(gaps),
                "<=",
                0.02,
                detail="the bound is the tolerance of the gap itself",
            )


@runs.study(claims=["robust-policy-synthetic"], title="ten games of thresholds, learned", minutes=2)
def small_thresholds(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Worst risk of trained policies beside the linear programme's."""
    for n, flip, horizon, value in THRESHOLDS[:2] if fast else THRESHOLDS:
        problem = ActiveProblem.flipped_thresholds(n, flip, horizon)
        optimum = solve_game(problem).value
        worst, beyond = [], []
        for seed in SEEDS[:2] if fast else SEEDS:
            name = f"cuts-{n}-{flip}-{horizon}"
            policy = _learn(problem, [list(range(n))], seed, 40 if fast else 500, 1, run, name).policy_
            worst.append(float(exact_risk(policy).max()))
            simulated = worst_case(policy, n_rollouts=10_000, seed=5)
            beyond.append((simulated.risk.estimate - optimum) / max(simulated.stderr, 1e-9))
        text = f"Thresholds, {n} hypotheses, flip {flip:g}, {horizon} queries:"
        detail = f"exact risks {np.round(worst, 4).tolist()}; optimum {optimum:.4f} (given as {value:.4f})"
        yield Finding(
            "robust-policy-synthetic",
            f"{text} worst risk of the trained policy, less the optimum.",
            "empirical",
            mean_interval(np.array(worst) - optimum),
            "<=",
            0.02,
            baseline=optimum,
            baseline_name="linear programme",
            detail=detail,
        )
        yield Finding(
            "robust-policy-synthetic",
            f"{text} the same in 10,000 episodes, in standard errors above the optimum, the least of the seeds.",
            "exact",
            smallest(beyond),
            ">=",
            -3,
            detail=f"{detail}. No policy is below the optimum",
        )


@runs.study(claims=["robust-policy-synthetic"], title="three Bernoulli arms, learned", minutes=2)
def arms(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """One policy for both classes, three seeds."""
    problem, members = three_arms(4)
    classes = listed(problem, members)
    best, minimax = class_values(problem, classes), solve_game(problem, classes)
    gaps, easy = [], []
    for seed in SEEDS[:2] if fast else SEEDS:
        learner = _learn(problem, members, seed, 20 if fast else 200, 40 if fast else 300, run, "arms")
        risks = exact_risk(learner.policy_)
        gaps.append(float(max(risks[m].max() - v for m, v in zip(members, best, strict=True))))
        easy.append(float(risks[members[0]].max()))
    for what, found, bound, other in (
        ("largest gap", gaps, 0.03, 0.0),
        ("worst risk of the easy class", easy, 0.10, best[0]),
    ):
        yield Finding(
            "robust-policy-synthetic",
            f"Three Bernoulli arms, 4 queries, trained: {what}.",
            "empirical",
            mean_interval(found),
            "<=",
            bound,
            baseline=other,
            baseline_name="optimum",
            detail=f"{np.round(found, 4).tolist()}; the minimax optimum of the linear programme gives the easy class "
            f"{minimax.risks[members[0]].max():.4f}; {EXACT}",
        )


@runs.study(
    claims=["robust-policy-synthetic", "stable-training"], title="thresholds of 16 points, 12 queries", minutes=4
)
def medium(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Worst risk over the 17 cuts beside uniform queries and SGBS, three seeds."""
    problem = noisy_cuts(16, 0.6, 12)
    rollouts = 500 if fast else 10_000
    # all 17 cuts, each with as many episodes: the policies are nearly flat, so that a search would choose by noise
    passive, soft = (
        float(evaluate(policy, n_rollouts=rollouts, seed=21 + i).per_theta.max())
        for i, policy in enumerate((Passive(problem), SGBS(problem, 0.22)))
    )
    risks = []
    for seed in SEEDS[:2] if fast else SEEDS:
        settings = GameSettings(
            draws=32, roll_outs=16, policy_rate=3e-4, guide_rate=3e-3, adversary_entropy=0.03, chunk=100
        )
        learner = RobustActiveLearner(
            problem,
            classes=[range(17)],
            hidden=(64,),
            iterations=10 if fast else 150,
            settings=settings,
            n_rollouts=200,
            seed=seed,
        )
        policy = learner.fit(_folder(run, f"medium-{seed}"), run.progress).policy_
        risks.append(float(evaluate(policy, n_rollouts=rollouts, seed=23 + seed).per_theta.max()))
    detail = (
        f"risks {np.round(risks, 4).tolist()}; uniform queries {passive:.4f}; SGBS (b 0.22) {soft:.4f}; the largest of "
        f"17 figures from {rollouts} episodes each, all with the same small bias upwards"
    )
    for name, other, margin in (("uniform queries + ML", passive, -0.05), ("SGBS", soft, 0.02)):
        yield Finding(
            "robust-policy-synthetic",
            f"Thresholds, 16 points, 12 queries, flip 0.2: worst risk over 17 cuts of the trained policy, less that of "
            f"{name}.",
            "empirical",
            mean_interval(np.array(risks) - other),
            "<=",
            margin,
            baseline=other,
            baseline_name=name,
            detail=detail,
        )
    yield Finding(
        "stable-training",
        "Thresholds, 16 points, 12 queries: standard deviation of the worst risk over seeds.",
        "empirical",
        deviation_interval(risks),
        "<=",
        0.05,
        detail=f"{detail}; the bound is the difference from uniform queries that is asked for",
    )


def _learn(
    problem: ActiveProblem,
    members: list[list[int]],
    seed: int,
    iterations: int,
    robust_iterations: int,
    run: runs.Run,
    name: str,
) -> RobustActiveLearner:
    learner = RobustActiveLearner(
        problem,
        classes=members,
        hidden=(32, 32),
        iterations=iterations,
        robust_iterations=robust_iterations,
        settings=SMALL,
        seed=seed,
    )
    with torch.random.fork_rng(devices=[]):
        return learner.fit(_folder(run, f"{name}-{seed}"), run.progress)


def _folder(run: runs.Run, name: str) -> Path:
    folder = run.state / name
    folder.mkdir(exist_ok=True)
    return folder
