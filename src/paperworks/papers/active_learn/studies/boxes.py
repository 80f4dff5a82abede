"""Policies trained against particles that move in a box: Gaussian arms, and a transductive linear game."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.active_learn.bandits import (
    LUCB,
    SequentialHalving,
    SuccessiveRejects,
    TopTwoThompson,
    XYAllocation,
)
from paperworks.papers.active_learn.baselines import Passive
from paperworks.papers.active_learn.classes import make_classes
from paperworks.papers.active_learn.evaluation import worst_case
from paperworks.papers.active_learn.learner import RobustActiveLearner
from paperworks.papers.active_learn.policies import Policy
from paperworks.papers.active_learn.problem import ActiveProblem
from paperworks.papers.active_learn.studies.examples import deviation_interval
from paperworks.papers.active_learn.training import GameSettings
from paperworks.runs import Finding

SEEDS = (0, 1, 2)
Rules = Sequence[Callable[[ActiveProblem], Policy]]
ARM_RULES: Rules = (Passive, SuccessiveRejects, SequentialHalving, TopTwoThompson, LUCB)
LINEAR_RULES: Rules = (Passive, XYAllocation)


@runs.study(
    claims=["robust-policy-synthetic", "stable-training"], title="Gaussian arms against a moving adversary", minutes=3
)
def gaussian_arms(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Four arms, 12 pulls, two classes of a box: largest gap and worst risk beside fixed policies, three seeds."""
    problem = ActiveProblem.best_arm(4, 12)
    yield from _beside_rules(run, fast, problem, (12.0, 40.0), ARM_RULES, "Four Gaussian arms, 12 pulls", "arms", 32)


@runs.study(
    claims=["robust-policy-synthetic", "stable-training"], title="a transductive linear game, learned", minutes=4
)
def transductive(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Six queries and five other outputs in three dimensions, 12 queries, two classes of a box, three seeds."""
    problem = transductive_game()
    name = "Transductive game, 6 queries and 5 outputs in 3 dimensions, 12 answers"
    yield from _beside_rules(run, fast, problem, (12.0, 60.0), LINEAR_RULES, name, "transductive", 64)


def transductive_game() -> ActiveProblem:
    """Unit vectors of a fixed draw: the queries are not the outputs, and theta is in a box."""
    rng = np.random.default_rng(0)
    queries, outputs = rng.normal(size=(6, 3)), rng.normal(size=(5, 3))
    return ActiveProblem.transductive(
        queries / np.linalg.norm(queries, axis=1, keepdims=True),
        outputs / np.linalg.norm(outputs, axis=1, keepdims=True),
        horizon=12,
    )


def _beside_rules(
    run: runs.Run,
    fast: bool,
    problem: ActiveProblem,
    radii: tuple[float, float],
    rules: Rules,
    title: str,
    name: str,
    width: int,
) -> Iterator[Finding]:
    """Worst risks of the learned policy less those of every rule, in the class where it does least well."""
    classes = make_classes(problem, radii)
    rollouts, search = (500, 50) if fast else (10_000, 300)
    fixed: list[Policy] = [kind(problem) for kind in rules]
    others = {
        policy.name: [worst_case(policy, one, 1, rollouts, 71, search).risk.estimate for one in classes]
        for policy in run.progress(fixed, "fixed policies")
    }
    ours: list[list[float]] = []
    values = []
    for seed in SEEDS[:2] if fast else SEEDS:
        learner = RobustActiveLearner(
            problem,
            radii,
            hidden=(width,),
            iterations=5 if fast else 100,
            robust_iterations=5 if fast else 100,
            settings=GameSettings(particles=24, draws=32, roll_outs=16, policy_rate=3e-3, chunk=50),
            n_rollouts=rollouts,
            seed=seed,
        )
        folder = run.state / f"{name}-{seed}"
        folder.mkdir(exist_ok=True)
        policy = learner.fit(folder, run.progress).policy_
        ours.append([worst_case(policy, one, 1, rollouts, 72 + seed, search).risk.estimate for one in classes])
        values.append(learner.class_values_)
    mine = np.array(ours)
    detail = f"learned by seed {np.round(mine, 3).tolist()}; l* {np.round(values, 3).tolist()}; " + "; ".join(
        f"{name} {np.round(risks, 3).tolist()}" for name, risks in others.items()
    )
    for rule, risks in others.items():
        worst = (mine - np.array(risks)).max(1)
        yield Finding(
            "robust-policy-synthetic",
            f"{title}: worst risk of the learned policy less that of {rule}, in the class where it does least well.",
            "empirical",
            mean_interval(worst),
            "<",
            0,
            baseline=max(risks),
            baseline_name=rule,
            detail=f"classes C <= {radii[0]:g} and C <= {radii[1]:g}; {detail}",
        )
    yield Finding(
        "stable-training",
        f"{title}: standard deviation over seeds of the worst risk in the wider class.",
        "empirical",
        deviation_interval(mine[:, 1].tolist()),
        "<=",
        0.05,
        detail=f"the bound is that of the thresholds of 16 points; by seed {np.round(mine[:, 1], 3).tolist()}",
    )
