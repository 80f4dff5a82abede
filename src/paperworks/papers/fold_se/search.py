"""The best literal for a split of rows into positive and negative ones: one pass per column, with prefix sums.

Literals are coded by the column, the operator's position in ``rules.OPERATORS`` and the rank code of the value
(``columns.RankCodes``). An operator's exact negation is its position with the lowest bit flipped.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

EQUAL, NOT_EQUAL, AT_MOST, NOT_AT_MOST, ABOVE, NOT_ABOVE = range(6)


@njit(cache=True, inline="never")
def score(tp: float, fn: float, tn: float, fp: float, gini: bool) -> float:
    """The score of a literal; higher is better, minus infinity if it is wrong more often than right.

    ``tp``, ``fn``: positives on which it is true, false. ``tn``, ``fp``: negatives on which it is false, true.
    With ``gini`` the Magic Gini Impurity of FOLD-SE, -(sqrt(tp*fp) + sqrt(tn*fn)) / T; else the information gain of
    FOLD-R++ and FOLD-RM in nats, [F(tp,fp) + F(fp,tp) + F(tn,fn) + F(fn,tn)] / T with F(a,b) = a ln(a / (a+b)).
    """
    if tp + tn < fp + fn:
        return -np.inf
    total = tp + fn + tn + fp
    if gini:
        return -(math.sqrt(tp * fp) + math.sqrt(tn * fn)) / total
    gain = 0.0
    if tp > 0:
        gain += tp * math.log(tp / (tp + fp))
    if fp > 0:
        gain += fp * math.log(fp / (tp + fp))
    if tn > 0:
        gain += tn * math.log(tn / (tn + fn))
    if fn > 0:
        gain += fn * math.log(fn / (tn + fn))
    return gain / total


@njit(cache=True, inline="never")
def _tally(codes, rows, weights, counts, touched, n_touched, other):
    """Add the weights of the rows to ``counts`` by code; list each code that neither ``counts`` nor ``other`` had."""
    for i in range(len(rows)):
        code = codes[rows[i]]
        if counts[code] == 0 and other[code] == 0:
            touched[n_touched] = code
            n_touched += 1
        counts[code] += weights[i]
    return n_touched


@njit(cache=True, inline="never")
def _sort(values, n):
    """Sort the first n values (Shell sort: compiling numpy's own would take longer than all of the rest)."""
    gap = 1
    while gap < n // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, n):
            value, j = values[i], i
            while j >= gap and values[j - gap] > value:
                values[j] = values[j - gap]
                j -= gap
            values[j] = value
        gap //= 3


@njit(cache=True)
def best_literal(
    codes,
    numeric_counts,
    value_counts,
    positive,
    negative,
    positive_weights,
    negative_weights,
    used,
    complete,
    gini,
    scratch,
    touched,
    taken,
):
    """The first literal with the highest score, as ``(score, column, operator, code)``; column -1 if none passes.

    Parameters
    ----------
    codes, numeric_counts, value_counts : of ``RankCodes``.
    positive, negative : int32 row numbers of E+ and E-, with their weights (all of one dtype).
    used : ``(m, 3)`` int64, the literals of the rule so far and of the rules around it: column, operator, code.
    complete : whether negated comparisons are literals of their own (FOLD-SE), or only the four of FOLD-R++.
    gini : the score, see ``score``.
    scratch, touched, taken : work space, ``(2, values)`` of the weights' dtype, ``(values,)`` int32 and ``(values,)``
        int8 for the largest number of values of a column; all zero before and after.
    """
    best, best_column, best_operator, best_code = -np.inf, -1, -1, -1
    pos, neg = scratch[0], scratch[1]
    n_positive, n_negative = positive_weights.sum(), negative_weights.sum()
    n_rows = len(positive) + len(negative)
    for column in range(codes.shape[0]):
        numeric_count, value_count = numeric_counts[column], value_counts[column]
        mine = codes[column]
        for u in range(used.shape[0]):
            if used[u, 0] == column:
                # One bit per pair of a literal and its negation; FOLD-R++ drops the value for all numeric literals.
                pair = used[u, 1] // 2
                taken[used[u, 2]] |= 1 << pair if complete or pair == 0 else 6
        # The values that occur, in ascending order: by a scan of all values, or by sorting the few that occur.
        if value_count > 16 * n_rows:
            none = np.int64(0)  # no literal, for which the function would be compiled once more
            n = _tally(mine, positive, positive_weights, pos, touched, none, neg)
            n = _tally(mine, negative, negative_weights, neg, touched, n, pos)
            _sort(touched, n)
        else:
            for i in range(len(positive)):
                pos[mine[positive[i]]] += positive_weights[i]
            for i in range(len(negative)):
                neg[mine[negative[i]]] += negative_weights[i]
            n = 0
            for code in range(value_count):
                if pos[code] != 0 or neg[code] != 0:
                    touched[n] = code
                    n += 1
        string_positive, string_negative = pos[0] * 0, neg[0] * 0
        n_numbers = n
        while n_numbers > 0 and touched[n_numbers - 1] >= numeric_count:
            n_numbers -= 1
            string_positive += pos[touched[n_numbers]]
            string_negative += neg[touched[n_numbers]]
        number_positive, number_negative = n_positive - string_positive, n_negative - string_negative
        strings = n_numbers < n
        below_positive, below_negative = pos[0] * 0, neg[0] * 0
        for i in range(n_numbers):
            code = touched[i]
            below_positive += pos[code]
            below_negative += neg[code]
            above_positive, above_negative = number_positive - below_positive, number_negative - below_negative
            flags = taken[code]
            if not flags & 2:
                s = score(
                    below_positive,
                    above_positive + string_positive,
                    above_negative + string_negative,
                    below_negative,
                    gini,
                )
                if s > best:
                    best, best_column, best_operator, best_code = s, column, AT_MOST, code
                if complete:
                    s = score(
                        above_positive + string_positive,
                        below_positive,
                        below_negative,
                        above_negative + string_negative,
                        gini,
                    )
                    if s > best:
                        best, best_column, best_operator, best_code = s, column, NOT_AT_MOST, code
            # Without strings "above" equals "not at most", which came first and wins the tie.
            if not flags & 4 and (strings or not complete or flags & 2):
                s = score(
                    above_positive,
                    below_positive + string_positive,
                    below_negative + string_negative,
                    above_negative,
                    gini,
                )
                if s > best:
                    best, best_column, best_operator, best_code = s, column, ABOVE, code
                if complete:
                    s = score(
                        below_positive + string_positive,
                        above_positive,
                        above_negative,
                        below_negative + string_negative,
                        gini,
                    )
                    if s > best:
                        best, best_column, best_operator, best_code = s, column, NOT_ABOVE, code
        for i in range(n_numbers, n):
            code = touched[i]
            if taken[code] & 1:
                continue
            p, q = pos[code], neg[code]
            s = score(p, n_positive - p, n_negative - q, q, gini)
            if s > best:
                best, best_column, best_operator, best_code = s, column, EQUAL, code
            s = score(n_positive - p, p, q, n_negative - q, gini)
            if s > best:
                best, best_column, best_operator, best_code = s, column, NOT_EQUAL, code
        for i in range(n):
            pos[touched[i]] = 0
            neg[touched[i]] = 0
            touched[i] = 0
        for u in range(used.shape[0]):
            if used[u, 0] == column:
                taken[used[u, 2]] = 0
    return best, best_column, best_operator, best_code


@njit(cache=True)
def select(codes, rows, weights, operator, code, numeric_count, want):
    """The rows (and their weights) on which a literal's truth equals ``want``, in their order."""
    kept, kept_weights = np.empty_like(rows), np.empty_like(weights)
    n = 0
    for i in range(len(rows)):
        if is_true(codes[rows[i]], operator, code, numeric_count) == want:
            kept[n] = rows[i]
            kept_weights[n] = weights[i]
            n += 1
    return kept[:n].copy(), kept_weights[:n].copy()


@njit(cache=True, inline="always")
def is_true(cell, operator, code, numeric_count):
    """The truth of a literal on a coded cell: strings have codes above those of all numbers."""
    if operator == EQUAL:
        return cell == code
    if operator == NOT_EQUAL:
        return cell != code
    if operator == AT_MOST:
        return cell <= code
    if operator == NOT_AT_MOST:
        return cell > code
    if operator == ABOVE:
        return code < cell < numeric_count
    return not (code < cell < numeric_count)
