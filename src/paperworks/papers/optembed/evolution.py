"""The search for the dimension of every field: evolution, with the trained supernet as the judge.

::

    20 random candidates --> score all --> parents: the best 15 so far --> 10 mutations + 10 crossovers --> ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from paperworks.errors import InputError
from paperworks.runs import Progress, no_progress

Score = Callable[[tuple[int, ...]], float]
"""The validation AUC of a candidate: the dimensions of the fields."""

_TRIES = 50


@dataclass(frozen=True)
class Evolution:
    """Options of the search.

    Attributes
    ----------
    generations : rounds of scoring.
    keep, mutations, crossovers : the best that stay in a population, and children of both kinds; together they are the
        population's size.
    parents : how many of the best children come from.
    mutation_probability : with which every field of a mutated copy is drawn anew.
    """

    generations: int = 30
    keep: int = 0
    mutations: int = 10
    crossovers: int = 10
    parents: int = 15
    mutation_probability: float = 0.1

    def __post_init__(self) -> None:
        for name in ("generations", "parents"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "1 or more")
        for name in ("keep", "mutations", "crossovers"):
            if getattr(self, name) < 0:
                raise InputError(name, getattr(self, name), "0 or more")
        if self.mutations + self.crossovers < 1:
            raise InputError("mutations", 0, "mutations or crossovers: 1 or more together")
        if self.crossovers and self.parents < 2:
            raise InputError("parents", self.parents, "2 or more, for crossovers")
        if not 0 < self.mutation_probability <= 1:
            raise InputError("mutation_probability", self.mutation_probability, "above 0, up to 1")

    @property
    def population(self) -> int:
        """Candidates of one generation."""
        return self.keep + self.mutations + self.crossovers


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes
    ----------
    dimensions, score : the best candidate, and its validation AUC.
    scored : every candidate that was scored, in order, with its score and its number of parameters.
    by_generation : the best score so far, after each generation.
    """

    dimensions: tuple[int, ...]
    score: float
    scored: list[tuple[tuple[int, ...], float, int]] = field(repr=False)
    by_generation: list[float] = field(repr=False)


class Candidates:
    """Draws candidates, all within a budget of parameters.

    Parameters
    ----------
    kept_rows : rows that every field keeps, ``[n]``.
    dim : the largest dimension D.
    budget : the most parameters of a candidate (kept rows times dimension, over the fields); None for no limit.

    Raises
    ------
    InputError : naming ``budget``, below one dimension for each kept row.
    """

    def __init__(self, kept_rows: Sequence[int], dim: int, budget: int | None, rng: np.random.Generator) -> None:
        self.kept = np.asarray(kept_rows, dtype=np.int64)
        self.dim, self.budget, self.rng = dim, budget, rng
        least = int(self.kept.sum())
        if budget is not None and budget < least:
            raise InputError(
                "budget",
                f"{budget:,} parameters",
                f"{least:,} or more: one dimension for each of the rows that are kept",
            )
        self.highest = dim
        if budget is not None and least:
            # A mean dimension of budget / rows is that of a uniform draw from 1 to twice as much.
            self.highest = int(np.clip(2 * budget // least, 1, dim))

    def parameters(self, candidate: Sequence[int]) -> int:
        """Numbers in the table of a candidate."""
        return int(self.kept @ np.asarray(candidate))

    def random(self) -> tuple[int, ...]:
        """A candidate with every dimension uniform; within the budget."""
        for _ in range(_TRIES):
            drawn = self.rng.integers(1, self.highest + 1, len(self.kept))
            if self.fits(drawn):
                return tuple(drawn.tolist())
        return self.reduced(drawn)

    def fits(self, candidate: np.ndarray) -> bool:
        """Whether a candidate is within the budget."""
        return self.budget is None or self.parameters(candidate.tolist()) <= self.budget

    def reduced(self, candidate: np.ndarray) -> tuple[int, ...]:
        """A candidate with dimensions taken off at random until it fits."""
        cut = candidate.copy()
        while not self.fits(cut):
            large = np.flatnonzero((cut > 1) & (self.kept > 0))
            cut[self.rng.choice(large)] -= 1
        return tuple(cut.tolist())

    def mutated(self, parent: tuple[int, ...], probability: float) -> tuple[int, ...]:
        """A copy in which every field is drawn anew with a probability."""
        for _ in range(_TRIES):
            child = np.array(parent)
            anew = self.rng.random(len(child)) < probability
            child[anew] = self.rng.integers(1, self.dim + 1, int(anew.sum()))
            if self.fits(child):
                return tuple(child.tolist())
        return self.reduced(child)

    def crossed(self, first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
        """The fields of one parent up to a point, and of the other from there; field by field under a budget."""
        for _ in range(_TRIES):
            if self.budget is None and len(first) > 1:
                point = int(self.rng.integers(1, len(first)))
                child = np.array(first[:point] + second[point:])
            else:
                child = np.where(self.rng.random(len(first)) < 0.5, first, second)
            if self.fits(child):
                return tuple(child.tolist())
        return self.reduced(child)


def evolve(
    score: Score,
    candidates: Candidates,
    options: Evolution | None = None,
    *,
    progress: Progress = no_progress,
) -> Found:
    """The best candidate of an evolution; candidates that come again are not scored again.

    Parents are copies: a child never changes them. The best candidates of all generations are the parents of the next.
    """
    options = options or Evolution()
    rng = candidates.rng
    known: dict[tuple[int, ...], float] = {}
    by_generation: list[float] = []
    population = [candidates.random() for _ in range(options.population)]
    for _ in progress(range(options.generations), "generations of candidates", options.generations):
        for candidate in population:
            if candidate not in known:
                known[candidate] = score(candidate)
        # A stable order: of equal scores the one found first.
        best = sorted(known, key=lambda c: -known[c])
        by_generation.append(known[best[0]])
        parents = best[: options.parents]
        population = list(best[: options.keep])
        for _ in range(options.mutations):
            population.append(
                candidates.mutated(parents[int(rng.integers(len(parents)))], options.mutation_probability)
            )
        for _ in range(options.crossovers):
            pair = rng.choice(len(parents), 2, replace=len(parents) < 2)
            population.append(candidates.crossed(parents[pair[0]], parents[pair[1]]))
    scored = [(c, value, candidates.parameters(c)) for c, value in known.items()]
    return Found(best[0], known[best[0]], scored, by_generation)


def random_search(score: Score, candidates: Candidates, count: int) -> Found:
    """The best of ``count`` different random candidates: what evolution has to beat."""
    known: dict[tuple[int, ...], float] = {}
    for _ in range(100 * count):
        if len(known) == count:
            break
        candidate = candidates.random()
        if candidate not in known:
            known[candidate] = score(candidate)
    best = max(known, key=lambda c: known[c])
    return Found(best, known[best], [(c, v, candidates.parameters(c)) for c, v in known.items()], [known[best]])
