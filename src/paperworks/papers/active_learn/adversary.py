"""The adversary of a training: particles of theta with logits, which move towards what the policy does badly on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from paperworks.papers.active_learn.classes import DifficultyClass, designs, scale_rows
from paperworks.papers.active_learn.problem import ActiveProblem

RESEEDED = 0.1
"""Share of the particles of least payoff that are drawn anew from their class, from time to time."""
EXPLORE = 0.3
"""Share of the draws that are uniform over the particles."""
MEMORY = 0.1
"""Weight of a new payoff in a particle's moving mean, at least."""


@dataclass
class Particles:
    """Instances with logits; those of a box also move.

    Attributes
    ----------
    instances : ``[P]`` indices or ``[P, d]`` rows. logits : ``[P]``.
    offsets : l_k* of each particle's class ``[P]``.
    groups : the class of each particle ``[P]``. payoffs : moving means of loss minus offset ``[P]``.
    visits : draws so far ``[P]``.
    designs : the last optimal design of each particle of a box ``[P, queries]``.
    """

    problem: ActiveProblem
    classes: list[DifficultyClass]
    instances: torch.Tensor
    offsets: torch.Tensor
    groups: torch.Tensor
    logits: torch.Tensor
    payoffs: torch.Tensor
    designs: torch.Tensor | None = None
    radii: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    visits: torch.Tensor = field(default_factory=lambda: torch.zeros(0))

    def __post_init__(self) -> None:
        self.visits = torch.zeros(len(self.payoffs))

    @classmethod
    def of(
        cls,
        problem: ActiveProblem,
        classes: list[DifficultyClass],
        offsets: list[float],
        count: int,
        generator: torch.Generator,
    ) -> Particles:
        """Particles of some classes: all members of a listed class, ``count`` draws from a class of a box.

        An instance that is in several nested classes counts in the one with the smallest offset: it gains the most.
        """
        instances, groups = [], []
        seen: dict[int, int] = {}
        order = sorted(range(len(classes)), key=lambda k: offsets[k])
        for k in order:
            rows = classes[k].members
            if rows is None:
                rows = classes[k].draw(problem, count, generator)
            else:
                rows = torch.tensor([i for i in rows.tolist() if seen.setdefault(i, k) == k], dtype=torch.int64)
            instances.append(rows)
            groups += [k] * len(rows)
        stacked, group = torch.cat(instances), torch.tensor(groups)
        particles = cls(
            problem,
            classes,
            stacked,
            torch.tensor(offsets, dtype=torch.float32)[group],
            group,
            torch.zeros(len(stacked), requires_grad=True),
            torch.zeros(len(stacked)),
        )
        if not problem.finite:
            particles.instances = stacked.clone().requires_grad_(True)
            particles.radii = torch.tensor([c.radius or np.inf for c in classes], dtype=torch.float32)[group]
            particles.refresh(generator, reseed=False)
        return particles

    @property
    def weights(self) -> torch.Tensor:
        """w = softmax of the logits ``[P]``."""
        return self.logits.softmax(0)

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator, explore: float = EXPLORE) -> tuple[torch.Tensor, torch.Tensor]:
        """n particles, and the weight w / q of each draw.

        They are drawn from q, which is w mixed with the uniform distribution, so that no payoff gets out of date; by
        systematic resampling, in which each comes n q times, up to one.
        """
        w = self.weights.double()
        q = (1 - explore) * w + explore / len(w)
        at = (torch.arange(n, dtype=torch.float64) + torch.rand((), generator=generator, dtype=torch.float64)) / n
        ids = torch.searchsorted(q.cumsum(0) / q.sum(), at).clamp(max=len(w) - 1)
        return ids, (w / q)[ids].float()

    def observe(self, ids: torch.Tensor, payoffs: torch.Tensor) -> None:
        """Take in payoffs of draws: moving means, which begin with the first payoff."""
        sums = torch.zeros(len(self.payoffs)).index_add(0, ids, payoffs)
        counts = torch.bincount(ids, minlength=len(sums))
        seen = counts > 0
        rate = (1 / (self.visits[seen] + 1)).clamp(min=MEMORY)
        self.payoffs[seen] += rate * (sums[seen] / counts[seen] - self.payoffs[seen])
        self.visits[seen] += 1

    @torch.no_grad()
    def respond(self, temperature: float) -> None:
        """The logits that maximise sum w payoffs + temperature * entropy(w): payoffs / temperature."""
        unseen = self.visits == 0
        payoffs = torch.where(unseen, self.payoffs[~unseen].max() if bool((~unseen).any()) else 0.0, self.payoffs)
        logits = payoffs / temperature
        self.logits.copy_(logits - logits.max())

    def excess(self) -> torch.Tensor:
        """max(0, log C - log r) of each particle ``[P]``, differentiable in theta, with the last optimal designs.

        With a fixed design the ratio is an upper bound of C that touches it where the design is optimal, and its
        gradient there is the envelope's.
        """
        assert self.designs is not None
        theta, x, z = self.instances, self.problem.queries, self.problem.outputs
        assert z is not None
        values = theta @ z.T
        best = values.argmax(1)
        gaps = values.gather(1, best[:, None]) - values
        gram = torch.einsum("pq,qa,qb->pab", self.designs, x, x) + 1e-7 * torch.eye(x.shape[1])
        differences = z[best][:, None] - z[None]
        norms = (differences * torch.linalg.solve(gram, differences.transpose(1, 2)).transpose(1, 2)).sum(-1)
        logs = (norms * self.problem.scale).clamp(min=1e-12).log() - 2 * gaps.clamp(min=1e-6).log()
        logs = logs.masked_fill(torch.nn.functional.one_hot(best, len(z)).bool(), -np.inf)
        return (logs.amax(1) - self.radii.log()).clamp(min=0)

    def refresh(self, generator: torch.Generator, reseed: bool = True) -> None:
        """Put particles back into their class and box, draw the worst of them anew, and compute their designs."""
        box = self.problem.box
        with torch.no_grad():
            self.instances.clamp_(box.low, box.high)
            found = designs(self.problem, self.instances)
            values = np.array([d.value for d in found])
            anew = set(np.flatnonzero(~np.isfinite(values)).tolist())
            if reseed:
                anew |= set(self.payoffs.argsort()[: int(RESEEDED * len(values))].tolist())
            radii = self.radii.double().numpy()
            outside = [i for i in range(len(values)) if i not in anew and values[i] > radii[i]]
            moved, fits = scale_rows(self.problem, self.instances[outside], values[outside], radii[outside])
            self.instances[outside] = moved
            anew |= {i for i, there in zip(outside, fits, strict=True) if not there}
            for i in sorted(anew):
                self.instances[i] = self.classes[int(self.groups[i])].draw(self.problem, 1, generator)[0]
                self.payoffs[i], self.visits[i] = self.payoffs.mean(), 0
            changed = sorted({*outside, *anew})
            for i, design in zip(changed, designs(self.problem, self.instances[changed]), strict=True):
                found[i] = design
            self.designs = torch.tensor(np.array([d.weights for d in found]), dtype=torch.float32)

    def state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint needs."""
        content = {"instances": self.instances.detach().clone(), "logits": self.logits.detach().clone()}
        content |= {"payoffs": self.payoffs.clone(), "visits": self.visits.clone()}
        if self.designs is not None:
            content["designs"] = self.designs.clone()
        return content

    def load(self, content: dict[str, torch.Tensor]) -> None:
        """Take up a checkpoint's state, in place."""
        with torch.no_grad():
            self.instances.copy_(content["instances"])
            self.logits.copy_(content["logits"])
            self.payoffs.copy_(content["payoffs"])
            self.visits.copy_(content["visits"])
        self.designs = content.get("designs")
