"""The two phases: the best policy of each class, then one policy that stays close to all of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.nn import resolve_device
from paperworks.papers.active_learn.adversary import Particles
from paperworks.papers.active_learn.classes import DifficultyClass, make_classes, open_under_relabelling
from paperworks.papers.active_learn.evaluation import worst_case
from paperworks.papers.active_learn.network import NetworkKind, PolicyNetwork
from paperworks.papers.active_learn.problem import ActiveProblem
from paperworks.papers.active_learn.storage import LearnedPolicy
from paperworks.papers.active_learn.training import GameSettings, GameTraining
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder, write_text

LEARNER = "learner.json"


class RobustActiveLearner:
    """Trains a policy that is close to the best policy of every class at once.

    Phase 1 finds l_k* = min over policies of the worst risk in class k, from easy to hard, each started from the one
    before. Phase 2 minimises the largest of (worst risk in class k) - l_k*, started from the middle class's policy.
    With one class this is plain minimax.

    Parameters
    ----------
    problem : the game.
    radii : r_1 < ... < r_m of the classes C(theta) <= r; by default at most ``n_classes`` from quantiles of C.
    classes : classes listed as arrays of instances, in place of radii (finite sets only).
    network, hidden : form and widths of the policy network; ``auto`` is deepsets for best arm, else mlp.
    iterations, robust_iterations : of each class's training, and of phase 2.
    settings : of the trainings.
    n_rollouts : behind each l_k*; fewer than 10,000 make the gaps noisy.

    Attributes
    ----------
    classes_, class_policies_ : the classes and their policies. class_values_, class_stderrs_ : l_k* by a fresh
    adversary, with standard errors. policy_ : the robust policy. history_ : loss, gap and entropy by phase and
    iteration. notes_ : what a user should know about the result.
    """

    classes_: list[DifficultyClass]
    class_policies_: list[LearnedPolicy]
    class_values_: list[float]
    class_stderrs_: list[float]
    policy_: LearnedPolicy
    history_: list[dict[str, float | str]]
    notes_: list[str]

    def __init__(
        self,
        problem: ActiveProblem,
        radii: Sequence[float] | None = None,
        *,
        classes: Sequence[ArrayLike] | None = None,
        n_classes: int = 5,
        network: NetworkKind = "auto",
        hidden: tuple[int, ...] = (256, 256, 256),
        iterations: int = 3000,
        robust_iterations: int = 6000,
        settings: GameSettings | None = None,
        n_rollouts: int = 10_000,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        check_seed("seed", seed)
        for name, value in (("iterations", iterations), ("robust_iterations", robust_iterations)):
            if value < 1:
                raise InputError(name, value, "at least 1")
        self.problem, self.radii, self.listed = problem, radii, classes
        self.n_classes, self.network, self.hidden = n_classes, network, tuple(hidden)
        self.iterations, self.robust_iterations = iterations, robust_iterations
        self.settings = settings or GameSettings()
        self.n_rollouts, self.seed, self.device = n_rollouts, seed, device

    def fit(self, state: Path | None = None, progress: Progress = no_progress) -> Self:
        """Both phases. With a folder ``state`` the training goes on from what an earlier attempt left there."""
        problem = self.problem
        self.classes_ = make_classes(problem, self.radii, self.listed, self.n_classes, self.seed)
        self.class_policies_, self.class_values_, self.class_stderrs_ = [], [], []
        self.history_, self.notes_ = [], []
        self.notes_ += [
            f"{one.name}: relabelling the arms leaves the class. A policy may learn which labels are good; list all "
            "permutations if labels mean nothing."
            for one in self.classes_
            if open_under_relabelling(problem, one)
        ]
        network = new_network(problem, self.network, self.hidden, self.seed, self.device)
        for k, one in enumerate(self.classes_):
            network = copy.deepcopy(network)
            if k:
                network.soften()
            policy = LearnedPolicy(problem, network)
            self._train(policy, [one], [0.0], self.iterations, f"class-{k + 1}", one.name, state, progress)
            value, stderr = self._value(policy, k, one, state, progress)
            self.class_policies_.append(policy)
            self.class_values_.append(value)
            self.class_stderrs_.append(stderr)
            self._warn(one, value, stderr)
        if len(self.classes_) == 1:
            self.policy_ = self.class_policies_[0]
            return self
        start = self.class_policies_[len(self.classes_) // 2]
        self.policy_ = LearnedPolicy(problem, copy.deepcopy(start.network))
        self.policy_.network.soften()
        self._train(
            self.policy_, self.classes_, self.offsets, self.robust_iterations, "robust", "robust", state, progress
        )
        return self

    @property
    def offsets(self) -> list[float]:
        """l_k* as phase 2 uses them: of nested classes not less than that of an easier one."""
        if self.listed is not None:
            return list(self.class_values_)
        return [float(v) for v in np.maximum.accumulate(self.class_values_)]

    def _train(
        self,
        policy: LearnedPolicy,
        classes: list[DifficultyClass],
        offsets: list[float],
        iterations: int,
        phase: str,
        what: str,
        state: Path | None,
        progress: Progress,
    ) -> None:
        seed = int(np.random.SeedSequence([self.seed, *phase.encode()]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        particles = Particles.of(self.problem, classes, offsets, self.settings.particles, generator)
        training = GameTraining(policy, particles, self.settings, iterations, seed)
        path = None if state is None else state / f"{phase}.pt"
        training.run(path, progress, f"training against {what}" if what != "robust" else "training against all classes")
        self.history_ += [{"phase": phase, **row} for row in training.history]

    def _value(
        self, policy: LearnedPolicy, k: int, one: DifficultyClass, state: Path | None, progress: Progress
    ) -> tuple[float, float]:
        path = None if state is None else state / f"value-{k + 1}.json"
        if path is not None and path.exists():
            value, stderr = json.loads(path.read_text(encoding="utf-8"))
            return value, stderr
        seed = self.seed + 7919 * (k + 1)
        found = worst_case(policy, one, n_rollouts=self.n_rollouts, seed=seed, progress=progress)
        if path is not None:
            write_text(path, json.dumps([found.risk.estimate, found.stderr]))
        return found.risk.estimate, found.stderr

    def _warn(self, one: DifficultyClass, value: float, stderr: float) -> None:
        members = one.draw(self.problem, 200, torch.Generator().manual_seed(self.seed))
        guess = constant_guess(self.problem, members)
        if value >= guess - 2 * max(stderr, 1e-12) and guess > 0:
            self.notes_.append(
                f"{one.name}: the best risk found, {value:.3f}, is not below that of a guess without any query "
                f"({guess:.3f}). {self.problem.horizon} queries are too few for this class, or the training was too "
                "short."
            )

    def save(self, folder: str | Path) -> Path:
        """Write the policies, the values and the history to a new or empty folder."""
        with new_folder(Path(folder)) as out:
            self.policy_.save(out / "policy")
            for k, policy in enumerate(self.class_policies_):
                policy.save(out / f"class-{k + 1}")
            content = {
                "options": {
                    "radii": None if self.radii is None else [float(r) for r in self.radii],
                    "n_classes": self.n_classes,
                    "network": self.network,
                    "hidden": list(self.hidden),
                    "iterations": self.iterations,
                    "robust_iterations": self.robust_iterations,
                    "n_rollouts": self.n_rollouts,
                    "seed": self.seed,
                    "settings": asdict(self.settings),
                },
                "listed": self.listed is not None,
                "classes": [
                    {"name": c.name, "radius": c.radius, "members": None if c.members is None else c.members.tolist()}
                    for c in self.classes_
                ],
                "values": self.class_values_,
                "stderrs": self.class_stderrs_,
                "history": self.history_,
                "notes": self.notes_,
            }
            (out / LEARNER).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote. Raises InputError naming ``folder`` where it is not one."""
        source = Path(folder).expanduser()
        policy = LearnedPolicy.load(source / "policy")
        try:
            found: dict[str, Any] = json.loads((source / LEARNER).read_text(encoding="utf-8"))
            options = dict(found["options"])
            settings = GameSettings(**options.pop("settings"))
            rows = [
                DifficultyClass(c["name"], c["radius"], None if c["members"] is None else torch.tensor(c["members"]))
                for c in found["classes"]
            ]
            learner = cls(
                policy.problem,
                classes=[c.members for c in rows if c.members is not None] if found["listed"] else None,
                settings=settings,
                **{**options, "hidden": tuple(options["hidden"])},
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError("folder", f"{source} ({error})", "the folder of a saved learner") from None
        learner.classes_, learner.policy_ = rows, policy
        learner.class_policies_ = [LearnedPolicy.load(source / f"class-{k + 1}") for k in range(len(rows))]
        learner.class_values_, learner.class_stderrs_ = found["values"], found["stderrs"]
        learner.history_, learner.notes_ = found["history"], found["notes"]
        return learner


def new_network(
    problem: ActiveProblem, kind: NetworkKind, hidden: tuple[int, ...], seed: int, device: str = "cpu"
) -> PolicyNetwork:
    """A network with weights that the seed decides; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PolicyNetwork.for_problem(problem, kind, hidden)
    return network.to(resolve_device(device))


def fixed_prior_policy(
    problem: ActiveProblem,
    prior: ArrayLike | torch.Tensor | None = None,
    instances: torch.Tensor | None = None,
    *,
    network: NetworkKind = "auto",
    hidden: tuple[int, ...] = (256, 256, 256),
    iterations: int = 3000,
    settings: GameSettings | None = None,
    seed: int = 0,
    device: str = "cpu",
    path: Path | None = None,
    progress: Progress = no_progress,
) -> LearnedPolicy:
    """The baseline of Bayesian meta-learning: the same network trained for the mean risk under a fixed prior.

    Parameters
    ----------
    prior : weights ``[n]`` of the instances; None: all alike. instances : None: all of a finite set.
    path : file of the checkpoint.
    """
    check_seed("seed", seed)
    rows = problem.instances() if instances is None else instances
    weights = np.ones(len(rows)) if prior is None else np.asarray(prior, dtype=np.float64)
    if weights.shape != (len(rows),) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise InputError("prior", f"shape {weights.shape}", f"{len(rows)} weights of 0 or more, one above 0")
    policy = LearnedPolicy(problem, new_network(problem, network, hidden, seed, device))
    policy.name = "fixed prior"
    n = len(rows)
    particles = Particles(
        problem,
        [],
        rows.clone() if problem.finite else rows.clone().requires_grad_(True),
        torch.zeros(n),
        torch.zeros(n, dtype=torch.int64),
        torch.from_numpy(np.log(np.maximum(weights / weights.sum(), 1e-30))).float().requires_grad_(True),
        torch.zeros(n),
    )
    if problem.finite and n == len(problem.thetas):
        with torch.no_grad():
            policy.network.log_prior.add_(particles.logits.detach())
    training = GameTraining(policy, particles, replace(settings or GameSettings()), iterations, seed, fixed=True)
    return training.run(path, progress, "training for a fixed prior")


def constant_guess(problem: ActiveProblem, instances: torch.Tensor) -> float:
    """The least worst risk of an output drawn without any query, by a linear programme over output probabilities."""
    from scipy.optimize import linprog

    losses = problem.losses(instances).double().numpy()
    z = losses.shape[1]
    solved = linprog(
        np.r_[np.zeros(z), 1.0],
        A_ub=np.c_[losses, -np.ones(len(losses))],
        b_ub=np.zeros(len(losses)),
        A_eq=np.r_[np.ones(z), 0.0][None],
        b_eq=[1.0],
        bounds=[(0, None)] * z + [(None, None)],
        method="highs",
    )
    return float(solved.fun)
