"""Fixed policies to compare with: uniform queries, generalised binary search, its soft form, and greedy information."""

from __future__ import annotations

import math

import torch

from paperworks.errors import InputError
from paperworks.papers.active_learn.observations import Binary
from paperworks.papers.active_learn.policies import History, Policy, RandomisedPolicy, pick_largest
from paperworks.papers.active_learn.problem import ActiveProblem

MARGIN = 1.1
"""SGBS's b over the noise rate."""
LEAST_B, MOST_B = 0.01, 0.49


class Likelihood:
    """What a history says without a prior: log likelihoods of a finite set, or least squares in a box."""

    def __init__(self, problem: ActiveProblem) -> None:
        self.problem = problem
        if problem.finite:
            everyone = problem.instances()
            self.means = problem.means(everyone)
            self.tables = problem.observation.log_likelihood_tables(self.means)
            self.losses = problem.losses(everyone)
            self.right = self.losses.argmin(1)
        elif problem.outputs is None or problem.link is not None:
            raise InputError("problem", "answers that are not linear in theta", "a finite set, or a linear model")

    def log_likelihood(self, history: History) -> torch.Tensor:
        """Of each theta of a finite set ``[n, thetas]``, up to a constant."""
        return history.counts @ self.tables[0] + history.sums @ self.tables[1]

    def estimate(self, history: History) -> torch.Tensor:
        """Least squares ``[n, d]``; directions that were not asked about stay at the box's middle."""
        x, middle = self.problem.queries.double(), self.problem.box.middle
        counts, sums = history.counts.double(), history.sums.double()
        moment = (sums - counts * (x.sum(1) * middle)) @ x
        gram = torch.einsum("nq,qa,qb->nab", counts, x, x)
        ridge = 1e-6 * torch.eye(x.shape[1], dtype=torch.float64)
        return middle + torch.linalg.solve(gram + ridge, moment[..., None])[..., 0]

    def output_scores(self, history: History) -> torch.Tensor:
        """Of each output ``[n, outputs]``: the best log likelihood of a theta with that output, or <z, theta>."""
        if not self.problem.finite:
            assert self.problem.outputs is not None
            return (self.estimate(history) @ self.problem.outputs.double().T).float()
        logs = self.log_likelihood(history)
        scores = logs.new_full((len(logs), self.problem.n_outputs), -math.inf)
        return scores.scatter_reduce(1, self.right.expand(len(logs), -1), logs, "amax")


class Passive(Policy):
    """Uniform queries, and the output of maximum likelihood (least squares in a box)."""

    name = "uniform queries + ML"

    def __init__(self, problem: ActiveProblem) -> None:
        super().__init__(problem)
        self._likelihood = Likelihood(problem)

    def choose(self, history: History, generator: torch.Generator) -> torch.Tensor:
        return torch.randint(self.problem.n_queries, (len(history),), generator=generator)

    def decide(self, history: History, generator: torch.Generator) -> torch.Tensor:
        return pick_largest(self._likelihood.output_scores(history), generator, 1e-5)


class GBS(RandomisedPolicy):
    """Generalised binary search: the query whose predicted answers are split most evenly; wrong hypotheses go.

    The query minimises |sum_z p(z) h_z(x)| with h in {-1, 1} and p uniform over the hypotheses that contradict the
    fewest answers: all answers are trusted, and where noise contradicts every hypothesis the best remain.
    """

    name = "GBS"

    def __init__(self, problem: ActiveProblem) -> None:
        super().__init__(problem)
        self.hypotheses, self.right = binary_hypotheses(problem)
        law = problem.observation
        assert isinstance(law, Binary)
        self._middle, self._half = (law.low + law.high) / 2, (law.high - law.low) / 2

    def log_weights(self, history: History) -> torch.Tensor:
        """Of the hypotheses ``[n, hypotheses]``, up to a constant."""
        wrong = (history.counts.sum(1, keepdim=True) - self.agreements(history)) / 2
        return torch.where(wrong <= wrong.amin(1, keepdim=True) + 0.25, 0.0, -math.inf)

    def agreements(self, history: History) -> torch.Tensor:
        """Answers that agree less those that contradict ``[n, hypotheses]``."""
        signed = (history.sums - self._middle * history.counts) / self._half
        return signed @ self.hypotheses.T

    def query_probabilities(self, history: History) -> torch.Tensor:
        split = (self.log_weights(history).softmax(1) @ self.hypotheses).abs()
        ties = (split <= split.amin(1, keepdim=True) + 1e-5).float()
        return ties / ties.sum(1, keepdim=True)

    def output_probabilities(self, history: History) -> torch.Tensor:
        weights = self.log_weights(history).softmax(1)
        ties = (weights >= weights.amax(1, keepdim=True) * (1 - 1e-5)).float()
        mass = ties.new_zeros(len(ties), self.problem.n_outputs).index_add(1, self.right, ties)
        return mass / mass.sum(1, keepdim=True)


class SGBS(GBS):
    """Soft GBS (Nowak 2011): p(z) is multiplied by 1 - b if z agrees with the answer, else by b; output of largest p.

    ``b`` is slightly above the noise rate; by default 1.1 times the game's mean flip rate.
    """

    name = "SGBS"

    def __init__(self, problem: ActiveProblem, b: float | None = None) -> None:
        super().__init__(problem)
        self.b = default_b(problem) if b is None else b
        if not 0 < self.b < 0.5:
            raise InputError("b", self.b, "a number above 0 and below 0.5")

    def log_weights(self, history: History) -> torch.Tensor:
        return self.agreements(history) / 2 * math.log((1 - self.b) / self.b)


class InformationGain(RandomisedPolicy):
    """Greedy Bayesian experimental design under a uniform prior over a finite set.

    The query has the largest mutual information with theta, the output the least expected loss.
    """

    name = "greedy information"

    def __init__(self, problem: ActiveProblem) -> None:
        super().__init__(problem)
        if not problem.finite:
            raise InputError("problem", "a box", "a finite set of theta")
        self._likelihood = Likelihood(problem)

    def query_probabilities(self, history: History) -> torch.Tensor:
        posterior = self._likelihood.log_likelihood(history).softmax(1)
        gain = self.problem.observation.information(posterior, self._likelihood.means)
        ties = (gain >= gain.amax(1, keepdim=True) - 1e-6).float()
        return ties / ties.sum(1, keepdim=True)

    def output_probabilities(self, history: History) -> torch.Tensor:
        loss = self._likelihood.log_likelihood(history).softmax(1) @ self._likelihood.losses
        ties = (loss <= loss.amin(1, keepdim=True) + 1e-6).float()
        return ties / ties.sum(1, keepdim=True)


def binary_hypotheses(problem: ActiveProblem) -> tuple[torch.Tensor, torch.Tensor]:
    """Hypotheses h ``[hypotheses, queries]`` in {-1, 1} (0 where undecided), and the output of each.

    Raises InputError for real answers, and for a box whose outputs are not labellings of the queries.
    """
    law = problem.observation
    if not isinstance(law, Binary):
        raise InputError("problem", "real answers", "answers of two values")
    if problem.finite:
        everyone = problem.instances()
        return (law.probability(problem.means(everyone)) - 0.5).sign(), problem.best(everyone)
    x, z = problem.queries, problem.outputs
    labels = z is not None and bool(((z == 0) | (z == 1)).all()) and torch.equal(x, torch.eye(len(x)))
    if not labels or problem.symmetric:
        raise InputError(
            "problem", "outputs that are no labellings of the queries", "a pool to classify, or a finite set"
        )
    assert z is not None
    return 2 * z - 1, torch.arange(len(z))


def default_b(problem: ActiveProblem) -> float:
    """SGBS's b: 1.1 times the mean chance of the rarer answer; of a box 0.25."""
    if not problem.finite:
        return 0.25
    law = problem.observation
    assert isinstance(law, Binary)
    p = law.probability(problem.means(problem.instances()))
    return float(min(max(MARGIN * float(torch.minimum(p, 1 - p).mean()), LEAST_B), MOST_B))
