"""Exact solutions of small games with two-valued answers: linear programmes over realisation weights.

``form="histories"`` is the sequence form: a weight for each history and next query, and for each whole history and
output. ``form="counts"`` has one weight for each set of counts in place of all histories with these counts. It has the
same value, since the chance of a history depends on its counts only, and a policy's weights add up over histories; it
has polynomially many variables in the horizon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.papers.active_learn.classes import DifficultyClass
from paperworks.papers.active_learn.observations import Binary
from paperworks.papers.active_learn.policies import History, RandomisedPolicy
from paperworks.papers.active_learn.problem import ActiveProblem

MOST_STATES = 60_000
State = tuple[int, ...]


@dataclass(frozen=True)
class Solution:
    """An optimal policy.

    Attributes
    ----------
    value : the largest of risk minus offset. policy : attains it. risks : of each theta ``[thetas]``.
    """

    value: float
    policy: ExactPolicy
    risks: np.ndarray


class ExactPolicy(RandomisedPolicy):
    """A policy of a small game as a table of probabilities by state."""

    name = "exact"

    def __init__(
        self,
        problem: ActiveProblem,
        queries: dict[State, np.ndarray],
        outputs: dict[State, np.ndarray],
        ordered: bool,
    ) -> None:
        super().__init__(problem)
        self.queries, self.outputs, self._ordered = queries, outputs, ordered

    def _rows(self, history: History, table: dict[State, np.ndarray], width: int) -> torch.Tensor:
        uniform = np.full(width, 1 / width)  # where the policy never comes
        return torch.from_numpy(np.array([table.get(s, uniform) for s in self._states(history)]))

    def _states(self, history: History) -> list[State]:
        law = self.problem.observation
        assert isinstance(law, Binary)
        if self._ordered:
            steps = [
                (2 * x + (y > (law.low + law.high) / 2)).tolist()
                for x, y in zip(history.queries, history.answers, strict=True)
            ]
            return list(zip(*steps, strict=True)) if steps else [()] * len(history)
        highs = (history.sums - law.low * history.counts) / (law.high - law.low)
        both = torch.stack([history.counts - highs, highs], 2).round().long().flatten(1)
        return [tuple(row) for row in both.tolist()]

    def query_probabilities(self, history: History) -> torch.Tensor:
        return self._rows(history, self.queries, self.problem.n_queries)

    def output_probabilities(self, history: History) -> torch.Tensor:
        return self._rows(history, self.outputs, self.problem.n_outputs)


def solve_game(
    problem: ActiveProblem,
    classes: Sequence[DifficultyClass] | None = None,
    offsets: Sequence[float] | None = None,
    form: Literal["counts", "histories"] = "counts",
    most_states: int = MOST_STATES,
) -> Solution:
    """min over policies of the largest risk minus offset, with an optimal policy.

    Parameters
    ----------
    classes : whose instances count; None: all of the finite set. offsets : l_k* of each class, 0 by default; of an
        instance in several classes the smallest counts.

    Raises
    ------
    InputError : a box, real answers, more than ``most_states`` states, or a solver that fails.
    """
    from scipy import sparse
    from scipy.optimize import linprog

    law = problem.observation
    if not isinstance(law, Binary) or not problem.finite:
        raise InputError("problem", "real answers or a box", "a finite set and answers of two values")
    if form not in ("counts", "histories"):
        raise InputError("form", repr(form), "counts or histories")
    everyone = problem.instances()
    members = [everyone] if classes is None else [c.members for c in classes if c.members is not None]
    shifts = [0.0] * len(members) if offsets is None else list(offsets)
    if len(shifts) != len(members):
        raise InputError("offsets", len(shifts), f"{len(members)}, one for each class")
    least: dict[int, float] = {}
    for rows, shift in zip(members, shifts, strict=True):
        for i in rows.tolist():
            least[i] = min(shift, least.get(i, np.inf))
    levels = _levels(problem, form == "histories", most_states)
    chances = law.probability(problem.means(everyone)).double().numpy()
    losses = problem.losses(everyone).double().numpy()
    q, z = problem.n_queries, problem.n_outputs
    starts = np.cumsum([0, *[len(level) * q for level in levels[:-1]]])
    n_variables = int(starts[-1]) + len(levels[-1]) * z + 1
    rows_eq: list[int] = []
    cols_eq: list[int] = []
    values_eq: list[float] = []
    right: list[float] = []
    row = 0
    for depth, level in enumerate(levels):
        width = q if depth < problem.horizon else z
        for number in range(len(level)):
            own = int(starts[depth]) + number * width
            rows_eq += [row + number] * width
            cols_eq += range(own, own + width)
            values_eq += [1.0] * width
        if depth:
            for number, x, child in _children(levels[depth - 1], level, q, form == "histories"):
                rows_eq.append(row + child)
                cols_eq.append(int(starts[depth - 1]) + number * q + x)
                values_eq.append(-1.0)
        right += [1.0 if depth == 0 else 0.0] * len(level)
        row += len(level)
    who = sorted(least)
    leaf = _leaf_chances(levels[-1], chances[who], form == "histories")
    payoff = (leaf[:, :, None] * losses[who][:, None]).reshape(len(who), -1)
    upper = sparse.hstack(
        [
            sparse.csr_matrix((len(who), int(starts[-1]))),
            sparse.csr_matrix(payoff),
            sparse.csr_matrix(-np.ones((len(who), 1))),
        ]
    )
    equal = sparse.csr_matrix((values_eq, (rows_eq, cols_eq)), shape=(row, n_variables))
    cost = np.zeros(n_variables)
    cost[-1] = 1.0
    solved = linprog(
        cost,
        A_ub=upper.tocsr(),
        b_ub=[least[i] for i in who],
        A_eq=equal,
        b_eq=right,
        bounds=[(0, None)] * (n_variables - 1) + [(None, None)],
        method="highs",
    )
    if solved.status != 0:
        raise InputError("problem", f"a linear programme that was not solved ({solved.message})", "a smaller game")
    policy = _policy(problem, levels, starts, solved.x, form == "histories")
    every_leaf = _leaf_chances(levels[-1], chances, form == "histories")
    weights = solved.x[int(starts[-1]) : -1].reshape(len(levels[-1]), z)
    risks = ((every_leaf @ weights) * losses).sum(1)
    return Solution(float(solved.x[-1]), policy, risks)


def class_values(problem: ActiveProblem, classes: Sequence[DifficultyClass]) -> list[float]:
    """l_k* of each class, exactly."""
    return [solve_game(problem, [one]).value for one in classes]


def _levels(problem: ActiveProblem, ordered: bool, most: int) -> list[list[State]]:
    """The states after 0 .. T answers: counts of (query, answer), or histories of 2 x + answer."""
    width, horizon = 2 * problem.n_queries, problem.horizon
    size = sum(width**t for t in range(horizon + 1)) if ordered else math.comb(width + horizon, horizon)
    if size > most:
        raise InputError("horizon", f"{size:,} states", f"at most {most:,}: a smaller game, or a learned policy")
    levels: list[list[State]] = [[()] if ordered else [(0,) * width]]
    for _ in range(horizon):
        if ordered:
            level = [(*state, a) for state in levels[-1] for a in range(width)]
        else:
            level = list(dict.fromkeys(_plus(state, a) for state in levels[-1] for a in range(width)))
        levels.append(level)
    return levels


def _plus(state: State, a: int) -> State:
    return (*state[:a], state[a] + 1, *state[a + 1 :])


def _children(parents: list[State], level: list[State], q: int, ordered: bool) -> list[tuple[int, int, int]]:
    """(parent's number, query, child's number) of each step between two levels."""
    place = {state: number for number, state in enumerate(level)}
    return [
        (number, a // 2, place[(*state, a) if ordered else _plus(state, a)])
        for number, state in enumerate(parents)
        for a in range(2 * q)
    ]


def _leaf_chances(leaves: list[State], chances: np.ndarray, ordered: bool) -> np.ndarray:
    """P(answers | theta) of each whole history ``[thetas, leaves]``."""
    steps = np.stack([1 - chances, chances], 2).reshape(len(chances), -1)
    if ordered:
        return np.stack([steps[:, list(leaf)].prod(1) for leaf in leaves], 1)
    powers = np.array(leaves)
    return np.stack([(row[None] ** powers).prod(1) for row in steps])


def _policy(
    problem: ActiveProblem, levels: list[list[State]], starts: np.ndarray, x: np.ndarray, ordered: bool
) -> ExactPolicy:
    tables: list[dict[State, np.ndarray]] = [{}, {}]
    for depth, level in enumerate(levels):
        last = depth == problem.horizon
        width = problem.n_outputs if last else problem.n_queries
        weights = np.clip(x[int(starts[depth]) : int(starts[depth]) + len(level) * width].reshape(-1, width), 0, None)
        for state, row in zip(level, weights, strict=True):
            if row.sum() > 1e-12:
                tables[last][state] = row / row.sum()
    return ExactPolicy(problem, tables[0], tables[1], ordered)
