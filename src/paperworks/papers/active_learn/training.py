"""One training of a policy against particles: score-function gradients for both sides.

The loop is this paper's own: both players are drawn from, and there is no data set, so that the shared loop over
batches of examples has no place for it.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.papers.active_learn.adversary import EXPLORE, Particles
from paperworks.papers.active_learn.policies import draw
from paperworks.papers.active_learn.problem import ActiveProblem
from paperworks.papers.active_learn.storage import LearnedPolicy
from paperworks.runs import Progress, no_progress
from paperworks.training.checkpoints import read_checkpoint, write_checkpoint

AVERAGED_FROM = 0.6
"""Share of the iterations after which the weights are averaged."""
LEAST_SPREAD = 0.05
"""Floor, in units of the largest loss, of the spread that advantages are divided by."""
COOLING = 4.0
"""The entropy of w starts at 1 + this times its weight, and falls to it in the first half."""
CLIP = 1.0
"""Norm that the policy's gradient is cut to."""


@dataclass(frozen=True)
class GameSettings:
    """Options of a training.

    Attributes
    ----------
    particles : per class of a box. draws, roll_outs : M particles and R episodes of each, an iteration.
    policy_rate, guide_rate, particle_rate, logit_rate : Adam's learning rates (betas 0.9, 0.999) of the network's
        layers, of the guide's factors and prior, of a box's particles, and of logits (``adversary="gradient"``). The
        first two fall to 0 in the second half.
    entropy : weight of the policy's entropy, falling linearly to 0. adversary_entropy : weight of the entropy of w.
    barrier : weight of max(0, log C - log r).
    refresh : iterations between two projections of a box's particles.
    chunk : iterations between two checkpoints.
    adversary : "closed" sets the logits to what maximises mean payoff + adversary_entropy * entropy for the payoffs
        seen so far, with a larger entropy in the first half. "gradient" makes Adam's steps towards it. "closed" is the
        limit of a fast adversary: the policy then descends on a smooth maximum, and the two do not cycle.
    """

    particles: int = 64
    draws: int = 32
    roll_outs: int = 32
    policy_rate: float = 1e-3
    particle_rate: float = 1e-2
    logit_rate: float = 1e-2
    guide_rate: float = 1e-2
    entropy: float = 0.01
    adversary_entropy: float = 0.01
    barrier: float = 1.0
    refresh: int = 25
    chunk: int = 25
    adversary: str = "closed"

    def __post_init__(self) -> None:
        for name, least in (("particles", 1), ("draws", 1), ("roll_outs", 2), ("refresh", 1), ("chunk", 1)):
            if getattr(self, name) < least:
                raise InputError(name, getattr(self, name), f"at least {least}")
        for name in ("policy_rate", "particle_rate", "logit_rate", "guide_rate"):
            if not getattr(self, name) > 0:
                raise InputError(name, getattr(self, name), "a number above 0")
        for name in ("entropy", "adversary_entropy", "barrier"):
            if not getattr(self, name) >= 0:
                raise InputError(name, getattr(self, name), "0 or more")
        if self.adversary not in ("closed", "gradient"):
            raise InputError("adversary", repr(self.adversary), "closed or gradient")
        if self.adversary == "closed" and self.adversary_entropy == 0:
            raise InputError("adversary_entropy", 0, "a number above 0, or adversary='gradient'")


@dataclass
class RollOut:
    """Episodes of one iteration: ``[M, R]`` each, queries and answers ``[M, R, T]``, outputs ``[M, R, Z]``.

    The loss is the mean over the policy's output, which is not drawn: less noise in both players' gradients. The log
    probability is that of the queries. Both carry gradients of the policy; ``outputs`` are probabilities without.
    """

    queries: torch.Tensor
    answers: torch.Tensor
    losses: torch.Tensor
    outputs: torch.Tensor
    log_probability: torch.Tensor
    entropy: torch.Tensor


def roll_out(policy: LearnedPolicy, instances: torch.Tensor, roll_outs: int, generator: torch.Generator) -> RollOut:
    """R episodes of each instance, with the log probability of the queries and the policy's mean entropy."""
    problem = policy.problem
    rows = instances.detach().repeat_interleave(roll_outs, 0)
    history = policy.begin(len(rows))
    device = history.counts.device
    means, at = problem.means(rows).to(device), torch.arange(len(rows), device=device)
    log_probability = torch.zeros(len(rows), device=device)
    entropy = torch.zeros((), device=device)
    for _ in range(problem.horizon):
        logs = policy.network.query_logits(history).log_softmax(1)
        x = draw(logs.exp(), generator)
        log_probability = log_probability + logs[at, x]
        entropy = entropy - (logs.exp() * logs).sum(1).mean()
        policy.observe(history, x, problem.observation.sample(means[at, x], generator))
    logs = policy.network.output_logits(history).log_softmax(1)
    entropy = (entropy - (logs.exp() * logs).sum(1).mean()) / (problem.horizon + 1)
    shape = (len(instances), roll_outs)
    losses = (logs.exp() * problem.losses(rows).to(device)).sum(1)
    return RollOut(
        torch.stack(history.queries, 1).reshape(*shape, -1).cpu(),
        torch.stack(history.answers, 1).reshape(*shape, -1).cpu(),
        losses.reshape(shape),
        logs.exp().detach().reshape(*shape, -1).cpu(),
        log_probability.reshape(shape),
        entropy,
    )


def leave_one_out(losses: torch.Tensor) -> torch.Tensor:
    """b_n: the mean loss of the other roll-outs of the same particle ``[M, R]``."""
    r = losses.shape[1]
    return (losses.sum(1, keepdim=True) - losses) / (r - 1)


def policy_surrogate(found: RollOut, scale: float = 1.0, weights: torch.Tensor | None = None) -> torch.Tensor:
    """A scalar whose gradient is the score-function estimate of the gradient of the mean risk, times ``scale``.

    ``weights`` ``[M]`` are those of the particles.
    """
    losses = found.losses.detach()
    weights = torch.ones(len(losses)) if weights is None else weights
    terms = (losses - leave_one_out(losses)) * found.log_probability + found.losses
    return (scale * weights.to(terms)[:, None] * terms).mean()


def theta_surrogate(problem: ActiveProblem, thetas: torch.Tensor, found: RollOut) -> torch.Tensor:
    """A scalar whose gradient in ``thetas`` ``[M, d]`` is sum over M of the estimated gradient of each risk."""
    means = problem.means(thetas)[:, None].expand(-1, found.queries.shape[1], -1)
    scores = problem.observation.log_prob(found.answers, means.gather(2, found.queries)).sum(2)
    losses = found.losses.detach().cpu()
    direct = (found.outputs * problem.losses(thetas)[:, None]).sum(2)
    return ((losses - leave_one_out(losses)) * scores + direct).mean(1).sum()


class GameTraining:
    """A training that goes on from its checkpoint. ``run`` gives the policy with averaged weights."""

    def __init__(
        self,
        policy: LearnedPolicy,
        particles: Particles,
        settings: GameSettings,
        iterations: int,
        seed: int,
        fixed: bool = False,
    ) -> None:
        if iterations < 1:
            raise InputError("iterations", iterations, "at least 1")
        self.policy, self.particles, self.settings = policy, particles, settings
        self.iterations, self.fixed = iterations, fixed
        self.generator = torch.Generator().manual_seed(seed)
        self.averaged = copy.deepcopy(policy.network)
        self.history: list[dict[str, float]] = []
        self.done = 0
        problem = policy.problem
        self.size = max(float(problem.losses(particles.instances.detach()).max()), 1e-9)
        guide = [policy.network.log_prior, policy.network.query_factor, policy.network.output_factor]
        others = [p for p in policy.network.parameters() if all(p is not g for g in guide)]
        groups: list[dict[str, Any]] = [{"params": others, "rate": settings.policy_rate}]
        groups.append({"params": guide, "rate": settings.guide_rate})
        self.policy_adam = torch.optim.Adam(groups, lr=settings.policy_rate)
        self.logit_adam = torch.optim.Adam([particles.logits], lr=settings.logit_rate)
        self.theta_adam = None
        if not problem.finite:
            self.theta_adam = torch.optim.Adam([particles.instances], lr=settings.particle_rate)

    def run(self, path: Path | None = None, progress: Progress = no_progress, what: str = "training") -> LearnedPolicy:
        """Train to the end; with a ``path`` from the checkpoint there, which is written after each chunk."""
        identity = {"iterations": self.iterations, **asdict(self.settings)}
        if path is not None and path.exists():
            self._load(read_checkpoint(path), identity, path)
        ends = [
            min(i + self.settings.chunk, self.iterations)
            for i in range(self.done, self.iterations, self.settings.chunk)
        ]
        for end in progress(ends, what):
            while self.done < end:
                self._iterate()
                self.done += 1
            if path is not None:
                write_checkpoint(path, self._state(identity))
        self.policy.network.load_state_dict(self.averaged.state_dict())
        return self.policy

    def _iterate(self) -> None:
        settings, particles, problem = self.settings, self.particles, self.policy.problem
        share = self.done / self.iterations
        ids, weights = particles.draw(settings.draws, self.generator, 0.0 if self.fixed else EXPLORE)
        instances = particles.instances[ids]
        if problem.symmetric and not problem.finite and self.policy.network.kind != "deepsets":
            instances = instances[:, torch.randperm(instances.shape[1], generator=self.generator)]
        found = roll_out(self.policy, instances, settings.roll_outs, self.generator)
        losses = found.losses.detach()
        advantages = losses - leave_one_out(losses)
        spread = max(float(advantages.std()), LEAST_SPREAD * self.size)
        loss = policy_surrogate(found, 1 / spread, weights) - settings.entropy * (1 - share) * found.entropy
        self.policy_adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.network.parameters(), CLIP)
        cooling = min(1.0, 2 * (1 - share) + 0.02)
        for group in self.policy_adam.param_groups:
            group["lr"] = cooling * group["rate"]
        self.policy_adam.step()
        self._adversary(ids, weights, instances, found)
        self._average()
        losses = losses.cpu().mean(1)
        self.history.append(
            {
                "iteration": self.done + 1,
                "loss": float((weights * losses).mean()),
                "gap": float((weights * (losses - particles.offsets[ids])).mean()),
                "entropy": float(found.entropy.detach()),
            }
        )

    def _adversary(self, ids: torch.Tensor, weights: torch.Tensor, instances: torch.Tensor, found: RollOut) -> None:
        settings, particles, problem = self.settings, self.particles, self.policy.problem
        payoffs = found.losses.detach().cpu().mean(1) - particles.offsets[ids]
        particles.observe(ids, payoffs)
        if self.fixed:
            return
        if settings.adversary == "closed":
            cooling = 1 + COOLING * max(0.0, 1 - 2 * self.done / self.iterations)
            particles.respond(self.size * settings.adversary_entropy * cooling)
        else:
            logs = particles.logits.log_softmax(0)
            centred = weights * (payoffs - payoffs.mean()) / self.size
            gain = (centred * logs[ids]).mean() - settings.adversary_entropy * (logs.exp() * logs).sum()
            self.logit_adam.zero_grad()
            (-gain).backward()
            self.logit_adam.step()
        if self.theta_adam is None:
            return
        self.theta_adam.zero_grad()
        # particles move in the units of the loss, each by the mean over its draws
        surrogate = theta_surrogate(problem, instances, found) / self.size
        (settings.barrier * particles.excess().sum() - surrogate).backward()
        self.theta_adam.step()
        box = problem.box
        with torch.no_grad():
            particles.instances.clamp_(box.low, box.high)
        if (self.done + 1) % settings.refresh == 0:
            particles.refresh(self.generator)

    @torch.no_grad()
    def _average(self) -> None:
        """The mean of the weights since ``AVERAGED_FROM``: adversarial training cycles around what it converges to."""
        first = int(AVERAGED_FROM * self.iterations)
        share = 1.0 / max(self.done - first + 1, 1)
        for mean, value in zip(self.averaged.parameters(), self.policy.network.parameters(), strict=True):
            mean.lerp_(value, share)

    def _state(self, identity: dict[str, Any]) -> dict[str, Any]:
        optimizers = [o.state_dict() for o in (self.policy_adam, self.logit_adam, self.theta_adam) if o is not None]
        return {
            "identity": identity,
            "done": self.done,
            "network": self.policy.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizers": optimizers,
            "particles": self.particles.state(),
            "generator": self.generator.get_state(),
            "history": self.history,
        }

    def _load(self, found: dict[str, Any], identity: dict[str, Any], path: Path) -> None:
        if found["identity"] != identity:
            raise InputError("state", f"{path}, a training with other options", "an empty folder")
        self.policy.network.load_state_dict(found["network"])
        self.averaged.load_state_dict(found["averaged"])
        for optimizer, state in zip(
            (self.policy_adam, self.logit_adam, self.theta_adam), found["optimizers"], strict=False
        ):
            assert optimizer is not None
            optimizer.load_state_dict(state)
        self.particles.load(found["particles"])
        self.generator.set_state(found["generator"])
        self.history = found["history"]
        self.done = found["done"]
