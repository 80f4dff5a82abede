"""The paper's partial evaluation: all prefix marginals of a structured-decomposable circuit, and coding with them.

Variables are taken in the order of the variable tree's leaves. For each, only the units on the path from its leaf up to
the first node whose variables include all those taken so far are evaluated; all others keep their values, and what lies
above is summed out, which the units' top-down probabilities encode.

Float64 in a fixed order, one row at a time. The units of one tree node share a power of two, so that nothing underflows
and scaling is exact.
"""

from __future__ import annotations

import numba
import numpy as np

from paperworks.papers.pc_compression import rans
from paperworks.papers.pc_compression.plans import INPUT, LIFT, PRODUCT, SUM, Plan


@numba.njit(cache=True, nogil=True)
def _evaluate(node, plan, values, exponents, leaf_table, symbol):  # pragma: no cover - compiled
    """Values of the units at a tree node from those below; a leaf's from column ``symbol`` of ``leaf_table``."""
    start, end = plan.starts[node], plan.starts[node + 1]
    if plan.left[node] < 0:
        exponents[node] = 0
    else:
        exponents[node] = exponents[plan.left[node]] + exponents[plan.right[node]]
    top = 0.0
    for u in range(start, end):
        kind = plan.kinds[u]
        if kind == INPUT:
            values[u] = 1.0 if symbol < 0 else leaf_table[plan.first[u], symbol]
        elif kind == PRODUCT:
            values[u] = values[plan.first[u]] * values[plan.second[u]]
        else:
            total = 0.0
            for e in range(plan.first[u], plan.second[u]):
                total += plan.weights[e] * values[plan.edges[e]]
            values[u] = total
        top = max(top, values[u])
    while 0.0 < top < 1.0 / LIFT:
        top *= LIFT
        exponents[node] -= 1
        for u in range(start, end):
            values[u] *= LIFT


@numba.njit(cache=True, nogil=True)
def _top_value(node, plan, values):  # pragma: no cover - compiled
    total = 0.0
    for u in range(plan.starts[node], plan.starts[node + 1]):
        total += plan.outer[u] * values[u]
    return total


@numba.njit(cache=True, nogil=True)
def full_passes(codes, plan):  # pragma: no cover - compiled
    """log p of every row of ``codes`` uint16 [N, D] (C is missing) by evaluating every unit: float64 [N]."""
    n_nodes = len(plan.left)
    c = plan.probabilities.shape[1]
    values = np.empty(len(plan.kinds))
    exponents = np.zeros(n_nodes, dtype=np.int64)
    result = np.empty(codes.shape[0])
    for n in range(codes.shape[0]):
        for node in range(n_nodes):
            symbol = -1
            if plan.left[node] < 0:
                x = codes[n, plan.right[node]]
                if x != c:
                    symbol = int(x)
            _evaluate(node, plan, values, exponents, plan.probabilities, symbol)
        total = _top_value(n_nodes - 1, plan, values)
        result[n] = np.log(total) + exponents[n_nodes - 1] * np.log(LIFT) if total > 0.0 else -np.inf
    return result


@numba.njit(cache=True, nogil=True)
def prefix_marginals(codes, plan):  # pragma: no cover - compiled
    """Log prefix marginals and log lows of complete rows, float64 [N, D] each, along the order."""
    n_nodes = len(plan.left)
    d = len(plan.order)
    values = np.empty(len(plan.kinds))
    exponents = np.empty(n_nodes, dtype=np.int64)
    whole = np.empty((codes.shape[0], d))
    low = np.empty((codes.shape[0], d))
    for n in range(codes.shape[0]):
        values[:] = 1.0
        exponents[:] = 0
        for i in range(d):
            x = np.int64(codes[n, plan.order[i]])
            for cumulative in (True, False):
                table = plan.cumulative if cumulative else plan.probabilities
                node = np.int64(0)
                for p in range(plan.path_starts[i], plan.path_starts[i + 1]):
                    node = plan.paths[p]
                    _evaluate(node, plan, values, exponents, table, x)
                total = _top_value(node, plan, values)
                found = np.log(total) + exponents[node] * np.log(LIFT) if total > 0.0 else -np.inf
                if cumulative:
                    low[n, i] = found
                else:
                    whole[n, i] = found
    return whole, low


@numba.njit(cache=True, nogil=True)
def _leaf_weights(i, plan, values, pull, weights):  # pragma: no cover - compiled
    """Derivative of the prefix probability by every input of the i-th variable, up to a common factor; their number.

    The probability is linear in the inputs of one variable, and so are all its C cumulative values: they need one pass
    down the path instead of C passes up.
    """
    begin, end = plan.path_starts[i], plan.path_starts[i + 1]
    for p in range(begin, end):
        node = plan.paths[p]
        for u in range(plan.starts[node], plan.starts[node + 1]):
            pull[u] = 0.0
    top = plan.paths[end - 1]
    for u in range(plan.starts[top], plan.starts[top + 1]):
        pull[u] = plan.outer[u]
    for p in range(end - 1, begin - 1, -1):
        node = plan.paths[p]
        start, stop = plan.starts[node], plan.starts[node + 1]
        for u in range(stop - 1, start - 1, -1):
            if plan.kinds[u] == SUM:
                for e in range(plan.first[u], plan.second[u]):
                    pull[plan.edges[e]] += pull[u] * plan.weights[e]
            elif plan.kinds[u] == PRODUCT:
                below = plan.paths[p - 1]
                if below == plan.left[node]:
                    pull[plan.first[u]] += pull[u] * values[plan.second[u]]
                else:
                    pull[plan.second[u]] += pull[u] * values[plan.first[u]]
        if p > begin:
            below = plan.paths[p - 1]
            most = 0.0
            for u in range(plan.starts[below], plan.starts[below + 1]):
                most = max(most, pull[u])
            while 0.0 < most < 1.0 / LIFT:
                most *= LIFT
                for u in range(plan.starts[below], plan.starts[below + 1]):
                    pull[u] *= LIFT
    leaf = plan.paths[begin]
    count = 0
    for u in range(plan.starts[leaf], plan.starts[leaf + 1]):
        if plan.kinds[u] == INPUT:
            weights[count] = pull[u]
            count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _total(weights):  # pragma: no cover - compiled
    """Sum of the weights, which become uniform where all are 0 (after a symbol of probability 0)."""
    total = 0.0
    for u in range(len(weights)):
        total += weights[u]
    if total > 0.0:
        return total
    weights[:] = 1.0
    return np.float64(len(weights))


@numba.njit(cache=True, nogil=True)
def _gather(i, plan, tables):  # pragma: no cover - compiled
    """Cumulative tables [C + 1, K] of the inputs at the leaf of the i-th variable into ``tables``; their number."""
    leaf = plan.paths[plan.path_starts[i]]
    count = 0
    for u in range(plan.starts[leaf], plan.starts[leaf + 1]):
        if plan.kinds[u] == INPUT:
            for a in range(tables.shape[0]):
                tables[a, count] = plan.cumulative[plan.first[u], a]
            count += 1
    return count


def leaf_tables(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Cumulative input tables per coded variable, [D, C + 1, most inputs], and the number of inputs, [D]."""
    widest = max(
        int((plan.kinds[plan.starts[leaf] : plan.starts[leaf + 1]] == INPUT).sum())
        for leaf in plan.paths[plan.path_starts[:-1]]
    )
    tables = np.zeros((len(plan.order), plan.cumulative.shape[1], widest))
    counts = np.array([_gather(i, plan, tables[i]) for i in range(len(plan.order))], dtype=np.int64)
    return tables, counts


@numba.njit(cache=True, nogil=True)
def _take(i, symbol, plan, values, exponents):  # pragma: no cover - compiled
    """Put a symbol in, and evaluate its path. A symbol of probability 0 is passed over: it counts as not seen."""
    for attempt in range(2):
        node = np.int64(0)
        for p in range(plan.path_starts[i], plan.path_starts[i + 1]):
            node = plan.paths[p]
            _evaluate(node, plan, values, exponents, plan.probabilities, symbol if attempt == 0 else -1)
        if _top_value(node, plan, values) > 0.0:
            return


@numba.njit(cache=True, nogil=True)
def intervals(rows, plan, tables, counts, precision, starts, widths):  # pragma: no cover - compiled
    """Integer intervals of ``rows`` uint16 [R, D] in coding order, uint32 [R, D] each."""
    c = plan.probabilities.shape[1]
    values = np.empty(len(plan.kinds))
    pull = np.empty(len(plan.kinds))
    exponents = np.empty(len(plan.left), dtype=np.int64)
    weights = np.zeros(tables.shape[2])
    for n in range(rows.shape[0]):
        values[:] = 1.0
        exponents[:] = 0
        for i in range(len(plan.order)):
            count = _leaf_weights(i, plan, values, pull, weights)
            some = weights[:count]
            total = _total(some)
            x = np.int64(rows[n, plan.order[i]])
            table = tables[i]  # whole: a part of it is no contiguous array, for which more would be compiled
            start = rans.left_edge(some, table, total, x, c, precision)
            widths[n, i] = rans.left_edge(some, table, total, x + 1, c, precision) - start
            starts[n, i] = start
            _take(i, x, plan, values, exponents)


@numba.njit(cache=True, nogil=True)
def decode(words, counts, rows_per_stream, plan, tables, n_inputs, precision, rows, ended):  # pragma: no cover
    """Fill ``rows`` uint16 [R, D] from streams laid end to end; ``ended[s]`` is 1 where a stream ends as it should."""
    c = plan.probabilities.shape[1]
    values = np.empty(len(plan.kinds))
    pull = np.empty(len(plan.kinds))
    exponents = np.empty(len(plan.left), dtype=np.int64)
    weights = np.zeros(tables.shape[2])
    mask = np.uint64((1 << precision) - 1)
    base = 0
    for stream in range(len(counts)):
        stretch = words[base : base + counts[stream]]
        base += counts[stream]
        state, left = rans.first_state(stretch, len(stretch))
        for n in range(stream * rows_per_stream, min((stream + 1) * rows_per_stream, rows.shape[0])):
            values[:] = 1.0
            exponents[:] = 0
            for i in range(len(plan.order)):
                count = _leaf_weights(i, plan, values, pull, weights)
                some = weights[:count]
                total = _total(some)
                place = np.int64(state & mask)
                x, start, width = rans.find_symbol(some, tables[i], total, place, c, precision)
                rows[n, plan.order[i]] = x
                state, left = rans.drop_interval(state, start, width, place, precision, stretch, left)
                _take(i, x, plan, values, exponents)
        ended[stream] = state == rans.ZERO and left == 0
