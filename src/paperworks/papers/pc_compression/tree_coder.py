"""The faster coding mode for hidden Chow-Liu trees: one walk over the tree gives all conditionals.

The variables are visited in the paper's order (heavy child first). Each node on the way from the root keeps two rows of
K numbers: what its state is believed to be from all that was seen outside its subtree, and the likelihood of what was
seen inside. Going to a child and coming back touches each edge of the tree once in each direction, so a sample costs
O(|p|) for all D conditionals together, plus O(K) per probe of an interval.

Float64 in a fixed order, one sample at a time: the integer intervals depend on the model and the sample only.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from paperworks.papers.pc_compression import rans
from paperworks.papers.pc_compression.em import Parameters
from paperworks.papers.pc_compression.passes import layout_of
from paperworks.papers.pc_compression.structure import Tree

ENTER, LEAF, EXIT = 0, 1, 2
LANES = 8
"""Rows that are coded side by side: the matrices are read once for all of them, and the results do not depend on it."""
TINY, LIFT = 2.0**-256, 2.0**256


class Walk(NamedTuple):
    """The walk and the tables of one model.

    ``steps`` int64 [S, 3]: (ENTER, slot, parent's slot), (LEAF, slot, variable), (EXIT, slot, parent's slot).
    ``order`` [D]: the variables as they are coded. ``down`` [J, K, K] (parent's state, own state) and ``up``, the same
    transposed. ``cumulative`` [D, C + 1, K]: P(X < a | k). ``inputs`` [D, C, K]: P(X = a | k).
    """

    steps: np.ndarray
    order: np.ndarray
    prior: np.ndarray
    down: np.ndarray
    up: np.ndarray
    cumulative: np.ndarray
    inputs: np.ndarray


def parts_of(tree: Tree) -> list[list[int]]:
    """For each inner variable its children and itself as the paper orders them: more variables first, then lower index.

    Entry ``v`` of its own list stands for its input; leaves have empty lists.
    """
    sizes, children = tree.sizes(), tree.children
    lowest = np.arange(len(tree.parents))
    for node in tree.order[:-1]:
        parent = tree.parents[node]
        lowest[parent] = min(lowest[parent], lowest[node])
    parts: list[list[int]] = []
    for v, below in enumerate(children):
        if not below and v != tree.root:
            parts.append([])
            continue
        keys = [(-int(sizes[c]), int(lowest[c]), c) for c in below] + [(-1, v, v)]
        parts.append([key[2] for key in sorted(keys)])
    return parts


def walk_of(tree: Tree, parameters: Parameters) -> Walk:
    """Prepare the walk of a model; the tables are normalised in float64, one addition after the other."""
    layout = layout_of(tree)
    slot, parts = layout.slot, parts_of(tree)
    steps: list[tuple[int, int, int]] = []
    stack: list[tuple[int, int, int]] = [(ENTER, tree.root, -1)]
    while stack:
        kind, v, above = stack.pop()
        if kind == LEAF:
            steps.append((LEAF, int(slot[above]), v))
            continue
        steps.append((kind, int(slot[v]), int(slot[above]) if above >= 0 else -1))
        if kind == ENTER:
            stack.append((EXIT, v, above))
            for part in reversed(parts[v]):
                is_leaf = part == v or slot[part] < 0
                stack.append((LEAF if is_leaf else ENTER, part, v))
    walk = np.array(steps, dtype=np.int64)
    prior, down, inputs, cumulative = normalised(*parameters.arrays())
    order = walk[walk[:, 0] == LEAF, 2]
    return Walk(walk, order, prior, down, np.ascontiguousarray(down.transpose(0, 2, 1)), cumulative, inputs)


@numba.njit(cache=True, nogil=True)
def normalised(prior, transitions, inputs):  # pragma: no cover - compiled
    """Float64 weights that sum to 1, and the cumulative inputs, from float32 parameters; fixed order."""
    k = len(prior)
    j = transitions.shape[0]
    d, c = inputs.shape[0], inputs.shape[1] - 1
    new_prior = np.empty(k)
    total = 0.0
    for i in range(k):
        total += np.float64(prior[i])
    for i in range(k):
        new_prior[i] = np.float64(prior[i]) / total
    down = np.empty((j, k, k))
    for e in range(j):
        for i in range(k):
            total = 0.0
            for h in range(k):
                total += np.float64(transitions[e, i, h])
            for h in range(k):
                down[e, i, h] = np.float64(transitions[e, i, h]) / total
    new_inputs = np.empty((d, c, k))
    left = np.zeros((d, c + 1, k))
    for v in range(d):
        for a in range(c):
            for i in range(k):
                left[v, a + 1, i] = left[v, a, i] + np.float64(inputs[v, a, i])
        for a in range(c):
            for i in range(k):
                new_inputs[v, a, i] = np.float64(inputs[v, a, i]) / left[v, c, i]
        for a in range(c):
            for i in range(k):
                left[v, a, i] = left[v, a, i] / left[v, c, i]
        left[v, c, :] = 1.0
    return new_prior, down, new_inputs, left


@numba.njit(cache=True, nogil=True)
def _times(matrix, vectors, result):  # pragma: no cover - compiled
    """result[h, l] = sum_i matrix[h, i] * vectors[i, l], i ascending, for eight lanes l.

    The lanes are written out so that they become one vector register: each still has its own sequence of operations.
    """
    for h in range(matrix.shape[0]):
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
        for i in range(matrix.shape[1]):
            a = matrix[h, i]
            s0 += a * vectors[i, 0]
            s1 += a * vectors[i, 1]
            s2 += a * vectors[i, 2]
            s3 += a * vectors[i, 3]
            s4 += a * vectors[i, 4]
            s5 += a * vectors[i, 5]
            s6 += a * vectors[i, 6]
            s7 += a * vectors[i, 7]
        result[h, 0] = s0
        result[h, 1] = s1
        result[h, 2] = s2
        result[h, 3] = s3
        result[h, 4] = s4
        result[h, 5] = s5
        result[h, 6] = s6
        result[h, 7] = s7


@numba.njit(cache=True, nogil=True)
def _enter(slot, above, walk, prior, seen, belief):  # pragma: no cover - compiled
    """Go down to a node: what its state is believed to be from all that was seen elsewhere."""
    k = prior.shape[1]
    seen[slot, :, :] = 1.0
    if above < 0:
        for i in range(k):
            prior[slot, i, :] = walk.prior[i]
        return
    for lane in range(LANES):
        total = 0.0
        for i in range(k):
            belief[i, lane] = prior[above, i, lane] * seen[above, i, lane]
            total += belief[i, lane]
        for i in range(k):
            belief[i, lane] = belief[i, lane] / total if total > 0.0 else 1.0 / k
    _times(walk.up[slot], belief, prior[slot])


@numba.njit(cache=True, nogil=True)
def _leave(slot, above, walk, seen, message):  # pragma: no cover - compiled
    """Go back up: the parent's likelihoods take in what was seen below."""
    if above < 0:
        return
    _times(walk.down[slot], seen[slot], message)
    for lane in range(LANES):
        _observe(seen[above, :, lane], message[:, lane])


@numba.njit(cache=True, nogil=True)
def _believe(prior, seen, slot, lane, belief):  # pragma: no cover - compiled
    """The belief about a node's state in one lane into ``belief`` [K]; its sum. Uniform after something impossible."""
    total = 0.0
    for i in range(len(belief)):
        belief[i] = prior[slot, i, lane] * seen[slot, i, lane]
        total += belief[i]
    if total > 0.0:
        return total
    belief[:] = 1.0
    return np.float64(len(belief))


@numba.njit(cache=True, nogil=True)
def _observe(seen, factor):  # pragma: no cover - compiled
    """Multiply the likelihoods; something impossible (probability 0 for every state) is passed over."""
    top = 0.0
    for i in range(len(seen)):
        top = max(top, seen[i] * factor[i])
    if top <= 0.0:
        return
    for i in range(len(seen)):
        seen[i] *= factor[i]
    while top < TINY:
        top *= LIFT
        for i in range(len(seen)):
            seen[i] *= LIFT


@numba.njit(cache=True, nogil=True)
def intervals(rows, walk, precision, starts, widths):  # pragma: no cover - compiled
    """Integer intervals of ``rows`` uint16 [R, D] in coding order, uint32 [R, D] each."""
    k = len(walk.prior)
    c = walk.inputs.shape[1]
    prior = np.ones((walk.down.shape[0], k, LANES))
    seen = np.ones((walk.down.shape[0], k, LANES))
    beliefs = np.empty((k, LANES))
    belief = np.empty(k)
    steps = walk.steps
    for base in range(0, rows.shape[0], LANES):
        lanes = min(LANES, rows.shape[0] - base)
        place = 0
        for s in range(steps.shape[0]):
            kind, slot, third = steps[s, 0], steps[s, 1], steps[s, 2]
            if kind == ENTER:
                _enter(slot, third, walk, prior, seen, beliefs)
            elif kind == EXIT:
                _leave(slot, third, walk, seen, beliefs)
            else:
                table = walk.cumulative[third]
                for lane in range(lanes):
                    total = _believe(prior, seen, slot, lane, belief)
                    x = np.int64(rows[base + lane, third])
                    start = rans.left_edge(belief, table, total, x, c, precision)
                    widths[base + lane, place] = rans.left_edge(belief, table, total, x + 1, c, precision) - start
                    starts[base + lane, place] = start
                    _observe(seen[slot, :, lane], walk.inputs[third, x])
                place += 1


@numba.njit(cache=True, nogil=True)
def decode(words, counts, rows_per_stream, walk, precision, rows, ended):  # pragma: no cover - compiled
    """Fill ``rows`` uint16 [R, D] from streams laid end to end; ``ended[s]`` is 1 where a stream ends as it should.

    Eight streams are read side by side.
    """
    k = len(walk.prior)
    c = walk.inputs.shape[1]
    prior = np.ones((walk.down.shape[0], k, LANES))
    seen = np.ones((walk.down.shape[0], k, LANES))
    beliefs = np.empty((k, LANES))
    belief = np.empty(k)
    steps = walk.steps
    mask = np.uint64((1 << precision) - 1)
    begins = np.zeros(LANES, dtype=np.int64)
    left = np.zeros(LANES, dtype=np.int64)
    states = np.zeros(LANES, dtype=np.uint64)
    after = 0
    for first in range(0, len(counts), LANES):
        lanes = min(LANES, len(counts) - first)
        for lane in range(lanes):
            begins[lane] = after
            after += counts[first + lane]
            states[lane], left[lane] = rans.first_state(words[begins[lane] : after], counts[first + lane])
        for offset in range(rows_per_stream):
            while lanes > 0 and (first + lanes - 1) * rows_per_stream + offset >= rows.shape[0]:
                lanes -= 1  # the last stream may hold fewer rows
            if lanes == 0:
                break
            for s in range(steps.shape[0]):
                kind, slot, third = steps[s, 0], steps[s, 1], steps[s, 2]
                if kind == ENTER:
                    _enter(slot, third, walk, prior, seen, beliefs)
                elif kind == EXIT:
                    _leave(slot, third, walk, seen, beliefs)
                else:
                    table = walk.cumulative[third]
                    for lane in range(lanes):
                        total = _believe(prior, seen, slot, lane, belief)
                        slot_of_state = np.int64(states[lane] & mask)
                        x, start, width = rans.find_symbol(belief, table, total, slot_of_state, c, precision)
                        rows[(first + lane) * rows_per_stream + offset, third] = x
                        states[lane], left[lane] = rans.drop_interval(
                            states[lane], start, width, slot_of_state, precision, words[begins[lane] :], left[lane]
                        )
                        _observe(seen[slot, :, lane], walk.inputs[third, x])
        for lane in range(min(LANES, len(counts) - first)):
            ended[first + lane] = states[lane] == rans.ZERO and left[lane] == 0
