"""Risks of policies: means over given instances, and the worst case by a fresh adversary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.metrics import Interval
from paperworks.papers.active_learn.classes import DifficultyClass, complexities, make_classes, scale_rows
from paperworks.papers.active_learn.observations import Binary
from paperworks.papers.active_learn.policies import History, Policy, RandomisedPolicy, simulate
from paperworks.papers.active_learn.problem import ActiveProblem
from paperworks.papers.active_learn.storage import LearnedPolicy
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

BATCH = 20_000
"""Episodes that are played side by side."""
MOST_BRANCHES = 2_000_000
"""Histories that an exact risk may have to go through."""
FINALISTS = 5
"""Instances of the largest first estimates that are played again."""


@dataclass(frozen=True)
class Evaluation:
    """Risk of a policy on some instances. It unpacks into mean, stderr and per_theta.

    Attributes
    ----------
    mean, stderr : mean over instances and its standard error over roll-outs.
    per_theta, per_theta_stderr : of each instance ``[n]``.
    n_rollouts : episodes of each instance.
    """

    mean: float
    stderr: float
    per_theta: np.ndarray
    per_theta_stderr: np.ndarray
    n_rollouts: int

    def __iter__(self) -> Iterator[Any]:
        return iter((self.mean, self.stderr, self.per_theta))


@dataclass(frozen=True)
class WorstCase:
    """The largest risk that a fresh adversary found.

    Attributes
    ----------
    risk : with its interval, from roll-outs that took no part in the search.
    instance : where: an index, or a row of theta.
    stderr : standard error of the risk.
    """

    risk: Interval
    instance: torch.Tensor
    stderr: float


@torch.no_grad()
def evaluate(
    policy: Policy, thetas: ArrayLike | torch.Tensor | None = None, n_rollouts: int = 1000, seed: int = 1
) -> Evaluation:
    """The risk of a policy by simulation.

    Parameters
    ----------
    thetas : instances: rows of theta, indices of a finite set, or None for all of a finite set.
    n_rollouts : episodes of each instance.
    seed : of the episodes; use another than the training's.
    """
    check_seed("seed", seed)
    if n_rollouts < 2:
        raise InputError("n_rollouts", n_rollouts, "at least 2")
    problem = policy.problem
    instances = thetas if isinstance(thetas, torch.Tensor) else problem.instances(thetas)
    generator = torch.Generator().manual_seed(seed)
    means, losses = problem.means(instances), problem.losses(instances).double()
    sums, squares = torch.zeros(len(instances), dtype=torch.float64), torch.zeros(len(instances), dtype=torch.float64)
    block, done = max(1, BATCH // len(instances)), 0
    while done < n_rollouts:
        count = min(block, n_rollouts - done)
        rows = torch.arange(len(instances)).repeat_interleave(count)
        found = losses[rows, simulate(policy, means[rows], generator)[1]].reshape(len(instances), count)
        sums += found.sum(1)
        squares += (found**2).sum(1)
        done += count
    mean = (sums / n_rollouts).numpy()
    variance = np.maximum((squares / n_rollouts).numpy() - mean**2, 0) * n_rollouts / (n_rollouts - 1)
    stderr = np.sqrt(variance / n_rollouts)
    return Evaluation(float(mean.mean()), float(np.sqrt((stderr**2).sum()) / len(mean)), mean, stderr, n_rollouts)


@torch.no_grad()
def worst_case(
    policy: Policy,
    r: float | DifficultyClass | None = None,
    restarts: int = 4,
    n_rollouts: int = 10_000,
    seed: int = 2,
    search_rollouts: int = 300,
    progress: Progress = no_progress,
) -> WorstCase:
    """The worst risk over a class, by an adversary that knows the policy and had no part in its training.

    All members of a finite class are played; of a box ``restarts`` times 64 draws, of which the worst climb by random
    steps within the class. The first estimates only choose: the worst few are played again, and the worst of these
    once more with ``n_rollouts``, which gives the figure. It is not biased upwards by the choice, and is a lower bound
    of the worst case up to its interval.

    Parameters
    ----------
    r : radius, or a class, or None for all of a finite set (of a box: the 90th percentile of C).
    """
    check_seed("seed", seed)
    problem = policy.problem
    chosen = _class_of(problem, r, seed)
    generator = torch.Generator().manual_seed(seed)
    if chosen.members is not None:
        candidates = chosen.members
        first = evaluate(policy, candidates, search_rollouts, seed + 1).per_theta
    else:
        candidates, first = _climb(policy, chosen, restarts, search_rollouts, generator, progress)
    finalists = candidates[np.argsort(-first, kind="stable")[:FINALISTS].copy()]
    second = evaluate(policy, finalists, max(search_rollouts, n_rollouts // 4), seed + 2).per_theta
    worst = finalists[int(second.argmax())][None]
    last = evaluate(policy, worst, n_rollouts, seed + 3)
    return WorstCase(risk_interval(problem, worst, last), worst[0], float(last.per_theta_stderr[0]))


def risk_interval(problem: ActiveProblem, instances: torch.Tensor, found: Evaluation) -> Interval:
    """A 95 % interval of a risk: Wilson's for 0/1 losses of one instance, normal elsewhere."""
    from paperworks.metrics import wilson_interval

    losses = problem.losses(instances)
    if len(instances) == 1 and bool(((losses == 0) | (losses == 1)).all()):
        return wilson_interval(round(found.mean * found.n_rollouts), found.n_rollouts, unit="roll-outs")
    half = 1.96 * found.stderr
    return Interval(
        found.mean,
        found.mean - half,
        found.mean + half,
        0.95,
        "normal",
        found.n_rollouts * len(instances),
        "roll-outs",
    )


def _class_of(problem: ActiveProblem, r: float | DifficultyClass | None, seed: int) -> DifficultyClass:
    if isinstance(r, DifficultyClass):
        return r
    if r is None and problem.finite:
        return DifficultyClass("all", None, problem.instances())
    return make_classes(problem, None if r is None else [r], count=1, seed=seed)[0]


def _climb(
    policy: Policy,
    chosen: DifficultyClass,
    restarts: int,
    rollouts: int,
    generator: torch.Generator,
    progress: Progress,
) -> tuple[torch.Tensor, np.ndarray]:
    """Random search in a class of a box: draws, then steps around the worst that stay in the class."""
    problem, radius = policy.problem, chosen.radius
    assert radius is not None
    candidates = chosen.draw(problem, 64 * restarts, generator, progress)
    seed = int(torch.randint(2**31, (), generator=generator))
    risks = evaluate(policy, candidates, rollouts, seed).per_theta
    width = problem.box.high - problem.box.low
    for turn in progress(range(3), f"looking for the worst of {chosen.name}", 3):
        best = candidates[np.argsort(-risks, kind="stable")[: 4 * restarts].copy()]
        steps = torch.randn(len(best) * 4, best.shape[1], generator=generator) * width * 0.15 / 2**turn
        moved = (best.repeat_interleave(4, 0) + steps).clamp(problem.box.low, problem.box.high)
        values = complexities(problem, moved, progress)
        scaled, fits = scale_rows(problem, moved, values, np.full(len(moved), radius), progress)
        within = values <= radius
        new = torch.where(torch.from_numpy(within)[:, None], moved, scaled)[torch.from_numpy(within | fits)]
        if len(new) == 0:
            continue
        found = evaluate(policy, new, rollouts, seed + 1 + turn).per_theta
        candidates, risks = torch.cat([candidates, new]), np.concatenate([risks, found])
    return candidates, risks


@torch.no_grad()
def exact_risk(policy: RandomisedPolicy, thetas: ArrayLike | torch.Tensor | None = None) -> np.ndarray:
    """The risk of each instance ``[n]`` to rounding, by going through all histories of a game with two answers.

    Raises InputError for real answers, and for more than two million histories.
    """
    problem = policy.problem
    if not isinstance(problem.observation, Binary):
        raise InputError("policy", "real answers", "answers of two values, or evaluate()")
    size = (2 * problem.n_queries) ** problem.horizon
    if size > MOST_BRANCHES:
        raise InputError("horizon", f"{size:,} histories", f"at most {MOST_BRANCHES:,}, or evaluate()")
    instances = thetas if isinstance(thetas, torch.Tensor) else problem.instances(thetas)
    return exact_risk_tensor(policy, instances).double().numpy()


def exact_risk_tensor(policy: RandomisedPolicy, instances: torch.Tensor) -> torch.Tensor:
    """``exact_risk`` with gradients, in float64 of what the policy gives."""
    problem, law = policy.problem, policy.problem.observation
    assert isinstance(law, Binary)
    p = law.probability(problem.means(instances)).double()
    history, weight = policy.begin(1), torch.ones(1, len(instances), dtype=torch.float64)
    for _ in range(problem.horizon):
        chances = policy.query_probabilities(history).double()
        n, q = chances.shape
        rows = torch.arange(n).repeat_interleave(2 * q)
        x = torch.arange(q).repeat_interleave(2).repeat(n)
        high = torch.tensor([0, 1]).repeat(n * q)
        answer_chance = torch.where(high[:, None] == 1, p.T[x], 1 - p.T[x])
        weight = weight[rows] * chances[rows, x][:, None] * answer_chance
        history = _take(history, rows)
        policy.observe(history, x, torch.where(high == 1, law.high, law.low))
    outputs = policy.output_probabilities(history).double()
    return (weight * (outputs @ problem.losses(instances).double().T)).sum(0)


def _take(history: History, rows: torch.Tensor) -> History:
    memory = {name: value[rows] if isinstance(value, torch.Tensor) else value for name, value in history.memory.items()}
    return History(
        history.counts[rows],
        history.sums[rows],
        [x[rows] for x in history.queries],
        [y[rows] for y in history.answers],
        memory,
    )


def class_risks(
    policy: Policy, classes: Sequence[DifficultyClass], n_rollouts: int = 10_000, seed: int = 2
) -> list[WorstCase]:
    """The worst case of each class, each by an adversary of its own seed."""
    return [worst_case(policy, one, n_rollouts=n_rollouts, seed=seed + 10 * k) for k, one in enumerate(classes)]


__all__ = [
    "Evaluation",
    "LearnedPolicy",
    "WorstCase",
    "class_risks",
    "evaluate",
    "exact_risk",
    "exact_risk_tensor",
    "risk_interval",
    "worst_case",
]
