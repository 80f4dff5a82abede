"""The 19 classes: their defaults, how a function is drawn, and the list of all functions where it is finite."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.icl_discrete.functions import Formulas, Functions, Parities, Thresholds

if TYPE_CHECKING:
    from paperworks.papers.icl_discrete.tasks import BooleanTask


@dataclass(frozen=True)
class TaskClass:
    """What distinguishes one class: its defaults, how its functions are drawn, and which points are planted."""

    title: str
    draw: Callable[[BooleanTask, int, np.random.Generator], Functions]
    enumerate: Callable[[BooleanTask], tuple[Functions, np.ndarray]] | None = None
    literals: float = 0.0
    planted: float = 0.0
    teaching: bool = False
    monotone: bool = False


# -- functions at random ----------------------------------------------------------------------------------------------


def _clauses(task: BooleanTask, batch: int, clauses: int, monotone: bool, rng: np.random.Generator) -> np.ndarray:
    shape = (batch, clauses, task.n_dims)
    present = rng.random(shape) < task.literal_probability
    signs = np.ones(shape, np.int8) if monotone else np.where(rng.random(shape) < 0.5, 1, -1)
    return (present * signs).astype(np.int8)


def _draw_formula(kind: Any, many: bool = False, monotone: bool = False) -> Callable[..., Functions]:
    def draw(task: BooleanTask, batch: int, rng: np.random.Generator) -> Functions:
        return Formulas(_clauses(task, batch, task.clauses if many else 1, monotone, rng), kind)

    return draw


def _subsets(task: BooleanTask, batch: int, rng: np.random.Generator) -> np.ndarray:
    order = rng.random((batch, task.n_dims)).argsort(1).argsort(1)
    return order < task.sparsity


def _draw_sparse_disjunction(task: BooleanTask, batch: int, rng: np.random.Generator) -> Functions:
    return Formulas(_subsets(task, batch, rng).astype(np.int8)[:, None, :], "cnf")


def _draw_majority(task: BooleanTask, batch: int, rng: np.random.Generator) -> Functions:
    weights = (rng.random((batch, task.n_dims)) < task.literal_probability).astype(np.float64)
    return Thresholds(weights, np.full(batch, 0.5))


def _draw_full_majority(task: BooleanTask, batch: int, rng: np.random.Generator) -> Functions:
    return Thresholds(np.where(rng.random((batch, task.n_dims)) < 0.5, 1.0, -1.0), np.full(batch, 0.5))


def _draw_zero_one_threshold(task: BooleanTask, batch: int, rng: np.random.Generator) -> Functions:
    weights = _clauses(task, batch, 1, False, rng)[:, 0].astype(np.float64)
    return Thresholds(weights, rng.integers(6, size=batch) - 2.5)


def _draw_integer_halfspace(task: BooleanTask, batch: int, rng: np.random.Generator) -> Functions:
    return Thresholds(rng.integers(-3, 4, size=(batch, task.n_dims)).astype(np.float64), np.full(batch, 0.5))


def _draw_halfspace(task: BooleanTask, batch: int, rng: np.random.Generator) -> Functions:
    return Thresholds(rng.standard_normal((batch, task.n_dims)), np.zeros(batch))


def _draw_sparse_halfspace(task: BooleanTask, batch: int, rng: np.random.Generator) -> Functions:
    return Thresholds(rng.standard_normal((batch, task.n_dims)) * _subsets(task, batch, rng), np.zeros(batch))


def _draw_parity(task: BooleanTask, batch: int, rng: np.random.Generator) -> Functions:
    return Parities(rng.random((batch, task.n_dims)) < 0.5)


def _draw_sparse_parity(task: BooleanTask, batch: int, rng: np.random.Generator) -> Functions:
    return Parities(_subsets(task, batch, rng))


def _no_functions(task: BooleanTask, batch: int, rng: np.random.Generator) -> Functions:
    raise InputError("task", task.name, "sample(), since its functions come with their points")


# -- all functions ----------------------------------------------------------------------------------------------------


def _grid(values: tuple[int, ...], n: int) -> np.ndarray:
    axes: list[np.ndarray] = list(np.meshgrid(*[np.array(values, np.int8)] * n, indexing="ij"))
    return np.stack(axes, axis=-1).reshape(-1, n)


def _all_subsets(task: BooleanTask) -> np.ndarray:
    chosen = list(itertools.combinations(range(task.n_dims), task.sparsity))
    out = np.zeros((len(chosen), task.n_dims), bool)
    out[np.arange(len(chosen))[:, None], np.array(chosen)] = True
    return out


def _log_literals(task: BooleanTask, weights: np.ndarray, monotone: bool) -> np.ndarray:
    p = task.literal_probability
    with np.errstate(divide="ignore"):
        present, absent = np.log(p if monotone else p / 2), np.log(1 - p)
    logs = np.full(weights.shape, float(absent))
    logs[weights != 0] = float(present)
    return logs.reshape(len(weights), -1).sum(1)


def _all_formulas(kind: Any, many: bool = False, monotone: bool = False) -> Callable[..., tuple[Functions, np.ndarray]]:
    def every(task: BooleanTask) -> tuple[Functions, np.ndarray]:
        clauses = task.clauses if many else 1
        grid = _grid((0, 1) if monotone else (-1, 0, 1), clauses * task.n_dims)
        weights = grid.reshape(-1, clauses, task.n_dims)
        return Formulas(weights, kind), _log_literals(task, weights, monotone)

    return every


def _equal(functions: Functions) -> tuple[Functions, np.ndarray]:
    return functions, np.full(len(functions), -np.log(len(functions)))


def _all_majorities(task: BooleanTask) -> tuple[Functions, np.ndarray]:
    weights = _grid((0, 1), task.n_dims)
    return Thresholds(weights.astype(np.float64), np.full(len(weights), 0.5)), _log_literals(task, weights, True)


def _all_thresholds(task: BooleanTask) -> tuple[Functions, np.ndarray]:
    grid = _grid((-1, 0, 1), task.n_dims)
    weights = np.repeat(grid, 6, axis=0)
    biases = np.tile(np.arange(6) - 2.5, len(grid))
    return Thresholds(weights.astype(np.float64), biases), _log_literals(task, weights, False) - np.log(6)


def _all_halfspaces(values: tuple[int, ...]) -> Callable[..., tuple[Functions, np.ndarray]]:
    def every(task: BooleanTask) -> tuple[Functions, np.ndarray]:
        weights = _grid(values, task.n_dims).astype(np.float64)
        return _equal(Thresholds(weights, np.full(len(weights), 0.5)))

    return every


def _all_parities(task: BooleanTask) -> tuple[Functions, np.ndarray]:
    return _equal(Parities(_grid((0, 1), task.n_dims).astype(bool)))


def _all_sparse_parities(task: BooleanTask) -> tuple[Functions, np.ndarray]:
    return _equal(Parities(_all_subsets(task)))


def _all_sparse_disjunctions(task: BooleanTask) -> tuple[Functions, np.ndarray]:
    return _equal(Formulas(_all_subsets(task).astype(np.int8)[:, None, :], "cnf"))


def class_size(task: BooleanTask) -> int:
    """How many functions the class has."""
    n, monotone = task.n_dims, task.kind.monotone
    if task.name in ("sparse_parity", "teach_sparse_parity", "sparse_disjunction"):
        return math.comb(n, task.sparsity)
    if task.name in ("dnf", "cnf", "teach_dnf"):
        return (2 if monotone else 3) ** (n * task.clauses)
    if task.name in ("parity", "majority", "full_majority") or monotone:
        return 2**n
    return 7**n if task.name == "int_halfspace" else 3**n * (6 if task.name == "sparse_thres" else 1)


SPARSE = {"sparse_parity": 2, "teach_sparse_parity": 2, "sparse_disjunction": 4, "sparse_halfspace": 3}
"""Relevant bits of the sparse classes."""

_parity = (_draw_sparse_parity, _all_sparse_parities)

TASKS: dict[str, TaskClass] = {
    "conjunction": TaskClass("conjunctions", _draw_formula("dnf"), _all_formulas("dnf"), 0.3, 0.3),
    "mono_conjunction": TaskClass(
        "monotone conjunctions",
        _draw_formula("dnf", monotone=True),
        _all_formulas("dnf", monotone=True),
        0.3,
        0.3,
        monotone=True,
    ),
    "teach_conjunction": TaskClass(
        "monotone conjunctions with a teaching sequence",
        _draw_formula("dnf", monotone=True),
        _all_formulas("dnf", monotone=True),
        0.3,
        0.4,
        teaching=True,
        monotone=True,
    ),
    "teach_biconjunction": TaskClass(
        "conjunctions with a teaching sequence", _draw_formula("dnf"), _all_formulas("dnf"), 0.3, 0.4, teaching=True
    ),
    "disjunction": TaskClass("disjunctions", _draw_formula("cnf"), _all_formulas("cnf"), 0.3, 0.3),
    "sparse_disjunction": TaskClass(
        "disjunctions of 4 bits", _draw_sparse_disjunction, _all_sparse_disjunctions, planted=0.3
    ),
    "dnf": TaskClass("DNF", _draw_formula("dnf", many=True), _all_formulas("dnf", many=True), 0.2, 0.35),
    "teach_dnf": TaskClass(
        "monotone DNF with a teaching sequence",
        _draw_formula("dnf", many=True, monotone=True),
        _all_formulas("dnf", many=True, monotone=True),
        0.2,
        0.35,
        teaching=True,
        monotone=True,
    ),
    "cnf": TaskClass("CNF", _draw_formula("cnf", many=True), _all_formulas("cnf", many=True), 0.2, 0.3),
    "majority": TaskClass("majorities of some bits", _draw_majority, _all_majorities, 0.3),
    "full_majority": TaskClass("majorities of literals", _draw_full_majority, _all_halfspaces((-1, 1))),
    "sparse_thres": TaskClass("0-1 threshold functions", _draw_zero_one_threshold, _all_thresholds, 0.3),
    "int_halfspace": TaskClass(
        "integer halfspaces", _draw_integer_halfspace, _all_halfspaces((-3, -2, -1, 0, 1, 2, 3))
    ),
    "halfspace": TaskClass("halfspaces", _draw_halfspace),
    "sparse_halfspace": TaskClass("halfspaces of 3 bits", _draw_sparse_halfspace),
    "parity": TaskClass("parities", _draw_parity, _all_parities),
    "sparse_parity": TaskClass("sparse parities", *_parity),
    "teach_sparse_parity": TaskClass("sparse parities with a teaching sequence", *_parity, teaching=True),
    "nearest_neighbours": TaskClass("nearest-neighbour labels", _no_functions),
}
"""Name (as in the authors' code) -> class."""
