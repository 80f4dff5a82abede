"""Classes of instances by difficulty: Theta_r = {theta : C(theta) <= r}, nested in r."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.papers.active_learn.designs import Design, arms_values, complexity_design, linear_complexities
from paperworks.papers.active_learn.problem import ActiveProblem
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

TOGETHER = 32
"""Instances whose designs are computed at once; a run can be stopped between."""
MOST_ROUNDS = 200
"""Rounds of drawing from a box before a class counts as empty."""


@dataclass(frozen=True)
class DifficultyClass:
    """Instances that a policy is held to together.

    Attributes
    ----------
    name : for people.
    radius : r; None for a class that was listed.
    members : all instances ``[n]`` of a finite class; None for a class of a box.
    """

    name: str
    radius: float | None
    members: torch.Tensor | None

    def draw(
        self, problem: ActiveProblem, n: int, generator: torch.Generator, progress: Progress = no_progress
    ) -> torch.Tensor:
        """n random instances; of a finite class at most its members, each once."""
        if self.members is None:
            assert self.radius is not None
            return sample_class(problem, self.radius, n, generator, progress)
        return self.members[torch.randperm(len(self.members), generator=generator)[:n]]


def complexities(problem: ActiveProblem, instances: torch.Tensor, progress: Progress = no_progress) -> np.ndarray:
    """C of each instance ``[n]``."""
    if problem.arms and not problem.finite and problem.link is None:
        return problem.scale * arms_values(instances.detach().double().numpy())
    blocks = torch.split(instances, TOGETHER)
    found = [designs(problem, block) for block in progress(blocks, "computing complexities", len(blocks))]
    return np.array([design.value for block in found for design in block])


def designs(problem: ActiveProblem, instances: torch.Tensor) -> list[Design]:
    """The optimal design of each instance."""
    if problem.finite:
        return [complexity_design(problem, int(i)) for i in instances]
    if problem.link is None and problem.outputs is not None:
        return linear_complexities(problem, instances.detach().double().numpy())
    return [complexity_design(problem, row) for row in instances.double().numpy()]


def make_classes(
    problem: ActiveProblem,
    radii: Sequence[float] | None = None,
    members: Sequence[ArrayLike] | None = None,
    count: int = 5,
    seed: int = 0,
) -> list[DifficultyClass]:
    """The classes of a game, from easy to hard.

    Parameters
    ----------
    radii : r_1 < ... < r_m; by default ``default_radii(problem, count)``. Of a finite set the first may be 0: C is 0
        where an output that is best is right for all others, too.
    members : listed classes in place of radii: arrays of instances (finite sets only).

    Raises
    ------
    InputError : radii that do not increase, a class without an instance.
    """
    check_seed("seed", seed)
    if members is not None:
        if radii is not None:
            raise InputError("radii", "radii beside listed classes", "one of the two")
        if not problem.finite or not len(members):
            raise InputError("classes", "listed classes of a box, or none", "lists of instances of a finite set")
        return [DifficultyClass(f"class {k + 1}", None, problem.instances(m)) for k, m in enumerate(members)]
    chosen = default_radii(problem, count, seed) if radii is None else [float(r) for r in radii]
    if not chosen or any(b <= a for a, b in pairwise(chosen)) or chosen[0] < 0 or not (chosen[0] or problem.finite):
        raise InputError("radii", str(chosen), "numbers above 0 that increase")
    names = _names(chosen)
    if not problem.finite:
        found = [DifficultyClass(name, r, None) for name, r in zip(names, chosen, strict=True)]
        for one in found[:1]:
            one.draw(problem, 1, torch.Generator().manual_seed(seed))
        return found
    values = complexities(problem, problem.instances())
    classes = []
    for name, r in zip(names, chosen, strict=True):
        inside = torch.from_numpy(np.flatnonzero(values <= r * (1 + 1e-9)))
        if len(inside) == 0:
            raise InputError("radii", f"{r:g}, a class without an instance", f"radii from {values.min():.4g} on")
        classes.append(DifficultyClass(name, r, inside))
    return classes


def _names(radii: Sequence[float]) -> list[str]:
    """What the classes are called: radii in three digits, or in as many as tell them apart."""
    for digits in range(3, 17):
        names = [f"C <= {r:.{digits}g}" for r in radii]
        if len(set(names)) == len(names):
            break
    return names


def open_under_relabelling(problem: ActiveProblem, one: DifficultyClass) -> bool:
    """Whether a finite class of a symmetric game lacks a relabelling of a member: policies could learn labels."""
    if not problem.symmetric or one.members is None:
        return False
    rows = [tuple(row) for row in problem.thetas[one.members].tolist()]
    known = set(rows)
    swaps = range(len(rows[0]) - 1)
    return any((*row[:i], row[i + 1], row[i], *row[i + 2 :]) not in known for row in known for i in swaps)


def default_radii(problem: ActiveProblem, count: int = 5, seed: int = 0) -> list[float]:
    """At most ``count`` radii, between quantiles of C: the hardest class has all members of a finite set.

    Of a box they are those of uniform draws, from the 10th to the 90th percentile.
    """
    check_seed("seed", seed)
    if count < 1:
        raise InputError("n_classes", count, "at least 1")
    if problem.finite:
        values = complexities(problem, problem.instances())
        values = np.sort(values[np.isfinite(values)])
        if len(values) == 0:
            raise InputError("theta_set", "a set in which C is infinite for all", "instances with one best output")
        if not values.any():
            raise InputError("theta_set", "one output that is right for all: C is 0", "some with another best output")
        cut = np.linspace(1 / count, 1, count)
    else:
        generator = torch.Generator().manual_seed(seed)
        values = complexities(problem, uniform_in_box(problem, 200, generator))
        values = values[np.isfinite(values)]
        cut = np.linspace(0.1, 0.9, count) if count > 1 else np.array([0.5])
    radii = np.quantile(values, cut, method="inverted_cdf")
    # 9 decimals, of radii below 1 as many digits more: a class keeps the member that its radius is the complexity of
    decimals = 9 - np.floor(np.log10(np.clip(radii, 1e-300, 1))).astype(int)
    return sorted({round(float(r), int(n)) for r, n in zip(radii, decimals, strict=True)})


def uniform_in_box(problem: ActiveProblem, n: int, generator: torch.Generator) -> torch.Tensor:
    """n uniform draws from the box ``[n, d]``."""
    box = problem.box
    return box.low + (box.high - box.low) * torch.rand(n, problem.queries.shape[1], generator=generator)


def sample_class(
    problem: ActiveProblem, radius: float, n: int, generator: torch.Generator, progress: Progress = no_progress
) -> torch.Tensor:
    """n random instances with C(theta) <= radius.

    Of a box: a uniform draw whose distance from the box's middle is scaled so that C is the radius, for half of the
    draws, or less. C(middle + c (theta - middle)) is C(theta) / c^2 where the middle is 0 or all outputs have the same
    sum; draws for which it is not are left out. Of a finite set: members drawn with replacement.

    Raises InputError where no instance is found.
    """
    if not radius > 0:
        raise InputError("r", radius, "a number above 0")
    if problem.finite:
        values = complexities(problem, problem.instances())
        inside = torch.from_numpy(np.flatnonzero(values <= radius * (1 + 1e-9)))
        if len(inside) == 0:
            raise InputError("r", radius, f"at least {values.min():.4g}, the complexity of the easiest instance")
        return inside[torch.randint(len(inside), (n,), generator=generator)]
    found = torch.zeros(0, problem.queries.shape[1])
    for _ in range(MOST_ROUNDS):
        rows = uniform_in_box(problem, max(n, 8), generator)
        share = torch.rand(len(rows), generator=generator)
        targets = radius * torch.where(share < 0.5, 1.0, ((share - 0.5) * 2).clamp(min=1e-9))
        values = complexities(problem, rows, progress)
        scaled, fits = scale_rows(problem, rows, values, targets.double().numpy(), progress)
        # no room in the box for one that easy: on the class's edge
        edge, there = scale_rows(problem, rows, values, np.full(len(rows), radius), progress)
        rows = torch.where(torch.from_numpy(fits)[:, None], scaled, edge)
        found = torch.cat([found, rows[torch.from_numpy(fits | there)]])
        if len(found) >= n:
            return found[:n]
    if len(found) == 0:
        raise InputError("r", radius, "a radius that some theta of the box has: all that were drawn are harder")
    return found[torch.randint(len(found), (n,), generator=generator)]


def scale_rows(
    problem: ActiveProblem,
    rows: torch.Tensor,
    values: np.ndarray,
    targets: np.ndarray,
    progress: Progress = no_progress,
) -> tuple[torch.Tensor, np.ndarray]:
    """Rows of theta moved away from, or towards, the box's middle so that C becomes its target.

    Parameters
    ----------
    rows : ``[n, d]``. values : their C. targets : ``[n]``.

    Returns
    -------
    The moved rows, and which of them are in the box with C at most the target ``[n]``.
    """
    box = problem.box
    usable = np.isfinite(values)
    factor = np.sqrt(np.where(usable, values, 1.0) / targets) * (1 + 1e-6)
    moved = box.middle + torch.from_numpy(factor).float()[:, None] * (rows - box.middle)
    inside = ((moved >= box.low - 1e-6) & (moved <= box.high + 1e-6)).all(1).numpy() & usable
    moved = moved.clamp(box.low, box.high)
    good = np.flatnonzero(inside)
    if len(good):
        inside[good] = complexities(problem, moved[torch.from_numpy(good)], progress) <= targets[good] * (1 + 1e-4)
    return moved, inside
