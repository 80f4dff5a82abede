"""Observation models: how an answer is drawn once the mean answer of a query is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from paperworks.errors import InputError

LOW, HIGH = 0.02, 0.98
"""Probabilities are kept within these where a score or a divergence would be infinite at 0 and 1."""
LEAST_PROBABILITY = 1e-4
"""Of an answer, in the likelihoods that a posterior is computed from."""

ObservationName = Literal["gaussian", "bernoulli", "sign"]


@dataclass(frozen=True)
class Gaussian:
    """Real answers: the mean plus normal noise of standard deviation ``sigma``."""

    sigma: float = 1.0

    def sample(self, means: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """One answer for each mean; of their shape."""
        return means + self.sigma * torch.randn(means.shape, generator=generator).to(means)

    def log_prob(self, answers: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
        """Log density up to a constant; its derivative in the mean is (y - mean) / sigma^2."""
        return -((answers - means) ** 2) / (2 * self.sigma**2)

    def kl(self, means: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Kullback-Leibler divergence of the answer at ``means`` from that at ``others``."""
        return (means - others) ** 2 / (2 * self.sigma**2)

    def log_likelihood_tables(self, means: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tables C, S ``[queries, thetas]``: the log likelihood of a history is ``counts @ C + sums @ S``.

        ``means`` is ``[thetas, queries]``.
        """
        return -(means.T**2) / (2 * self.sigma**2), means.T / self.sigma**2

    def information(self, posterior: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
        """What an answer tells about theta, ``[n, queries]``, in nats: 1/2 log(1 + variance of the mean / sigma^2)."""
        mean = posterior @ means
        variance = (posterior @ means**2 - mean**2).clamp(min=0)
        return 0.5 * torch.log1p(variance / self.sigma**2)

    def check(self, answer: float) -> float:
        """An answer as it counts. Raises InputError for one that is no finite number."""
        if not abs(answer) < float("inf"):
            raise InputError("answer", answer, "a finite number")
        return float(answer)


@dataclass(frozen=True)
class Binary:
    """Answers of two values, ``low`` and ``high``: (0, 1) is Bernoulli, (-1, 1) has the mean 2 p - 1."""

    low: float = 0.0
    high: float = 1.0

    def probability(self, means: torch.Tensor) -> torch.Tensor:
        """P(answer = high)."""
        return ((means - self.low) / (self.high - self.low)).clamp(0, 1)

    def sample(self, means: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """One answer for each mean; of their shape."""
        drawn = torch.rand(means.shape, generator=generator).to(means)
        return torch.where(drawn < self.probability(means), self.high, self.low).to(means)

    def log_prob(self, answers: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
        """Log probability, with p kept within 0.02 and 0.98; its derivative in p is (y - p) / (p (1 - p))."""
        p = ((means - self.low) / (self.high - self.low)).clamp(LOW, HIGH)
        return torch.where(answers > (self.low + self.high) / 2, p.log(), (1 - p).log())

    def kl(self, means: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Kullback-Leibler divergence, with probabilities kept within 0.02 and 0.98."""
        p, q = (self.probability(m).clamp(LOW, HIGH) for m in (means, others))
        return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()

    def log_likelihood_tables(self, means: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tables C, S ``[queries, thetas]``: the log likelihood of a history is ``counts @ C + sums @ S``."""
        p = self.probability(means.T).clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        yes, no = p.log(), (1 - p).log()
        slope = (yes - no) / (self.high - self.low)
        return no - self.low * slope, slope

    def information(self, posterior: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
        """Mutual information of the answer and theta, ``[n, queries]``, in nats."""
        p = self.probability(means)
        return entropy(posterior @ p) - posterior @ entropy(p)

    def check(self, answer: float) -> float:
        """An answer as it counts. Raises InputError for any other than the two."""
        if answer not in (self.low, self.high):
            raise InputError("answer", answer, f"{self.low:g} or {self.high:g}")
        return float(answer)


Observation = Gaussian | Binary


def entropy(p: torch.Tensor) -> torch.Tensor:
    """Of a yes-or-no answer with probability ``p``, in nats."""
    p = p.clamp(1e-7, 1 - 1e-7)  # the slope is infinite at 0 and 1
    return -(p * p.log() + (1 - p) * (1 - p).log())


def make_observation(name: str, sigma: float) -> Observation:
    """The model of that name. Raises InputError for another name or a sigma that is not above 0."""
    if not 0 < sigma < float("inf"):
        raise InputError("sigma", sigma, "a finite number above 0")
    models: dict[str, Observation] = {"gaussian": Gaussian(sigma), "bernoulli": Binary(), "sign": Binary(-1.0, 1.0)}
    if name not in models:
        raise InputError("observation", repr(name), f"one of {', '.join(models)}, or a function of theta")
    return models[name]
