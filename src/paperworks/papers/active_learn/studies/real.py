"""Real data: 20 Questions about animals, and recommendation to members of congress."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.active_learn.archetypes import archetype_problem, find_archetypes, recommendation_regret
from paperworks.papers.active_learn.baselines import GBS, SGBS, InformationGain, Passive
from paperworks.papers.active_learn.evaluation import evaluate, worst_case
from paperworks.papers.active_learn.learner import RobustActiveLearner
from paperworks.papers.active_learn.policies import Policy
from paperworks.papers.active_learn.problem import ActiveProblem
from paperworks.papers.active_learn.studies.examples import deviation_interval
from paperworks.papers.active_learn.tables import read_questions, read_ratings
from paperworks.papers.active_learn.training import GameSettings
from paperworks.runs import Finding

SEEDS = (0, 1, 2)
SETTINGS = GameSettings(draws=32, roll_outs=16, policy_rate=3e-4, guide_rate=3e-3, adversary_entropy=0.03, chunk=50)


@runs.study(claims=["twenty-questions", "stable-training"], title="20 Questions about animals (Zoo)", minutes=8)
def zoo(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Accuracy in 12 questions with flip 0.1, three seeds, beside SGBS and uniform questions."""
    found = read_questions("zoo")
    problem = ActiveProblem.twenty_questions(found.p_yes, 12, found.items, found.questions, noise=0.1)
    each, rollouts = (50, 500) if fast else (500, 10_000)
    soft, hard, passive, greedy = (
        evaluate(kind(problem), n_rollouts=each, seed=31 + i)  # type: ignore[abstract]
        for i, kind in enumerate((SGBS, GBS, Passive, InformationGain))
    )
    soft_worst = worst_case(SGBS(problem), n_rollouts=rollouts, seed=41)
    accuracy, worst = [], []
    for seed in SEEDS[:2] if fast else SEEDS:
        learner = RobustActiveLearner(
            problem,
            n_classes=2,
            hidden=(96,),
            iterations=3 if fast else 30,
            robust_iterations=3 if fast else 60,
            settings=SETTINGS,
            n_rollouts=rollouts // 2,
            seed=seed,
        )
        policy = learner.fit(_folder(run, f"zoo-{seed}"), run.progress).policy_
        accuracy.append(1 - evaluate(policy, n_rollouts=each, seed=51 + seed).mean)
        worst.append(1 - worst_case(policy, n_rollouts=rollouts, seed=61 + seed).risk.estimate)
    detail = (
        f"mean accuracy {np.round(accuracy, 4).tolist()}, of the worst animal {np.round(worst, 4).tolist()}; SGBS "
        f"{1 - soft.mean:.4f} and {1 - soft_worst.risk.estimate:.4f}, GBS {1 - hard.mean:.4f}, greedy information "
        f"{1 - greedy.mean:.4f}, uniform questions {1 - passive.mean:.4f}"
    )
    text = f"Zoo, {problem.n_outputs} kinds of animals, 12 questions, flip 0.1:"
    for what, values, other, name, relation, margin in (
        ("mean accuracy", accuracy, 1 - soft.mean, "SGBS", ">=", -0.02),
        ("mean accuracy", accuracy, 1 - passive.mean, "uniform questions + ML", ">", 0.1),
        ("accuracy of the worst animal", worst, 1 - soft_worst.risk.estimate, "SGBS", ">", 0.0),
    ):
        yield Finding(
            "twenty-questions",
            f"{text} {what} of the learned policy, less that of {name}.",
            "empirical",
            mean_interval(np.array(values) - other),
            relation,  # type: ignore[arg-type]
            margin,
            baseline=other,
            baseline_name=name,
            detail=detail,
        )
    yield Finding(
        "stable-training",
        f"{text} standard deviation of the mean accuracy over seeds.",
        "empirical",
        deviation_interval(accuracy),
        "<=",
        0.02,
        detail=f"{detail}; the bound is the tolerance of the comparison with SGBS",
    )


@runs.study(claims=["joke-recommendation"], title="recommendation to held-out users (votes)", minutes=3)
def recommendation(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Regret of held-out members of congress, who answer with their own votes; three splits."""
    ratings = read_ratings("votes").values
    complete = ratings[~np.isnan(ratings).any(1)]
    regrets: dict[str, list[float]] = {}
    for seed in SEEDS[:2] if fast else SEEDS:
        order = np.random.default_rng(seed).permutation(len(complete))
        held = complete[order[:80]]
        rest = np.concatenate([complete[order[80:]], ratings[np.isnan(ratings).any(1)]])
        groups = find_archetypes(rest, 6, 3, seed)
        problem = archetype_problem(groups, 4)
        learner = RobustActiveLearner(
            problem,
            n_classes=2,
            hidden=(64,),
            iterations=3 if fast else 30,
            robust_iterations=3 if fast else 30,
            settings=SETTINGS,
            n_rollouts=1000,
            seed=seed,
        )
        learned = learner.fit(_folder(run, f"votes-{seed}"), run.progress).policy_
        policies: list[Policy] = [learned, Passive(problem), GBS(problem), SGBS(problem), InformationGain(problem)]
        for policy in policies:
            found = recommendation_regret(policy, held, groups, 5 if fast else 20, seed)
            regrets.setdefault(policy.name, []).append(float(found.mean()))
    detail = "; ".join(f"{name} {np.round(values, 4).tolist()}" for name, values in regrets.items())
    ours = np.array(regrets["learned"])
    for name, values in regrets.items():
        if name != "learned":
            yield Finding(
                "joke-recommendation",
                "Votes of 1984, 4 questions, 3 recommendations, 80 held-out users who answer with their own votes: "
                f"mean regret of the learned policy, less that of {name}.",
                "empirical",
                mean_interval(ours - values, unit="splits"),
                "<",
                0,
                baseline=float(np.mean(values)),
                baseline_name=name,
                detail=f"regret by split: {detail}. Jester's ratings cannot be had offline; votes are -1 and 1",
            )


def _folder(run: runs.Run, name: str) -> Path:
    folder = run.state / name
    folder.mkdir(exist_ok=True)
    return folder
