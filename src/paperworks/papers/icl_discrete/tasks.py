"""The function classes of the paper: how functions, inputs and prompts are drawn.

A prompt is a random function with m labelled points. Inputs are uniform; with probability q a point is *planted*: the
bits of a clause are overwritten so that the label is the one that uniform inputs hardly ever give. In teaching tasks
the first points are the function's teaching sequence, in order.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from paperworks.errors import InputError, nearest
from paperworks.papers.icl_discrete.classes import SPARSE, TASKS, TaskClass, class_size
from paperworks.papers.icl_discrete.functions import (
    Bits,
    BooleanFunction,
    Formulas,
    Functions,
    Joined,
    NearestNeighbours,
    nearest_neighbour_labels,
)
from paperworks.papers.icl_discrete.teaching import teaching_points


@dataclass(frozen=True)
class Prompts:
    """A batch of prompts.

    Attributes
    ----------
    xs : int8 ``[B, m, n]`` of -1 and +1.
    ys : int8 ``[B, m]``, the labels.
    functions : the B functions.
    taught : points of the teaching sequence in front of each prompt, int64 ``[B]``; 0 where there is none.
    start : positions before this one have random labels and are not scored (nearest neighbours).
    """

    xs: Bits
    ys: Bits
    functions: Functions
    taught: np.ndarray
    start: int = 0

    def __len__(self) -> int:
        return len(self.xs)


@dataclass(frozen=True)
class BooleanTask:
    """A class of Boolean functions with its distribution of functions and inputs.

    Attributes
    ----------
    name : a key of ``TASKS``.
    n_dims : bits of an input.
    literals : probability that a bit takes part in a clause; None is the paper's (0.3, DNF and CNF 0.2).
    planted : probability that a point is planted; None is the paper's (0.3, DNF 0.35, teaching 0.4).
    relevant : bits of a sparse class; None is the paper's (2 for parities, 4 for disjunctions, 3 for halfspaces).
    clauses : clauses of DNF and CNF.
    start : randomly labelled points of the nearest-neighbour task.
    teach_share : share of the prompts that begin with the teaching sequence, for teaching tasks.
    bit_probability : probability of +1 of an input bit; the paper's is 0.5. Others shift the inputs.
    pool : functions in a fixed pool that prompts draw from (with replacement); 0 draws every function anew.
    pool_seed : seed of the pool.
    """

    name: str
    n_dims: int = 8
    literals: float | None = None
    planted: float | None = None
    relevant: int | None = None
    clauses: int = 3
    start: int = 10
    teach_share: float = 1.0
    bit_probability: float = 0.5
    pool: int = 0
    pool_seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in TASKS:
            raise InputError("task", repr(self.name), f"one of {', '.join(TASKS)}{nearest(self.name, TASKS)}")
        for name in ("n_dims", "clauses", "start"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "1 or more")
        for name in ("literals", "planted", "teach_share", "bit_probability"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InputError(name, value, "a probability from 0 to 1")
        if self.relevant is not None and self.relevant < 1:
            raise InputError("relevant", self.relevant, "1 or more")
        if self.pool < 0:
            raise InputError("pool", self.pool, "0 or more functions")
        if self.name in SPARSE and self.sparsity > self.n_dims:
            raise InputError("n_dims", self.n_dims, f"at least the {self.sparsity} relevant bits of {self.name}")

    @property
    def kind(self) -> TaskClass:
        """The class's entry of ``TASKS``."""
        return TASKS[self.name]

    @property
    def literal_probability(self) -> float:
        """Probability that a bit takes part in a clause."""
        return self.kind.literals if self.literals is None else self.literals

    @property
    def planting(self) -> float:
        """Probability that a point is planted."""
        return self.kind.planted if self.planted is None else self.planted

    @property
    def sparsity(self) -> int:
        """Relevant bits of a sparse class."""
        return SPARSE.get(self.name, 2) if self.relevant is None else self.relevant

    @property
    def first_scored(self) -> int:
        """The first position whose label follows a rule."""
        return self.start if self.name == "nearest_neighbours" else 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content, which ``from_dict`` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> BooleanTask:
        """Read back ``to_dict``."""
        known = {f.name for f in fields(cls)}
        strange = sorted(set(data) - known)
        if strange:
            raise InputError("task", f"unknown field {strange[0]!r}", f"fields among {', '.join(sorted(known))}")
        return cls(**data)

    def draw_functions(self, batch: int, seed: int | np.random.Generator) -> Functions:
        """``batch`` random functions (nearest neighbours have none of their own: they come with ``sample``)."""
        rng = np.random.default_rng(seed)
        if self.pool:
            members = self.kind.draw(self, self.pool, np.random.default_rng(self.pool_seed))
            return members.take(rng.integers(self.pool, size=batch))
        return self.kind.draw(self, batch, rng)

    def sample(self, batch: int, n_points: int, seed: int | np.random.Generator) -> Prompts:
        """Draw prompts, each with a function of its own.

        Raises InputError for fewer than one prompt or point, and where a teaching sequence has more points.
        """
        for name, value in (("batch", batch), ("n_points", n_points)):
            if value < 1:
                raise InputError(name, value, "1 or more")
        rng = np.random.default_rng(seed)
        if self.name == "nearest_neighbours":
            return self._sample_nearest(batch, n_points, rng)
        functions = self.draw_functions(batch, rng)
        xs = self._uniform(batch, n_points, rng)
        targets = planted_values(functions)
        if self.planting and targets is not None:
            chosen = targets[np.arange(batch), rng.integers(targets.shape[1], size=batch)][:, None, :]
            planted = rng.random((batch, n_points, 1)) < self.planting
            xs = np.where(planted & (chosen != 0), chosen, xs).astype(np.int8)
        taught = np.zeros(batch, np.int64)
        if self.kind.teaching:
            self._teach(functions, xs, taught, rng)
        return Prompts(xs, functions.labels(xs), functions, taught)

    def teaching_sequence(self, function: BooleanFunction) -> Bits:
        """The function's teaching sequence, int8 ``[t, n]``, in order."""
        return teaching_points(function.functions, monotone=_is_monotone(self, function.functions))[0]

    def enumerate(self, limit: int = 100_000) -> tuple[Functions, np.ndarray]:
        """All functions of the class that have a probability, and the logarithms of those, float64 ``[H]``.

        Raises InputError for a class that is not finite, or with more than ``limit`` functions.
        """
        if self.kind.enumerate is None:
            raise InputError("task", self.name, "a class with finitely many functions that are drawn independently")
        count = class_size(self)
        if count > limit:
            raise InputError("n_dims", f"{self.n_dims}, with {count:,} functions", f"at most {limit:,} functions")
        functions, log_prior = self.kind.enumerate(self)
        possible = np.isfinite(log_prior)
        return functions.take(np.flatnonzero(possible)), log_prior[possible]

    def _uniform(self, batch: int, n_points: int, rng: np.random.Generator) -> Bits:
        if self.bit_probability == 0.5:
            return (rng.integers(2, size=(batch, n_points, self.n_dims), dtype=np.int8) * 2 - 1).astype(np.int8)
        return np.where(rng.random((batch, n_points, self.n_dims)) < self.bit_probability, 1, -1).astype(np.int8)

    def _sample_nearest(self, batch: int, n_points: int, rng: np.random.Generator) -> Prompts:
        if n_points <= self.start:
            raise InputError("n_points", n_points, f"more than the {self.start} points with random labels (start)")
        xs = self._uniform(batch, n_points, rng)
        first = np.where(rng.random((batch, self.start)) < 0.5, 1, -1).astype(np.int8)
        ys = nearest_neighbour_labels(xs, first)
        return Prompts(xs, ys, NearestNeighbours(xs, ys), np.zeros(batch, np.int64), self.start)

    def _teach(self, functions: Functions, xs: Bits, taught: np.ndarray, rng: np.random.Generator) -> None:
        """Put the teaching sequences in front, in place."""
        with_teacher = rng.random(len(xs)) < self.teach_share
        for row, points in enumerate(teaching_points(functions, monotone=_is_monotone(self, functions))):
            if not with_teacher[row]:
                continue
            if len(points) > xs.shape[1]:
                raise InputError(
                    "n_points", xs.shape[1], f"at least {len(points)}, the teaching sequence of {functions[row]}"
                )
            xs[row, : len(points)] = points
            taught[row] = len(points)


@dataclass(frozen=True)
class MixedTask:
    """Prompts of several classes, equally many of each (the first classes get what is left over)."""

    tasks: tuple[BooleanTask, ...]

    def __post_init__(self) -> None:
        if not self.tasks:
            raise InputError("tasks", "none", "at least one task")
        if len({t.n_dims for t in self.tasks}) > 1:
            raise InputError("tasks", f"inputs of {sorted({t.n_dims for t in self.tasks})} bits", "one number of bits")
        if any(t.first_scored for t in self.tasks):
            raise InputError("tasks", "nearest_neighbours among others", "classes that are scored from the first point")

    @property
    def name(self) -> str:
        """The names of the classes."""
        return " + ".join(t.name for t in self.tasks)

    @property
    def n_dims(self) -> int:
        """Bits of an input."""
        return self.tasks[0].n_dims

    @property
    def first_scored(self) -> int:
        """Every position is scored."""
        return 0

    def sample(self, batch: int, n_points: int, seed: int | np.random.Generator) -> Prompts:
        """As ``BooleanTask.sample``; prompts of one class stand together."""
        if batch < len(self.tasks):
            raise InputError("batch", batch, f"at least one prompt for each of the {len(self.tasks)} classes")
        rng = np.random.default_rng(seed)
        sizes = [batch // len(self.tasks) + (i < batch % len(self.tasks)) for i in range(len(self.tasks))]
        parts = [t.sample(size, n_points, rng) for t, size in zip(self.tasks, sizes, strict=True)]
        return Prompts(
            np.concatenate([p.xs for p in parts]),
            np.concatenate([p.ys for p in parts]),
            Joined(tuple(p.functions for p in parts)),
            np.concatenate([p.taught for p in parts]),
        )


def planted_values(functions: Functions) -> np.ndarray | None:
    """What planting writes for each clause, int8 ``[B, C, n]`` (0 leaves a bit as it is); None for other classes."""
    if not isinstance(functions, Formulas):
        return None
    return functions.weights if functions.kind == "dnf" else -functions.weights


def sparse_parity_pool(n_dims: int, relevant: int = 2) -> int:
    """The paper's pool size: about half of all sparse parities, so that unseen functions remain."""
    return math.comb(n_dims, relevant) // 2 + 1


def _is_monotone(task: BooleanTask, functions: Functions) -> bool:
    if task.kind.teaching:
        return task.kind.monotone
    several = isinstance(functions, Formulas) and functions.weights.shape[1] > 1
    return several or task.kind.monotone
