"""Additive attention scores, u_ij = v^T tanh(k_j + q_i), which take most of the time of a pointer network.

On the CPU a compiled loop adds up the scores without ever storing the tensor of tanh, B x m x n x H, and computes it
again for the gradients. Other devices and number types take torch's operations, in parts of bounded memory.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

Array = NDArray[np.float32]

CHUNK_ELEMENTS = 2**25
"""Numbers in the tanh tensor above which torch's operations compute it in parts."""

THREAD_NUMBERS = 2**20
"""Values of tanh that are worth a thread: about half a millisecond."""

# tanh(x) = x P(x^2) / Q(x^2) for |x| <= 9, fitted here by reweighted least squares: relative error 2.1e-8 before
# rounding, 4e-7 in float32. Beyond 9, tanh is 1 - 3e-8.
LIMIT = np.float32(9.0)
P0, P1, P2, P3, P4 = map(np.float32, (0.99999998, 0.13381021444, 3.4955831522e-3, 2.0609001644e-5, 1.3354553686e-8))
Q1, Q2, Q3, Q4 = map(np.float32, (0.46714337040, 2.5876963243e-2, 3.2856267217e-4, 7.7765132509e-7))
ONE = np.float32(1.0)

FAST = {"reassoc", "contract", "arcp", "nsz"}
"""Sums in any order, and fused products; NaN and infinity keep their meaning."""


def additive_scores(query: Tensor, keys: Tensor, v: Tensor) -> Tensor:
    """u_ij = v^T tanh(k_j + q_i) for query [B, m, H], keys [B, n, H] and v [H]: [B, m, n], in bounded memory."""
    if all(t.device.type == "cpu" and t.dtype == torch.float32 for t in (query, keys, v)):
        return _Compiled.apply(query, keys, v)  # type: ignore[no-any-return]
    chunk = max(1, CHUNK_ELEMENTS // max(keys.numel(), 1))
    if query.shape[1] <= chunk:
        return torch_scores(query, keys, v)
    parts = []
    for part in query.split(chunk, dim=1):
        # A part's tanh tensor is computed again in the backward pass, so that only one exists at a time.
        parts.append(
            checkpoint(torch_scores, part, keys, v, use_reentrant=False)
            if torch.is_grad_enabled()
            else torch_scores(part, keys, v)
        )
    return torch.cat(parts, dim=1)


def torch_scores(query: Tensor, keys: Tensor, v: Tensor) -> Tensor:
    """The definition, with the whole tanh tensor in memory."""
    return torch.tanh(query[:, :, None] + keys[:, None]) @ v


class _Compiled(torch.autograd.Function):
    """The scores on the CPU, and their gradients."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(query, keys, v)
        q, k, w = (t.detach().contiguous().numpy() for t in (query, keys, v))
        out = np.empty((len(q), q.shape[1], k.shape[1]), np.float32)
        _over_instances(lambda rows: _scores(q[rows], k[rows], w, out[rows]), len(q), out.size * len(w))
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, keys, v = ctx.saved_tensors
        g, q, k = (t.detach().contiguous().numpy() for t in (gradient, query, keys))
        to_q, to_k, to_v = np.zeros_like(q), np.zeros_like(k), np.zeros((len(q), q.shape[2]), np.float32)
        parts = (g, q, k, to_q, to_k, to_v)
        _over_instances(lambda rows: _gradients(*(part[rows] for part in parts)), len(q), g.size * q.shape[2])
        return torch.from_numpy(to_q) * v, torch.from_numpy(to_k) * v, torch.from_numpy(to_v).sum(0)


def _over_instances(work: Callable[[slice], object], count: int, numbers: int) -> None:
    """``work`` on all instances, shared among as many threads as torch has where each gets enough of the numbers."""
    threads = min(torch.get_num_threads(), count, numbers // THREAD_NUMBERS)
    if threads <= 1:
        work(slice(0, count))
        return
    bounds = [count * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [slice(a, b) for a, b in pairwise(bounds)]))


@njit(inline="always")
def _tanh(x: np.float32) -> np.float32:
    x = LIMIT if x > LIMIT else x  # written so that NaN stays NaN
    x = -LIMIT if x < -LIMIT else x
    z = x * x
    p = P0 + z * (P1 + z * (P2 + z * (P3 + z * P4)))
    q = ONE + z * (Q1 + z * (Q2 + z * (Q3 + z * Q4)))
    return x * p / q


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _scores(query: Array, keys: Array, v: Array, out: Array) -> None:
    for b in range(query.shape[0]):
        for i in range(query.shape[1]):
            q = query[b, i]
            for j in range(keys.shape[1]):
                k = keys[b, j]
                total = np.float32(0.0)
                for h in range(v.shape[0]):
                    total += v[h] * _tanh(q[h] + k[h])
                out[b, i, j] = total


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _gradients(gradient: Array, query: Array, keys: Array, to_query: Array, to_keys: Array, to_v: Array) -> None:
    """Sums of g (1 - tanh^2), which v still multiplies, for every query and key; and of g tanh for v."""
    width = query.shape[2]
    t = np.empty(width, np.float32)
    r = np.empty(width, np.float32)
    for b in range(query.shape[0]):
        dv = to_v[b]
        for i in range(query.shape[1]):
            q, dq = query[b, i], to_query[b, i]
            for j in range(keys.shape[1]):
                g = gradient[b, i, j]
                if g == 0:  # padding
                    continue
                k, dk = keys[b, j], to_keys[b, j]
                for h in range(width):
                    t[h] = _tanh(q[h] + k[h])
                for h in range(width):
                    r[h] = g * (ONE - t[h] * t[h])
                    dv[h] += g * t[h]
                for h in range(width):
                    dq[h] += r[h]
                for h in range(width):
                    dk[h] += r[h]
