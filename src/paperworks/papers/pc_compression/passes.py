"""The two passes through a hidden Chow-Liu tree, compiled: values upward, expected counts (flows) downward.

Values stay in linear space: every row of K numbers is divided by its largest, and only the logarithm of that one number
is added up, so that no element needs an exponential. Rows are the pairs (node, sample), with one saving that changes
nothing but the order of additions: all samples that show the same *background* (the most frequent value of every
variable) in a whole subtree share one row there, and their flows are added before they go down. In images of digits
that is most rows.

A tile is a few hundred samples; its rows stay in the cache. All functions release the GIL, so tiles can go to threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from paperworks.papers.pc_compression.structure import Tree

SMALL = 1e-15
"""A row is rescaled before the next factor once its largest number is below this."""


FAST = {"reassoc", "contract", "arcp", "nsz", "nnan"}
"""Sums and maxima over a row may be taken in any order: these passes learn and score, they do not code."""


class Layout(NamedTuple):
    """The tree as flat arrays for the compiled passes.

    ``inner`` [J] are the variables with a latent state (all but the leaves; the root always), children before parents.
    ``slot`` [D] is the place of a variable in ``inner``, or -1 for a leaf of the tree. ``children`` holds the children
    of ``inner[j]`` at ``starts[j]:starts[j + 1]``.
    """

    inner: np.ndarray
    slot: np.ndarray
    starts: np.ndarray
    children: np.ndarray


def layout_of(tree: Tree) -> Layout:
    """Flat arrays of a tree."""
    children = tree.children
    inner = [int(v) for v in tree.order if children[v] or v == tree.root]
    slot = np.full(len(tree.parents), -1, dtype=np.int64)
    slot[inner] = np.arange(len(inner))
    starts = np.cumsum([0, *(len(children[v]) for v in inner)]).astype(np.int64)
    flat = [c for v in inner for c in children[v]]
    return Layout(np.array(inner, dtype=np.int64), slot, starts, np.array(flat, dtype=np.int64))


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def activity(columns, background, layout):  # pragma: no cover - compiled
    """Row of each sample at each inner node of a tile: int32 [J, T]; 0 is the row that all background samples share.

    Also the number of rows per node, [J] (the background row included).
    """
    inner, slot, starts, children = layout
    t = columns.shape[1]
    rows = np.zeros((len(inner), t), dtype=np.int32)
    counts = np.ones(len(inner), dtype=np.int64)
    flags = np.zeros(t, dtype=np.uint8)
    for j in range(len(inner)):
        v = inner[j]
        for n in range(t):
            flags[n] = columns[v, n] != background[v]
        for e in range(starts[j], starts[j + 1]):
            c = children[e]
            s = slot[c]
            if s < 0:
                for n in range(t):
                    flags[n] |= columns[c, n] != background[c]
            else:
                for n in range(t):
                    flags[n] |= rows[s, n] > 0
        r = 1
        for n in range(t):
            if flags[n]:
                rows[j, n] = r
                r += 1
        counts[j] = r
    return rows, counts


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def upward(columns, background, layout, rows, offsets, inputs, edges, values, messages, scales):  # pragma: no cover
    """Fill ``values`` (g of a node, largest 1), ``messages`` (m, seen by the parent) and ``scales`` (logarithms).

    ``columns`` uint16 [D, T], ``inputs`` [D, C + 1, K] (last category: missing, all ones), ``edges`` [J, K, K]
    transposed (own state, parent's state). The pools are [rows, K] and [rows].
    """
    inner, slot, starts, children = layout
    t = columns.shape[1]
    k = inputs.shape[2]
    last = len(inner) - 1
    for j in range(len(inner)):
        v = inner[j]
        base = offsets[j]
        for s in range(-1, t):
            r = 0
            if s >= 0:
                r = rows[j, s]
                if r == 0:
                    continue
            g = values[base + r]
            x = background[v] if s < 0 else columns[v, s]
            b = inputs[v, x]
            for i in range(k):
                g[i] = b[i]
            scale = 0.0
            for e in range(starts[j], starts[j + 1]):
                c = children[e]
                child = slot[c]
                if child < 0:
                    y = background[c] if s < 0 else columns[c, s]
                    m = inputs[c, y]
                else:
                    q = offsets[child]
                    if s >= 0:
                        q += rows[child, s]
                    m = messages[q]
                    scale += scales[q]
                top = g[0] * 0
                for i in range(k):
                    g[i] *= m[i]
                    top = max(top, g[i])
                if top < SMALL:
                    if top <= 0:
                        scale = -np.inf
                        break
                    scale += np.log(np.float64(top))
                    factor = 1 / top
                    for i in range(k):
                        g[i] *= factor
            top = g[0]
            for i in range(1, k):
                top = max(top, g[i])
            if top > 0:
                factor = 1 / top
                for i in range(k):
                    g[i] *= factor
                scales[base + r] = scale + np.log(np.float64(top))
            else:
                scales[base + r] = -np.inf
        if j < last:
            end = offsets[j + 1]
            np.dot(values[base:end], edges[j], messages[base:end])


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def root_log_likelihood(rows, offsets, prior, values, scales, result):  # pragma: no cover - compiled
    """log p(x) in nats of every sample of the tile into ``result`` [T]."""
    last = len(offsets) - 2
    k = len(prior)
    for n in range(rows.shape[1]):
        r = offsets[last] + rows[last, n]
        total = 0.0
        for i in range(k):
            total += np.float64(prior[i]) * np.float64(values[r, i])
        result[n] = scales[r] + np.log(total) if total > 0.0 else -np.inf


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def downward(
    columns,
    background,
    layout,
    rows,
    offsets,
    inputs,
    transitions,
    prior,
    values,
    messages,
    flows,
    posterior,
    flow_inputs,
    flow_edges,
    flow_prior,
):  # pragma: no cover - compiled
    """Expected counts of all edges of the tile, added to ``flow_*``.

    ``transitions`` [J, K, K] (parent's state, own state). ``flows`` and ``posterior`` are pools [rows, K]. Samples of
    likelihood 0 add nothing. ``flow_edges`` still lacks the factor ``transitions``, which is applied once per batch.
    """
    inner, slot, starts, children = layout
    t = columns.shape[1]
    k = inputs.shape[2]
    last = len(inner) - 1
    flows[: offsets[last + 1]] = 0
    base = offsets[last]
    for n in range(t):
        flows[base + rows[last, n], 0] += 1  # samples that share the row
    for r in range(base, offsets[last + 1]):
        total = prior[0] * 0
        for i in range(k):
            total += prior[i] * values[r, i]
        weight = flows[r, 0] / total if total > 0 else total * 0
        for i in range(k):
            share = weight * prior[i] * values[r, i]
            flow_prior[i] += share
            posterior[r, i] = share
    for j in range(last, -1, -1):
        v = inner[j]
        base = offsets[j]
        end = offsets[j + 1]
        if j < last:
            for r in range(base, end):
                f = flows[r]
                m = messages[r]
                for i in range(k):
                    f[i] = f[i] / m[i] if m[i] > 0 else f[i] * 0
            quotients = flows[base:end]
            edges = np.dot(quotients.T, values[base:end])
            for i in range(k):
                for h in range(k):
                    flow_edges[j, i, h] += edges[i, h]
            np.dot(quotients, transitions[j], posterior[base:end])
            for r in range(base, end):
                f = posterior[r]
                g = values[r]
                for i in range(k):
                    f[i] *= g[i]
        for s in range(-1, t):
            r = 0
            if s >= 0:
                r = rows[j, s]
                if r == 0:
                    continue
            f = posterior[base + r]
            target = flow_inputs[v, background[v] if s < 0 else columns[v, s]]
            for i in range(k):
                target[i] += f[i]
            for e in range(starts[j], starts[j + 1]):
                c = children[e]
                child = slot[c]
                if child < 0:
                    goal = flow_inputs[c, background[c] if s < 0 else columns[c, s]]
                else:
                    q = offsets[child]
                    if s >= 0:
                        q += rows[child, s]
                    goal = flows[q]
                for i in range(k):
                    goal[i] += f[i]


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def maximise(
    prior, transitions, inputs, flow_prior, flow_edges, flow_inputs, pseudocount, inertia
):  # pragma: no cover - compiled
    """The M-step in place: theta <- inertia * theta + (1 - inertia) * (flow + alpha / n) / (sum of flows + alpha)."""
    k = len(prior)
    d, c = inputs.shape[0], inputs.shape[1] - 1
    one = prior[0] * 0 + 1
    keep = one * inertia
    alpha = one * pseudocount
    step = one - keep
    total = alpha
    for i in range(k):
        total += flow_prior[i]
    if total > 0:
        for i in range(k):
            prior[i] = keep * prior[i] + step * (flow_prior[i] + alpha / k) / total
    for j in range(transitions.shape[0] - 1):
        for i in range(k):
            a = transitions[j, i]
            f = flow_edges[j, i]
            total = alpha
            for h in range(k):
                f[h] *= a[h]
                total += f[h]
            if total > 0:
                factor = step / total
                for h in range(k):
                    a[h] = keep * a[h] + factor * (f[h] + alpha / k)
    totals = np.zeros(k, dtype=prior.dtype)
    for v in range(d):
        totals[:] = alpha
        for a in range(c):
            f = flow_inputs[v, a]
            for i in range(k):
                totals[i] += f[i]
        for i in range(k):
            totals[i] = step / totals[i] if totals[i] > 0 else -one
        share = alpha / c
        for a in range(c):
            f = flow_inputs[v, a]
            b = inputs[v, a]
            for i in range(k):
                if totals[i] > 0:
                    b[i] = keep * b[i] + totals[i] * (f[i] + share)
