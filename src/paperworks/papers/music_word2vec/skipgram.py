"""Skip-gram with noise words shared by a batch: noise-contrastive estimation or negative sampling, compiled with numba.

A batch is a number of centres with all their contexts. The score of a pair (w, u) is

    s(w, u) = e_w . o_u + b_u - log(k q(u))        (negative sampling: without the last term)

and the loss of a pair is -log sigma(s(w, context)) - sum over the k noise words u of log sigma(-s(w, u)), averaged over
the pairs of the batch. All pairs of a centre share its noise scores, which are therefore computed once per centre and
weighted by the number of its contexts. The gradient is the same, with one eighth of the work for 8 contexts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numba
import numpy as np
import scipy.linalg  # noqa: F401 - numba calls its BLAS

from paperworks.errors import InputError

Loss: TypeAlias = Literal["nce", "ns"]


@dataclass
class Parameters:
    """The vectors of centres ``e [V, d]`` and contexts ``o [V, d]``, and the biases ``b [V]``; float32."""

    e: np.ndarray
    o: np.ndarray
    b: np.ndarray

    @classmethod
    def start(cls, words: int, size: int, rng: np.random.Generator, loss: Loss = "nce") -> Parameters:
        """Where training starts; b is zero.

        nce: e uniform in (-1, 1), o normal with deviation 1/sqrt(d) cut at two deviations, as in the released code.
        ns: e uniform in (-1/2d, 1/2d), o zero, as in word2vec.
        """
        if loss == "ns":
            e = (rng.uniform(-0.5, 0.5, (words, size)) / size).astype(np.float32)
            return cls(e, np.zeros((words, size), np.float32), np.zeros(words, np.float32))
        e = rng.uniform(-1, 1, (words, size)).astype(np.float32)
        o = rng.standard_normal((words, size))
        while (far := np.abs(o) > 2).any():
            o[far] = rng.standard_normal(int(far.sum()))
        return cls(e, (o / np.sqrt(size)).astype(np.float32), np.zeros(words, np.float32))


@dataclass(frozen=True)
class Text:
    """Sequences of ids one after the other; ``begin[i]``, ``end[i]`` bound the piece of position i.

    Windows end at the borders of a piece.
    """

    ids: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    centres: np.ndarray
    """Positions that have at least one context."""

    @classmethod
    def join(cls, sequences: Sequence[np.ndarray]) -> Text:
        """Raises InputError if no piece has two slices."""
        lengths = np.array([len(s) for s in sequences], np.int64)
        ends = np.cumsum(lengths)
        begin = np.repeat(ends - lengths, lengths).astype(np.int32)
        end = np.repeat(ends, lengths).astype(np.int32)
        centres = np.flatnonzero(end - begin > 1).astype(np.int32)
        if not len(centres):
            raise InputError("sequences", "no piece of two slices", "pieces of at least two slices")
        return cls(np.concatenate(sequences).astype(np.int32), begin, end, centres)

    def pairs(self, window: int) -> np.ndarray:
        """All (centre id, context id) pairs ``[n, 2]`` in the order of the text."""
        found = []
        for shift in [*range(-window, 0), *range(1, window + 1)]:
            at = np.arange(len(self.ids))
            other = at + shift
            inside = (other >= self.begin) & (other < self.end)
            found.append(np.column_stack([at[inside], other[inside]]))
        places = np.concatenate(found)
        return self.ids[places[np.lexsort((places[:, 1], places[:, 0]))]]

    def pair_count(self, window: int) -> int:
        """How many pairs there are."""
        at = np.arange(len(self.ids))
        left = np.minimum(at - self.begin, window)
        return int((left + np.minimum(self.end - 1 - at, window)).sum())


def noise_distribution(loss: Loss, counts: np.ndarray) -> np.ndarray:
    """Probabilities of noise words ``[V]``, UNK first.

    nce: log-uniform, q(id) = (log(id + 2) - log(id + 1)) / log(V + 1). ns: counts to the power 0.75.
    """
    if loss == "nce":
        ids = np.arange(len(counts), dtype=np.float64)
        return np.log((ids + 2) / (ids + 1)) / np.log(len(counts) + 1)
    weights = counts.astype(np.float64) ** 0.75
    return weights / weights.sum()


def correction(loss: Loss, q: np.ndarray, negatives: int) -> np.ndarray:
    """What is subtracted from the scores ``[V]``: log(k q) for nce, 0 for ns."""
    return np.log(negatives * q) if loss == "nce" else np.zeros_like(q)


def batch_loss(parameters: Parameters, shift: np.ndarray, pairs: np.ndarray, noise: np.ndarray) -> float:
    """The loss of a batch as it is defined, pair by pair, in float64: what the compiled step descends on.

    Parameters
    ----------
    shift : ``[V]`` from ``correction``.
    pairs : centre and context ids ``[n, 2]``.
    noise : ids ``[k]``.
    """
    centre = parameters.e[pairs[:, 0]].astype(np.float64)
    bias = parameters.b.astype(np.float64) - shift
    o = parameters.o.astype(np.float64)
    positive = np.einsum("nd,nd->n", centre, o[pairs[:, 1]]) + bias[pairs[:, 1]]
    negative = centre @ o[noise].T + bias[noise]
    return float((np.logaddexp(0, -positive) + np.logaddexp(0, negative).sum(axis=1)).mean())


def train_steps(
    parameters: Parameters,
    text: Text,
    centres: np.ndarray,
    noise: np.ndarray,
    shift: np.ndarray,
    rates: np.ndarray,
    window: int,
) -> float:
    """Steps of gradient descent, in place; returns the mean loss per pair of every 16th batch.

    Parameters
    ----------
    centres : positions in the text ``[steps, m]``.
    noise : ids ``[steps, k]``.
    shift : ``[V]`` from ``correction``.
    rates : learning rate of each step ``[steps]``.
    """
    kind = parameters.e.dtype
    total, counted = _steps(
        parameters.e,
        parameters.o,
        parameters.b,
        text.ids,
        text.begin,
        text.end,
        np.ascontiguousarray(centres, np.int32),
        np.ascontiguousarray(noise, np.int32),
        np.ascontiguousarray(shift, kind),
        np.ascontiguousarray(rates, kind),
        window,
    )
    return float(total / max(counted, 1))


def _descend(
    e: Any,
    o: Any,
    b: Any,
    ids: Any,
    begin: Any,
    end: Any,
    centres: Any,
    noise: Any,
    shift: Any,
    rates: Any,
    window: int,
) -> tuple[float, int]:
    steps, m = centres.shape
    k, d = noise.shape[1], e.shape[1]
    one = rates[0] / rates[0]
    rows = np.empty((m, d), e.dtype)
    far = np.empty((k, d), e.dtype)
    scores = np.empty((m, k), e.dtype)
    row_steps = np.empty((m, d), e.dtype)
    far_steps = np.empty((k, d), e.dtype)
    near = np.empty(m * 2 * window, np.int32)
    owner = np.empty(m * 2 * window, np.int32)
    weight = np.empty(m * 2 * window, e.dtype)
    total, counted = 0.0, 0
    for step in range(steps):
        watched = step % 16 == 0
        n = 0
        for i in range(m):
            at = centres[step, i]
            low, high = max(begin[at], at - window), min(end[at], at + window + 1)
            for other in range(low, high):
                if other != at:
                    near[n], owner[n] = ids[other], i
                    n += 1
            for c in range(d):
                rows[i, c] = e[ids[at], c]
        for j in range(k):
            for c in range(d):
                far[j, c] = o[noise[step, j], c]
        np.dot(rows, far.T, scores)
        rate = rates[step] / (one * n)
        pair = 0
        for i in range(m):
            contexts = 0
            while pair + contexts < n and owner[pair + contexts] == i:
                contexts += 1
            pair += contexts
            share = rate * contexts
            for j in range(k):
                u = noise[step, j]
                score = scores[i, j] + b[u] - shift[u]
                scores[i, j] = share / (one + np.exp(-score))
                if watched:
                    total += contexts * (max(score, 0.0) + np.log1p(np.exp(-abs(score))))
        np.dot(scores, far, row_steps)
        np.dot(scores.T, rows, far_steps)
        for p in range(n):
            u, row, other_row = near[p], rows[owner[p]], o[near[p]]
            score = one * 0
            for c in range(d):
                score += row[c] * other_row[c]
            score += b[u] - shift[u]
            weight[p] = -rate / (one + np.exp(score))
            if watched:
                total += max(-score, 0.0) + np.log1p(np.exp(-abs(score)))
            target = row_steps[owner[p]]
            for c in range(d):
                target[c] += weight[p] * other_row[c]
        if watched:
            counted += n
        # every gradient is of the parameters before the step; only now do they move
        for p in range(n):
            row, other_row = rows[owner[p]], o[near[p]]
            for c in range(d):
                other_row[c] -= weight[p] * row[c]
            b[near[p]] -= weight[p]
        for j in range(k):
            u = noise[step, j]
            other_row, change = o[u], far_steps[j]
            for c in range(d):
                other_row[c] -= change[c]
            moved = one * 0
            for i in range(m):
                moved += scores[i, j]
            b[u] -= moved
        for i in range(m):
            row, change = e[ids[centres[step, i]]], row_steps[i]
            for c in range(d):
                row[c] -= change[c]
    return total, counted


# infinities and NaN stay what they are, so that a learning rate that is too high shows
_FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}
_steps = numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")(_descend)
