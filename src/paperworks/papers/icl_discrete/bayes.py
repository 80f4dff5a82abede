"""The exact Bayes predictor: all functions of a class, weighted by what a prompt says about them.

Planted inputs depend on the function, so that the inputs themselves tell something: with i.i.d. inputs given f,

    P(f | x_1..x_j, y_1..y_{j-1})  is proportional to  P(f) prod_{i<=j} P(x_i | f) prod_{i<j} [f(x_i) = y_i].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.icl_discrete.tasks import BooleanTask, planted_values
from paperworks.papers.icl_discrete.teaching import teaching_points

MOST_FUNCTIONS = 50_000
MOST_BITS = 8


@dataclass(frozen=True)
class ExactBayes:
    """The most probable label under the task's own distribution of functions and inputs, by enumeration.

    No predictor has a higher expected accuracy on prompts of the task, where ``noise`` is the share of flipped labels
    that it is shown. At most 8 bits and ``MOST_FUNCTIONS`` functions.
    """

    task: BooleanTask
    noise: float = 0.0
    name: str = "exact Bayes"

    def __post_init__(self) -> None:
        if not 0 <= self.noise < 0.5:
            raise InputError("noise", self.noise, "a share from 0 to below 0.5")
        if self.task.n_dims > MOST_BITS:
            raise InputError("n_dims", self.task.n_dims, f"at most {MOST_BITS} bits for the exact Bayes predictor")
        self.task.enumerate(MOST_FUNCTIONS)

    @staticmethod
    def fits(task: BooleanTask) -> bool:
        """Whether the task is small enough, and its functions are drawn independently."""
        try:
            ExactBayes(task)
        except InputError:
            return False
        return not task.pool

    @cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Hypotheses (function, planted clause, taught or not): labels ``[2^n, H]``, log prior, log P(x), teaching."""
        task, n = self.task, self.task.n_dims
        functions, prior = task.enumerate(MOST_FUNCTIONS)
        count = len(functions)
        every = np.where((np.arange(2**n)[:, None] >> np.arange(n)) & 1, 1, -1).astype(np.int8)
        labels = functions.labels(np.broadcast_to(every, (count, *every.shape)))
        targets, q = planted_values(functions), task.planting
        p = task.bit_probability
        with np.errstate(divide="ignore"):
            chance = np.log([1 - p, p])
            log_uniform = (
                chance[(every > 0).astype(int)].sum(1)
                if 0 < p < 1
                else np.log(np.prod(np.where(every > 0, p, 1 - p), axis=1))
            )
        clauses = 1 if targets is None or not q else targets.shape[1]
        inputs = np.empty((clauses, count, 2**n))
        for c in range(clauses):
            if targets is None or not q:
                inputs[c] = log_uniform
                continue
            target = targets[:, c]
            inside = ((target[:, None, :] == 0) | (target[:, None, :] == every)).all(2)
            log_free = np.where(target[:, None, :] == 0, np.where(every > 0, p, 1 - p), 1.0).prod(2)
            with np.errstate(divide="ignore"):
                inputs[c] = np.log((1 - q) * np.exp(log_uniform) + q * np.where(inside, log_free, 0.0))
        labels = np.tile(labels, (clauses, 1))
        prior = np.tile(prior, clauses) - np.log(clauses)
        log_inputs = inputs.reshape(clauses * count, -1)
        sequences = np.full((len(labels), 0), -1)
        if task.kind.teaching:
            taught = teaching_points(functions, monotone=task.kind.monotone)
            codes = np.full((count, max(map(len, taught))), -1)
            for row, points in enumerate(taught):
                codes[row, : len(points)] = encode(points)
            codes = np.tile(codes, (clauses, 1))
            with np.errstate(divide="ignore"):
                shares = np.log([task.teach_share, 1 - task.teach_share])
            sequences = np.concatenate([codes, np.full_like(codes, -1)])
            labels, log_inputs = np.tile(labels, (2, 1)), np.tile(log_inputs, (2, 1))
            prior = np.concatenate([prior + shares[0], prior + shares[1]])
            kept = np.isfinite(prior)
            labels, log_inputs, prior, sequences = labels[kept], log_inputs[kept], prior[kept], sequences[kept]
        return np.ascontiguousarray(labels.T), prior, np.ascontiguousarray(log_inputs.T), sequences

    def scores(self, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        """P(+1) minus P(-1) at each position; 0 where nothing in the class agrees with the prompt."""
        labels, prior, log_inputs, sequences = self._tables
        with np.errstate(divide="ignore"):
            log_right, log_wrong = np.log1p(-self.noise), np.log(self.noise)
        out = np.zeros(xs.shape[:2])
        for b, codes in enumerate(encode(xs)):
            alive, weights = np.arange(len(prior)), prior
            for j, code in enumerate(codes):
                inputs = log_inputs[code][alive]
                if j < sequences.shape[1]:
                    wanted = sequences[alive, j]
                    inputs = np.where(wanted < 0, inputs, np.where(wanted == code, 0.0, -np.inf))
                weights = weights + inputs
                top = weights.max()
                if not np.isfinite(top):
                    break
                share = np.exp(weights - top)
                vote = labels[code][alive]
                out[b, j] = (share * vote).sum() / share.sum()
                weights = weights + np.where(vote == ys[b, j], log_right, log_wrong)
                possible = np.isfinite(weights)
                if not possible.any():
                    break
                alive, weights = alive[possible], weights[possible]
        return out


def encode(xs: np.ndarray) -> np.ndarray:
    """Inputs of n bits as whole numbers: bit i of the number is bit i of the input."""
    return ((xs > 0).astype(np.int64) << np.arange(xs.shape[-1])).sum(-1)
