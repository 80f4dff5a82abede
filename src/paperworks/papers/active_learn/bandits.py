"""Fixed-budget policies for arms and linear models."""

from __future__ import annotations

import math

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.papers.active_learn.barrier import barrier_design
from paperworks.papers.active_learn.baselines import Likelihood
from paperworks.papers.active_learn.observations import Binary
from paperworks.papers.active_learn.policies import History, Policy, pick_largest
from paperworks.papers.active_learn.problem import ActiveProblem


class ArmPolicy(Policy):
    """Base of the policies for arms: queries and outputs are the same K arms."""

    def __init__(self, problem: ActiveProblem) -> None:
        super().__init__(problem)
        arms = problem.outputs is not None and torch.equal(problem.queries, problem.outputs)
        if not arms or not torch.equal(problem.queries, torch.eye(problem.n_queries)):
            raise InputError("problem", "queries that are not the outputs", "best-arm identification")
        law = problem.observation
        self.sigma = (law.high - law.low) / 2 if isinstance(law, Binary) else law.sigma

    def means(self, history: History) -> torch.Tensor:
        """Mean answers; minus infinity for an arm that was not pulled."""
        means = history.sums / history.counts.clamp(min=1)
        return torch.where(history.counts > 0, means, -math.inf)

    def decide(self, history: History, generator: torch.Generator) -> torch.Tensor:
        return pick_largest(self.means(history), generator)


class Elimination(ArmPolicy):
    """Base of policies with phases: active arms are pulled in turn, and the worst are dropped at a phase's end."""

    def phases(self) -> list[tuple[int, int]]:
        """(pulls of each active arm by the end of the phase, arms that stay) of each phase."""
        raise NotImplementedError

    def __init__(self, problem: ActiveProblem) -> None:
        super().__init__(problem)
        active, pulled, end = problem.n_queries, 0, 0
        self._ends: dict[int, int] = {}
        for pulls, left in self.phases():
            end += active * (pulls - pulled)
            self._ends[min(end, problem.horizon)] = left
            active, pulled = left, pulls

    def begin(self, n: int) -> History:
        history = super().begin(n)
        history.memory["active"] = torch.ones(n, self.problem.n_queries, dtype=torch.bool)
        return history

    def choose(self, history: History, generator: torch.Generator) -> torch.Tensor:
        counts = torch.where(history.memory["active"], history.counts, math.inf)
        return pick_largest(-counts, generator)

    def observe(self, history: History, queries: torch.Tensor, answers: torch.Tensor) -> None:
        super().observe(history, queries, answers)
        keep = self._ends.get(history.step)
        if keep is None:
            return
        active = history.memory["active"]
        means = torch.where(active, self.means(history), -math.inf)
        # equal means: the arm with the smaller number stays, as in the usual statements of the rules
        order = means.argsort(dim=1, descending=True, stable=True)
        stays = torch.zeros_like(active).scatter(1, order[:, :keep], torch.ones_like(order[:, :keep], dtype=torch.bool))
        history.memory["active"] = active & stays

    def decide(self, history: History, generator: torch.Generator) -> torch.Tensor:
        means = torch.where(history.memory["active"], self.means(history), -math.inf)
        return pick_largest(means, generator)


class SuccessiveRejects(Elimination):
    """Successive rejects (Audibert, Bubeck and Munos 2010): K - 1 phases, each drops the worst arm."""

    name = "successive rejects"

    def phases(self) -> list[tuple[int, int]]:
        k, budget = self.problem.n_queries, self.problem.horizon
        total = 0.5 + sum(1 / i for i in range(2, k + 1))
        pulls = [max(0, math.ceil((budget - k) / (total * (k + 1 - j)))) for j in range(1, k)]
        return [(max(n, 1), k - j) for j, n in enumerate(pulls, 1)]


class SequentialHalving(Elimination):
    """Sequential halving (Karnin, Koren and Somekh 2013), with means over all rounds."""

    name = "sequential halving"

    def phases(self) -> list[tuple[int, int]]:
        active, budget = self.problem.n_queries, self.problem.horizon
        rounds, pulled = math.ceil(math.log2(active)), 0
        found = []
        for _ in range(rounds):
            pulled += max(1, budget // (active * rounds))
            active = math.ceil(active / 2)
            found.append((pulled, active))
        return found


class TopTwoThompson(ArmPolicy):
    """Top-two Thompson sampling (Russo 2016) with an even coin; Beta(1, 1) or a flat Gaussian prior.

    Arms with real answers are pulled once each first. The output has the largest posterior mean.
    """

    name = "top-two Thompson"
    draws = 20
    """Posterior draws in which a second leader is looked for."""

    def _sample(self, history: History, n: int, generator: torch.Generator) -> torch.Tensor:
        counts, sums = history.counts.numpy(), history.sums.numpy()
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        law = self.problem.observation
        if isinstance(law, Binary):
            high = (sums - law.low * counts) / (law.high - law.low)
            found = rng.beta(1 + high, 1 + counts - high, size=(n, *counts.shape))
        else:
            found = sums / np.maximum(counts, 1) + self.sigma / np.sqrt(np.maximum(counts, 1e-6)) * rng.normal(
                size=(n, *counts.shape)
            )
        return torch.from_numpy(found)

    def choose(self, history: History, generator: torch.Generator) -> torch.Tensor:
        if not isinstance(self.problem.observation, Binary) and history.step < self.problem.n_queries:
            return pick_largest(-history.counts, generator)
        leaders = self._sample(history, self.draws, generator).argmax(2)
        first = leaders[0]
        other = leaders != first
        second = leaders.gather(0, other.int().argmax(0)[None])[0]  # the first draw with another leader, or itself
        coin = torch.rand(len(history), generator=generator) < 0.5
        return torch.where(coin, first, second)

    def decide(self, history: History, generator: torch.Generator) -> torch.Tensor:
        law = self.problem.observation
        if not isinstance(law, Binary):
            return super().decide(history, generator)
        high = (history.sums - law.low * history.counts) / (law.high - law.low)
        return pick_largest((1 + high) / (2 + history.counts), generator)


class LUCB(ArmPolicy):
    """LUCB1 (Kalyanakrishnan et al. 2012): the best mean and the best upper bound of the others, in turn."""

    name = "LUCB"
    delta = 0.1

    def choose(self, history: History, generator: torch.Generator) -> torch.Tensor:
        k = self.problem.n_queries
        if history.step < k:
            return pick_largest(-history.counts, generator)
        leader = pick_largest(self.means(history), generator)
        if (history.step - k) % 2 == 0:
            return leader
        log = math.log(1.25 * k * (history.step + 1) ** 4 / self.delta)
        upper = self.means(history) + self.sigma * (2 * log / history.counts.clamp(min=1)).sqrt()
        return pick_largest(upper.scatter(1, leader[:, None], -math.inf), generator)


class XYAllocation(Policy):
    """XY allocation for linear models with a fixed budget, in rounds (Soare et al. 2014; RAGE, Fiez et al. 2019).

    Each of log2 |Z| rounds follows the design that minimises the largest variance of <z - z', theta> over the outputs
    that are left, and keeps the better half of them by least squares. ``adaptive=False`` keeps all: one design.
    """

    name = "XY allocation"

    def __init__(self, problem: ActiveProblem, adaptive: bool = True) -> None:
        super().__init__(problem)
        if problem.finite or problem.outputs is None:
            raise InputError("problem", "a finite set of theta", "a linear model over a box")
        self._likelihood = Likelihood(problem)
        rounds = max(1, math.ceil(math.log2(problem.n_outputs))) if adaptive else 1
        self._ends = [round(problem.horizon * (i + 1) / rounds) for i in range(rounds)]
        self._designs: dict[tuple[bool, ...], torch.Tensor] = {}

    def begin(self, n: int) -> History:
        history = super().begin(n)
        history.memory["active"] = torch.ones(n, self.problem.n_outputs, dtype=torch.bool)
        history.memory["since"] = torch.zeros_like(history.counts)
        return history

    def _design(self, active: tuple[bool, ...]) -> torch.Tensor:
        if active not in self._designs:
            assert self.problem.outputs is not None
            z = self.problem.outputs.double().numpy()[np.array(active)]
            a, b = np.triu_indices(len(z), 1)
            found = barrier_design(self.problem.queries.double().numpy(), z[a] - z[b])[1]
            self._designs[active] = torch.from_numpy(found).float()
        return self._designs[active]

    def choose(self, history: History, generator: torch.Generator) -> torch.Tensor:
        kinds, which = history.memory["active"].unique(dim=0, return_inverse=True)
        weights = torch.stack([self._design(tuple(kind)) for kind in kinds.tolist()])[which]
        asked = history.memory["since"]
        # the query that is furthest behind its share
        return pick_largest(weights * (asked.sum(1, keepdim=True) + 1) - asked, generator)

    def observe(self, history: History, queries: torch.Tensor, answers: torch.Tensor) -> None:
        super().observe(history, queries, answers)
        rows = torch.arange(len(history))
        history.memory["since"].index_put_((rows, queries), torch.ones(len(history)), accumulate=True)
        if history.step in self._ends[:-1]:
            active = history.memory["active"]
            scores = torch.where(active, self._likelihood.output_scores(history), -math.inf)
            keep = max(2, math.ceil(int(active[0].sum()) / 2))
            order = scores.argsort(dim=1, descending=True)[:, :keep]
            history.memory["active"] = torch.zeros_like(active).scatter(
                1, order, torch.ones_like(order, dtype=torch.bool)
            )
            history.memory["since"] = torch.zeros_like(history.counts)

    def decide(self, history: History, generator: torch.Generator) -> torch.Tensor:
        scores = self._likelihood.output_scores(history)
        return pick_largest(torch.where(history.memory["active"], scores, -math.inf), generator)
