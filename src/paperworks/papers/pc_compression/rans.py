"""The entropy coder and the integer intervals it codes, compiled, in a fixed order of operations.

Nothing here depends on the machine: integers, and additions, multiplications and divisions of float64 one after the
other (no fused or reordered arithmetic, no library functions).

The stream layout (64-bit state, 32-bit words, state 0 at the start) is that of constriction's ``AnsCoder``, which reads
and writes the same words for the same intervals.
"""

from __future__ import annotations

import numba
import numpy as np

WORD = np.uint64(32)
WORD_MASK = np.uint64(0xFFFFFFFF)
LOWER = np.uint64(1 << 32)
ZERO = np.uint64(0)


@numba.njit(cache=True, nogil=True)
def cumulative(weights, table):  # pragma: no cover - compiled
    """sum_k weights[k] * table[k], in four running sums; monotone in ``table``, since every rounding step is.

    ``table`` may be longer than ``weights``.
    """
    k = len(weights)
    s0 = 0.0
    s1 = 0.0
    s2 = 0.0
    s3 = 0.0
    whole = k - k % 4
    for i in range(0, whole, 4):
        s0 += weights[i] * table[i]
        s1 += weights[i + 1] * table[i + 1]
        s2 += weights[i + 2] * table[i + 2]
        s3 += weights[i + 3] * table[i + 3]
    for i in range(whole, k):
        s0 += weights[i] * table[i]
    return (s0 + s1) + (s2 + s3)


@numba.njit(cache=True, nogil=True)
def left_edge(weights, tables, total, symbol, n_categories, precision):  # pragma: no cover - compiled
    """F(a) = a + floor(P(X < a) (2^n - C)), the start of the symbol's interval; F(0) = 0 and F(C) = 2^n.

    ``tables`` [C + 1, K] hold P(X < a | k). Every interval is at least 1 wide and wider than P(X = a) (2^n - C), so no
    symbol costs more than -log2(1 - C / 2^n) bits beyond its own.
    """
    if symbol <= 0:
        return 0
    if symbol >= n_categories:
        return 1 << precision
    share = cumulative(weights, tables[symbol]) / total
    if not share < 1.0:
        share = 1.0
    return symbol + int(share * ((1 << precision) - n_categories))


@numba.njit(cache=True, nogil=True)
def find_symbol(weights, tables, total, slot, n_categories, precision):  # pragma: no cover - compiled
    """``(symbol, F, f)`` of the interval that holds ``slot``, by bisection."""
    low = 0
    low_edge = 0
    high = n_categories
    high_edge = 1 << precision
    while high - low > 1:
        middle = (low + high) // 2
        edge = left_edge(weights, tables, total, middle, n_categories, precision)
        if edge <= slot:
            low = middle
            low_edge = edge
        else:
            high = middle
            high_edge = edge
    return low, low_edge, high_edge - low_edge


@numba.njit(cache=True, nogil=True)
def push_all(starts, widths, precision, words):  # pragma: no cover - compiled
    """Code intervals, the last one first; returns the number of 32-bit words written to ``words``."""
    state = ZERO
    count = 0
    n = np.uint64(precision)
    high = np.uint64(64 - precision)
    for i in range(len(starts) - 1, -1, -1):
        f = np.uint64(widths[i])
        if (state >> high) >= f:
            words[count] = np.uint32(state & WORD_MASK)
            count += 1
            state = state >> WORD
        state = ((state // f) << n) + (state % f) + np.uint64(starts[i])
    while state > ZERO:
        words[count] = np.uint32(state & WORD_MASK)
        count += 1
        state = state >> WORD
    return count


@numba.njit(cache=True, nogil=True)
def first_state(words, count):  # pragma: no cover - compiled
    """The decoder's first state and the number of words that are left."""
    state = ZERO
    taken = 0
    while taken < 2 and count > 0:
        count -= 1
        state = (state << WORD) | np.uint64(words[count])
        taken += 1
    return state, count


@numba.njit(cache=True, nogil=True)
def drop_interval(state, start, width, slot, precision, words, count):  # pragma: no cover - compiled
    """The state after the symbol in ``[start, start + width)`` was taken off, and the number of words left."""
    state = np.uint64(width) * (state >> np.uint64(precision)) + np.uint64(slot - start)
    if state < LOWER and count > 0:
        count -= 1
        state = (state << WORD) | np.uint64(words[count])
    return state, count
