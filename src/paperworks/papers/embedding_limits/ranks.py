"""Exact ranks of small relevance matrices, by enumeration (Propositions 1 and 2).

A rank-d score matrix puts documents at points of R^d and gives each query a direction; a query is right where a
hyperplane across its direction parts its documents from the others. Which parts of n points lines can cut off depends
on the order in which directions see the points. These orders are enumerated as ways of sorting a permutation into its
reverse by swaps of neighbours (allowable sequences; Goodman and Pollack). Up to 8 points each has a set of points in
the plane that is cut alike, so that the answer is exact.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations, product
from typing import Any, NamedTuple

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.embedding_limits.qrels import as_qrels

LARGEST_ORDER = 6
"""Documents at most: for 7 there are too many sequences to hold."""


class SmallRanks(NamedTuple):
    """Ranks of a relevance matrix A; None: more than was decided.

    Attributes
    ----------
    order : rank_rop, least rank of scores with all relevant documents above all others in each row; decided up to 2.
        It equals rank_rt, the least rank with a threshold for each row.
    one_threshold : rank_gt, least rank with one threshold for all rows; decided up to 2, for at most 5 documents.
    sign : sign rank of 2A - 1; decided up to 3.
    """

    order: int | None
    one_threshold: int | None
    sign: int | None


def small_ranks(qrels: Any) -> SmallRanks:
    """The exact ranks of a small relevance matrix [queries, documents], of at most 5 documents.

    Raises
    ------
    InputError : more documents.
    """
    matrix = as_qrels(qrels).toarray()
    if matrix.shape[1] >= LARGEST_ORDER:
        raise InputError("qrels", f"{matrix.shape[1]} documents", f"at most {LARGEST_ORDER - 1}")
    return SmallRanks(order_rank(matrix), one_threshold_rank(matrix), sign_rank(matrix))


def order_rank(qrels: Any) -> int | None:
    """rank_rop of a matrix of at most 6 documents, or None where it is above 2."""
    return _least(_rows(as_qrels(qrels).toarray()), as_qrels(qrels).shape[1])


def sign_rank(qrels: Any) -> int | None:
    """Sign rank of 2A - 1 for at most 6 documents, or None where it is above 3.

    With the signs of some columns turned, vectors of d + 1 dimensions have a positive last coordinate, which can be
    made 1: the sign rank is at most d + 1 if and only if a turned matrix has an order rank of at most d.
    """
    matrix = as_qrels(qrels).toarray()
    ranks = [
        _least(_rows(matrix ^ np.array(turned)), matrix.shape[1])
        for turned in product((False, True), repeat=matrix.shape[1])
    ]
    known = [r for r in ranks if r is not None]
    return min(known) + 1 if known else None


def one_threshold_rank(qrels: Any) -> int | None:
    """rank_gt of a matrix of at most 5 documents, or None where it is above 2.

    A threshold other than 0 can be made 1 or -1: no query may cut the origin off on the side of its documents (or of
    the others), as if it were one more document in no result set (or in all of them).
    """
    matrix = as_qrels(qrels).toarray()
    column = np.zeros((len(matrix), 1), bool)
    found = [_least(_rows(np.hstack([matrix, column | inside])), matrix.shape[1] + 1) for inside in (False, True)]
    sign = sign_rank(matrix)
    found.append(sign if sign is not None and sign <= 2 else None)
    known = [r for r in found if r is not None]
    return min(known) if known else None


def _rows(matrix: np.ndarray) -> frozenset[int]:
    """Result sets as numbers with a bit for each document."""
    return frozenset(int(sum(1 << j for j in np.flatnonzero(row))) for row in matrix)


def _least(rows: frozenset[int], n: int) -> int | None:
    if n > LARGEST_ORDER:
        raise InputError("qrels", f"{n} documents", f"at most {LARGEST_ORDER}")
    everything = (1 << n) - 1
    proper = {r for r in rows if r not in (0, everything)}
    if not proper:
        return 0
    # a set and the rest of it are cut by the same line
    smaller = {min(r, everything ^ r) for r in proper}
    for order in permutations(range(n)):
        if smaller <= _prefixes(order):
            return 1
    for family in _families(n):
        for order in permutations(range(n)):
            if smaller <= _renamed(family, order):
                return 2
    return None


@cache
def _prefixes(order: tuple[int, ...]) -> frozenset[int]:
    everything = (1 << len(order)) - 1
    found, prefix = set(), 0
    for item in order:
        prefix |= 1 << item
        found.add(min(prefix, everything ^ prefix))
    return frozenset(found)


@cache
def _renamed(family: frozenset[int], order: tuple[int, ...]) -> frozenset[int]:
    everything = (1 << len(order)) - 1
    moved = (sum(1 << order[j] for j in range(len(order)) if part >> j & 1) for part in family)
    return frozenset(min(part, everything ^ part) for part in moved)


@cache
def _families(n: int) -> tuple[frozenset[int], ...]:
    """The sets that lines cut off n points, one family for each allowable sequence, up to naming of the points."""
    end = tuple(range(n))[::-1]

    @cache
    def after(order: tuple[int, ...]) -> frozenset[frozenset[int]]:
        own = _prefixes(order)
        if order == end:
            return frozenset([own])
        found: set[frozenset[int]] = set()
        for i in range(n - 1):
            if order[i] < order[i + 1]:
                swapped = (*order[:i], order[i + 1], order[i], *order[i + 2 :])
                found.update(own | family for family in after(swapped))
        return frozenset(found)

    kinds: dict[frozenset[int], frozenset[int]] = {}
    names = list(permutations(range(n)))
    for family in after(tuple(range(n))):
        if family not in kinds:
            kinds.update(dict.fromkeys((_renamed(family, order) for order in names), family))
    return tuple(sorted(set(kinds.values()), key=sorted))
