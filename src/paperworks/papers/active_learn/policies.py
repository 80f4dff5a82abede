"""Policies pick the next query from the answers so far, and the output at the end. One ask/tell interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.papers.active_learn.observations import Binary
from paperworks.papers.active_learn.problem import ActiveProblem
from paperworks.parameters import check_seed


@dataclass
class History:
    """What was asked and answered in n episodes side by side.

    Attributes
    ----------
    counts : how often each query was asked ``[n, queries]``. sums : sums of its answers ``[n, queries]``.
    queries, answers : what was asked and answered in each step, ``[n]`` a step.
    memory : what a policy keeps beside these.
    """

    counts: torch.Tensor
    sums: torch.Tensor
    queries: list[torch.Tensor] = field(default_factory=list)
    answers: list[torch.Tensor] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def empty(cls, problem: ActiveProblem, n: int, device: torch.device | str = "cpu") -> History:
        """No answer yet."""
        size = (n, problem.n_queries)
        return cls(torch.zeros(size, device=device), torch.zeros(size, device=device))

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def step(self) -> int:
        """Queries asked so far."""
        return len(self.queries)

    def add(self, queries: torch.Tensor, answers: torch.Tensor) -> None:
        """Take in one answer of each episode, ``[n]`` each."""
        rows = torch.arange(len(self), device=queries.device)
        ones = torch.ones(len(self), device=queries.device)
        self.counts = self.counts.index_put((rows, queries), ones, accumulate=True)
        self.sums = self.sums.index_put((rows, queries), answers.float(), accumulate=True)
        self.queries.append(queries)
        self.answers.append(answers)


class Policy(ABC):
    """A rule for a problem. ``start`` gives one session to ask and tell; the other methods run n episodes at once."""

    name = "policy"

    def __init__(self, problem: ActiveProblem) -> None:
        self.problem = problem

    def begin(self, n: int) -> History:
        """n episodes without an answer."""
        return History.empty(self.problem, n)

    @abstractmethod
    def choose(self, history: History, generator: torch.Generator) -> torch.Tensor:
        """The next query of each episode ``[n]``."""

    def observe(self, history: History, queries: torch.Tensor, answers: torch.Tensor) -> None:
        """Take in one answer of each episode."""
        history.add(queries, answers)

    @abstractmethod
    def decide(self, history: History, generator: torch.Generator) -> torch.Tensor:
        """The output of each episode ``[n]``."""

    def start(self, seed: int = 0) -> Session:
        """One episode to ask and tell: the same seed and answers give the same transcript."""
        return Session(self, seed)


class RandomisedPolicy(Policy):
    """A policy that is given by its probabilities, which makes exact risks and gradients possible."""

    @abstractmethod
    def query_probabilities(self, history: History) -> torch.Tensor:
        """Of each next query ``[n, queries]``; rows sum to 1."""

    @abstractmethod
    def output_probabilities(self, history: History) -> torch.Tensor:
        """Of each output ``[n, outputs]``; rows sum to 1."""

    def choose(self, history: History, generator: torch.Generator) -> torch.Tensor:
        return draw(self.query_probabilities(history), generator)

    def decide(self, history: History, generator: torch.Generator) -> torch.Tensor:
        return draw(self.output_probabilities(history), generator)


class Session:
    """One episode: ``ask`` for a query's index, ``tell`` its answer, ``recommend`` an output's index.

    Attributes
    ----------
    transcript : pairs of query and answer so far.
    """

    def __init__(self, policy: Policy, seed: int) -> None:
        check_seed("seed", seed)
        self.policy = policy
        self.transcript: list[tuple[int, float]] = []
        self._generator = torch.Generator().manual_seed(seed)
        self._history = policy.begin(1)
        self._asked: int | None = None

    @property
    def done(self) -> bool:
        """Whether the budget of queries is spent."""
        return len(self.transcript) >= self.policy.problem.horizon

    @torch.no_grad()
    def ask(self) -> int:
        """The query to answer next; the same until it is told. Raises InputError when the budget is spent."""
        if self.done:
            raise InputError("session", f"{len(self.transcript)} answers, the whole budget", "recommend()")
        if self._asked is None:
            self._asked = int(self.policy.choose(self._history, self._generator)[0])
        return self._asked

    @torch.no_grad()
    def tell(self, answer: float) -> None:
        """The answer to the query that was asked. Raises InputError if none was, and for an impossible answer."""
        if self._asked is None:
            raise InputError("session", "an answer before a question", "ask() first")
        value = self.policy.problem.observation.check(float(answer))
        device = self._history.counts.device
        asked, told = torch.tensor([self._asked], device=device), torch.tensor([value], device=device)
        self.policy.observe(self._history, asked, told)
        self.transcript.append((self._asked, value))
        self._asked = None

    @torch.no_grad()
    def recommend(self) -> int:
        """The output after the answers so far, drawn anew from the policy at each call."""
        return int(self.policy.decide(self._history, self._generator)[0])

    @torch.no_grad()
    def probabilities(self) -> torch.Tensor:
        """How likely each output would be recommended now ``[outputs]``. Raises InputError for other policies."""
        if not isinstance(self.policy, RandomisedPolicy):
            raise InputError("policy", self.policy.name, "a policy that is given by probabilities")
        return self.policy.output_probabilities(self._history)[0]


def draw(probabilities: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One index a row, by inversion of the cumulative sums: ``[n, k]`` to ``[n]``."""
    sums = probabilities.detach().double().cumsum(1)
    at = torch.rand(len(sums), 1, generator=generator, dtype=torch.float64).to(sums.device) * sums[:, -1:]
    return (sums <= at).sum(1).clamp(max=probabilities.shape[1] - 1)


def pick_largest(scores: torch.Tensor, generator: torch.Generator, tolerance: float = 1e-6) -> torch.Tensor:
    """The largest score's index in each row, ties broken at random."""
    ties = scores >= scores.amax(1, keepdim=True) - tolerance
    return draw(ties.double(), generator)


def answer_values(problem: ActiveProblem) -> tuple[float, float]:
    """The two possible answers. Raises InputError for real answers."""
    law = problem.observation
    if not isinstance(law, Binary):
        raise InputError("observation", "real answers", "answers of two values")
    return law.low, law.high


@torch.no_grad()
def simulate(
    policy: Policy, means: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, History]:
    """Play one episode a row of mean answers ``[n, queries]``.

    Returns
    -------
    Queries ``[n, T]``, outputs ``[n]`` and the history.
    """
    history = policy.begin(len(means))
    means, rows = means.to(history.counts.device), torch.arange(len(means), device=history.counts.device)
    for _ in range(policy.problem.horizon):
        x = policy.choose(history, generator)
        policy.observe(history, x, policy.problem.observation.sample(means[rows, x], generator))
    return torch.stack(history.queries, 1).cpu(), policy.decide(history, generator).cpu(), history


@torch.no_grad()
def replay(policy: Policy, answers: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Outputs ``[n]`` where the answers are given: row i answers query x with ``answers[i, x]``, without noise."""
    history = policy.begin(len(answers))
    answers, rows = answers.to(history.counts.device), torch.arange(len(answers), device=history.counts.device)
    for _ in range(policy.problem.horizon):
        x = policy.choose(history, generator)
        policy.observe(history, x, answers[rows, x])
    return policy.decide(history, generator).cpu()
