"""Learning algorithms that a sequence model is compared with: baselines and optimal learners.

Every learner has a ``name`` and ``scores(xs, ys) -> float64 [B, m]``: position j is predicted from the pairs before j
and from ``xs[:, j]``; the sign of the score is the label. A score of exactly 0 is no prediction, and counts as wrong.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.icl_discrete.tasks import BooleanTask
from paperworks.parameters import check_seed

FREE_PARITY_BITS = 62
"""Gaussian elimination packs an input into one 64-bit integer."""


class Learner(Protocol):
    """What predicts the labels of prompts."""

    @property
    def name(self) -> str:
        """For tables and figures."""
        ...

    def scores(self, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """Scores float64 ``[B, m]`` of prompts int8 ``[B, m, n]`` with labels int8 ``[B, m]`` of -1 and +1."""
        ...


def _before(values: np.ndarray) -> np.ndarray:
    """Cumulative sum over axis 1 of what stands before each position."""
    total = np.cumsum(values, axis=1)
    return np.concatenate([np.zeros_like(total[:, :1]), total[:, :-1]], 1)


@dataclass(frozen=True)
class Null:
    """Always -1."""

    name: str = "null"

    def scores(self, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """All -1."""
        return np.full(xs.shape[:2], -1.0)


@dataclass(frozen=True)
class Averaging:
    """``sign(w . x)`` with w the mean of ``y_i x_i``; the first prediction is -1."""

    name: str = "averaging"

    def scores(self, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """``w . x``."""
        weights = _before((ys[..., None] * xs).astype(np.float64))
        out = (weights * xs).sum(2) / np.maximum(np.arange(xs.shape[1]), 1)
        out[:, 0] = -1.0
        return out


@dataclass(frozen=True)
class Neighbours:
    """The mean label of the k nearest earlier points (Euclidean and Hamming order agree); ties go to the earliest.

    With fewer than k earlier points all vote; the first position has no prediction.
    """

    k: int = 1

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError("k", self.k, "1 neighbour or more")

    @property
    def name(self) -> str:
        """1-NN, 3-NN, ..."""
        return f"{self.k}-NN"

    def scores(self, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """Mean label of the neighbours."""
        points = xs.shape[1]
        wide = xs.astype(np.float32)
        similarity = np.matmul(wide, wide.transpose(0, 2, 1)).astype(np.int64)
        order = -similarity * points + np.arange(points)  # nearest first, the earliest of ties first
        out = np.zeros(xs.shape[:2])
        for j in range(1, points):
            count = min(self.k, j)
            chosen = np.argpartition(order[:, j, :j], count - 1, axis=1)[:, :count]
            out[:, j] = np.take_along_axis(ys, chosen, 1).mean(1)
        return out


@dataclass(frozen=True)
class LeastSquares:
    """``w . x`` with the least-squares weights of smallest norm; the first position has no prediction."""

    name: str = "least squares"

    def scores(self, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """``w . x``; values below rounding error are 0."""
        out = np.zeros(xs.shape[:2])
        for j in range(1, xs.shape[1]):
            inverse = np.linalg.pinv(xs[:, :j].astype(np.float64))
            weights = np.matmul(inverse, ys[:, :j, None].astype(np.float64))[..., 0]
            out[:, j] = (weights * xs[:, j]).sum(1)
        out[np.abs(out) < 1e-9] = 0.0
        return out


@dataclass(frozen=True)
class Elimination:
    """Conjunctions: begin with all literals, drop those that a positive point breaks, predict the AND of the rest.

    It never predicts +1 where the function is -1, and errs at most n + 1 times. ``target`` "disjunction" is the dual;
    ``monotone`` begins with the positive literals only.
    """

    target: Literal["conjunction", "disjunction"] = "conjunction"
    monotone: bool = False
    name: str = "elimination"

    def scores(self, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """-1 or +1."""
        sign = 1 if self.target == "conjunction" else -1
        # an OR of literals is -1 exactly where the AND of their negations holds
        holds = xs[..., None] * np.array([1] if self.monotone else [1, -1]) * sign > 0
        holds = holds.reshape(*xs.shape[:2], -1)
        broken = _before(((sign * ys > 0)[..., None] & ~holds).astype(np.int64)) > 0
        return sign * np.where((holds | broken).all(2), 1.0, -1.0)


@dataclass(frozen=True)
class ParityElimination:
    """Parities: Gaussian elimination over GF(2). Where the points determine the label it is right.

    Elsewhere the free bits are taken to be out of the parity, which is right half of the time.
    """

    name: str = "GF(2) elimination"

    def scores(self, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """-2 or +2 where the label is determined, -1 or +1 where it is a guess."""
        batch, points, n = xs.shape
        if n > FREE_PARITY_BITS:
            raise InputError("n_dims", n, f"at most {FREE_PARITY_BITS} bits")
        codes = ((xs > 0).astype(np.int64) << np.arange(n)).sum(2)
        basis, known = np.zeros((batch, n), np.int64), np.zeros((batch, n), bool)
        rows = np.arange(batch)
        out = np.empty((batch, points))
        for j in range(points):
            rest, label = codes[:, j].copy(), np.zeros(batch, bool)
            for bit in range(n - 1, -1, -1):
                hit = ((rest >> bit) & 1 == 1) & (basis[:, bit] != 0)
                rest ^= np.where(hit, basis[:, bit], 0)
                label ^= hit & known[:, bit]
            out[:, j] = np.where(label, 1.0, -1.0) * np.where(rest == 0, 2.0, 1.0)
            fresh = np.flatnonzero(rest)
            pivot = np.frexp(rest[fresh].astype(np.float64))[1] - 1 if n <= 52 else _top_bit(rest[fresh])
            basis[rows[fresh], pivot] = rest[fresh]
            known[rows[fresh], pivot] = (ys[fresh, j] > 0) ^ label[fresh]
        return out


def _top_bit(values: np.ndarray) -> np.ndarray:
    return np.array([int(v).bit_length() - 1 for v in values], dtype=np.int64)


@dataclass(frozen=True)
class SparseParityEnumeration:
    """Parities of k bits: the vote of all subsets that agree with the points so far."""

    k: int = 2

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError("k", self.k, "1 bit or more")

    @property
    def name(self) -> str:
        """For tables."""
        return f"enumeration of {self.k}-parities"

    def scores(self, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """Mean vote."""
        n = xs.shape[2]
        if self.k > n:
            raise InputError("k", self.k, f"at most the {n} bits of an input")
        subsets = np.array(list(itertools.combinations(range(n), self.k)))
        votes = -np.prod(-xs[:, :, subsets], axis=3)  # an odd number of ones gives +1
        alive = _before((votes != ys[..., None]).astype(np.int64)) == 0
        return (votes * alive).sum(2) / np.maximum(alive.sum(2), 1)


@dataclass(frozen=True)
class Perceptron:
    """Halfspaces: the perceptron, run over the points so far until it makes no mistake or ``passes`` are done."""

    passes: int = 50
    name: str = "perceptron"

    def scores(self, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """``w . x + b``; it begins at each point with the weights of the one before."""
        batch, points, n = xs.shape
        wide = np.concatenate([xs, np.ones((batch, points, 1), np.int8)], 2).astype(np.float64)
        weights, out = np.zeros((batch, n + 1)), np.zeros((batch, points))
        for j in range(points):
            active = np.arange(batch)
            for _ in range(self.passes if j else 0):
                wrong = np.zeros(len(active), bool)
                for i in range(j):
                    margin = ys[active, i] * (weights[active] * wide[active, i]).sum(1)
                    miss = margin <= 0
                    weights[active[miss]] += ys[active[miss], i, None] * wide[active[miss], i]
                    wrong |= miss
                active = active[wrong]
                if not len(active):
                    break
            out[:, j] = (weights * wide[:, j]).sum(1)
        return out


@dataclass(frozen=True)
class LinearProgram:
    """Halfspaces: the separating weights of largest margin under ``|w_i|, |b| <= 1``, by linear programming.

    It agrees with every point so far whenever a halfspace does. Two milliseconds per prompt and position.
    """

    name: str = "linear program"

    def scores(self, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """``w . x + b``; values below the solver's tolerance are 0."""
        from scipy.optimize import linprog

        batch, points, n = xs.shape
        wide = np.concatenate([xs, np.ones((batch, points, 1), np.int8)], 2).astype(np.float64)
        out = np.zeros((batch, points))
        bounds = [(-1.0, 1.0)] * (n + 1) + [(None, 1.0)]
        goal = np.zeros(n + 2)
        goal[-1] = -1.0
        for b in range(batch):
            for j in range(1, points):
                left = np.concatenate([-ys[b, :j, None] * wide[b, :j], np.ones((j, 1))], 1)
                found = linprog(goal, A_ub=left, b_ub=np.zeros(j), bounds=bounds, method="highs")
                out[b, j] = found.x[:-1] @ wide[b, j]
        out[np.abs(out) < 1e-7] = 0.0
        return out


@dataclass(frozen=True)
class Logistic:
    """Logistic regression with an L2 penalty (scikit-learn's, C = 1), by Newton's method on all prompts at once."""

    iterations: int = 12
    name: str = "logistic regression"

    def scores(self, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """Logits; the first position has no prediction."""
        batch, points, n = xs.shape
        wide = np.concatenate([xs, np.ones((batch, points, 1), np.int8)], 2).astype(np.float64)
        penalty = np.append(np.ones(n), 1e-6)  # the intercept is free, but must not run off where one label was seen
        out = np.zeros((batch, points))
        for j in range(1, points):
            x, truth = wide[:, :j], (ys[:, :j] > 0).astype(np.float64)
            weights = np.zeros((batch, n + 1))
            for _ in range(self.iterations):
                chance = 1 / (1 + np.exp(-(x * weights[:, None]).sum(2)))
                slope = ((chance - truth)[..., None] * x).sum(1) + penalty * weights
                bend = np.matmul(x.transpose(0, 2, 1) * (chance * (1 - chance))[:, None], x) + np.diag(penalty)
                weights -= np.clip(np.linalg.solve(bend, slope[..., None])[..., 0], -2.0, 2.0)
            out[:, j] = (weights * wide[:, j]).sum(1)
        return out


@dataclass(frozen=True)
class MultilayerPerceptron:
    """A network n-100-100-1, trained anew by Adam on the points so far at every ``every``-th position.

    The positions between use the last one trained; before the first there is no prediction. All prompts are trained
    side by side. The weights come from ``seed``.
    """

    steps: int = 150
    learning_rate: float = 5e-3
    every: int = 5
    hidden: int = 100
    seed: int = 0
    positions: tuple[int, ...] | None = None
    name: str = "MLP"

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)

    def scores(self, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """Logits."""
        import torch

        batch, points, n = xs.shape
        x, y = torch.from_numpy(xs).float(), torch.from_numpy(ys > 0).float()
        out = torch.zeros(batch, points, dtype=torch.float64)
        trained = [j for j in range(1, points) if j % self.every == 0] if self.positions is None else self.positions
        for number, j in enumerate(trained):
            upto = points if number + 1 == len(trained) else trained[number + 1]
            rng = torch.Generator().manual_seed((self.seed * 1_000_003 + j) % 2**63)
            layers = []
            for a, b in ((n, self.hidden), (self.hidden, self.hidden), (self.hidden, 1)):
                for shape in ((batch, a, b), (batch, 1, b)):
                    weight = (torch.rand(shape, generator=rng) * 2 - 1) / a**0.5
                    layers.append(weight.requires_grad_())
            optimizer = torch.optim.Adam(layers, lr=self.learning_rate)
            for _ in range(self.steps):
                loss = torch.nn.functional.binary_cross_entropy_with_logits(
                    _network(layers, x[:, :j]), y[:, :j], reduction="none"
                )
                optimizer.zero_grad()
                loss.mean(1).sum().backward()
                optimizer.step()
            with torch.no_grad():
                out[:, j:upto] = _network(layers, x[:, j:upto]).double()
        return out.numpy()


def _network(layers: list, x):  # type: ignore[no-untyped-def]
    for i in range(0, len(layers), 2):
        x = x @ layers[i] + layers[i + 1]
        x = x.relu() if i + 2 < len(layers) else x
    return x[..., 0]


def reference_learners(task: BooleanTask) -> list[Learner]:
    """The optimal learners that fit a task, then the baselines that fit any: null, averaging, 1-NN, 3-NN."""
    from paperworks.papers.icl_discrete.bayes import ExactBayes

    name, monotone = task.name, task.kind.monotone
    found: list[Learner] = []
    if name in ("conjunction", "mono_conjunction", "teach_conjunction", "teach_biconjunction"):
        found.append(Elimination(monotone=monotone))
    elif name in ("disjunction", "sparse_disjunction"):
        found.append(Elimination("disjunction", monotone=name == "sparse_disjunction"))
    elif name == "parity" and task.n_dims <= FREE_PARITY_BITS:
        found.append(ParityElimination())
    elif name in ("sparse_parity", "teach_sparse_parity"):
        found.append(SparseParityEnumeration(task.sparsity))
    elif name in ("majority", "full_majority", "sparse_thres", "int_halfspace", "halfspace", "sparse_halfspace"):
        found.append(Perceptron())
    if ExactBayes.fits(task):
        found.append(ExactBayes(task))
    return [*found, Neighbours(1), Neighbours(3), Averaging(), LeastSquares(), Null()]
