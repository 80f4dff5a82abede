"""Critical n: for how many documents free embeddings return all k-subsets; and a curve through such numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.embedding_limits.published import CRITICAL_N
from paperworks.papers.embedding_limits.qrels import all_subsets
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import write_text

SWEEP = (4, 5)
"""Documents below and above the number that the search found, all of which are tried."""
LARGEST_SCORES = 2**31
"""Cells of the score matrix (queries times documents) that a search may ask for."""


@dataclass(frozen=True)
class CriticalN:
    """What a search found.

    Attributes
    ----------
    n : the largest number of documents of which every k-subset was returned. It measures this optimisation (softmax
        loss, unit vectors, float32, early stopping), and is not a geometric limit.
    tried : documents -> best accuracy, of all that were tried.
    monotone : whether every smaller number that was tried was solved too; local minima can make it False.
    """

    d: int
    k: int
    n: int
    tried: dict[int, float]
    monotone: bool


def critical_n(
    d: int,
    k: int = 2,
    start: int | None = None,
    *,
    n_init: int = 1,
    sweep: tuple[int, int] = SWEEP,
    cache: str | Path | None = None,
    progress: Progress = no_progress,
    **settings: Any,
) -> CriticalN:
    """Search for the largest n whose k-subsets d dimensions return, with ``FreeEmbeddings``.

    From ``start`` up in steps of 1, 2, 4, ... to the first failure, or down to the first success; bisection between;
    then every n from ``sweep[0]`` below to ``sweep[1]`` above is tried.

    Parameters
    ----------
    start : documents to begin with; by default what the paper's curve has for d (k = 2), else 2k + d.
    n_init : starting points of each fit; one success counts.
    cache : a JSON file of accuracies by settings. What is in it is not fitted again; it is written after every fit.
    settings : of ``FreeEmbeddings``.

    Raises
    ------
    InputError : a start below 1, or a search that reaches score matrices of more than 2^31 cells.
    """
    from paperworks.papers.embedding_limits.free import FreeEmbeddings

    if k < 1:
        raise InputError("k", k, "1 or more")
    if start is not None and start < 1:
        raise InputError("start", start, "1 or more")
    if len(sweep) != 2 or min(sweep) < 0:
        raise InputError("sweep", sweep, "two numbers of 0 or more: below, above")
    known = _Cache(cache)
    solver = FreeEmbeddings(d, n_init=n_init, **settings)
    signature = {
        name: getattr(solver, name)
        for name in ("d", "lr", "temperature", "max_iter", "patience", "min_delta", "log_every", "seed", "n_init")
    }

    def accuracy(n: int) -> float:
        if n <= k:  # one subset, or none: all documents are relevant
            return 1.0
        if comb(n, k) * n > LARGEST_SCORES:
            raise InputError("start", f"{n} documents with {comb(n, k):,} subsets", "a search among fewer documents")
        qrels = all_subsets(n, k)
        return float(solver.fit(qrels, progress=progress).accuracy_)

    tried: dict[int, float] = {}

    def solved(n: int) -> bool:
        if n not in tried:
            tried[n] = known.get(json.dumps({**signature, "k": k, "n": n}, sort_keys=True), lambda: accuracy(n))
        return tried[n] == 1.0

    found = _search(solved, start or _start(d, k))
    for n in range(max(1, found - sweep[0]), found + sweep[1] + 1):
        solved(n)
    largest = max((n for n in tried if solved(n)), default=0)
    ordered = dict(sorted(tried.items()))
    return CriticalN(d, k, largest, ordered, all(a == 1.0 for n, a in ordered.items() if n <= largest))


def _start(d: int, k: int) -> int:
    if k == 2 and d >= min(CRITICAL_N):
        return max(1, round(paper_curve()(d)))
    return 2 * k + d


def _search(solved: Callable[[int], bool], start: int) -> int:
    """The largest solved number, as if solvability were monotone; 0 where 1 is not solved."""
    step = 1
    if solved(start):
        low, high = start, start + 1
        while solved(high):
            low, step = high, 2 * step
            high = low + step
    else:
        low, high = start - 1, start
        while low >= 1 and not solved(low):
            high, step = low, 2 * step
            low = max(low - step, 0)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if solved(middle) else (low, middle)
    return low


class _Cache:
    """Accuracies by signature, in a JSON file or in nothing."""

    def __init__(self, path: str | Path | None) -> None:
        self._path = None if path is None else Path(path)
        self._known: dict[str, float] = {}
        if self._path is not None and self._path.exists():
            try:
                self._known = dict(json.loads(self._path.read_text(encoding="utf-8")))
            except (ValueError, TypeError, OSError):
                raise InputError("cache", f"{self._path}, of another form", "a file that critical_n wrote") from None

    def get(self, signature: str, compute: Callable[[], float]) -> float:
        if signature not in self._known:
            self._known[signature] = compute()
            if self._path is not None:
                write_text(self._path, json.dumps(self._known, indent=1))
        return self._known[signature]


@dataclass(frozen=True)
class Curve:
    """A polynomial of critical n on dimensions.

    Attributes
    ----------
    coefficients : of d^0, d^1, ...
    r2 : share of the variance that it explains.
    fitted : the least and the largest dimension that it was fitted to; elsewhere it extrapolates.
    """

    coefficients: tuple[float, ...]
    r2: float
    fitted: tuple[int, int]

    def __call__(self, d: float) -> float:
        """The value at d dimensions."""
        return float(np.polynomial.polynomial.polyval(d, self.coefficients))

    def dimensions(self, n: float) -> int | None:
        """The fewest dimensions whose value is n or more, up to a million; None beyond."""
        low, high = 0, 1_000_000
        if self(high) < n:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self(middle) >= n else (middle, high)
        return high


def fit_curve(points: Mapping[int, float] | Iterable[tuple[int, float]], degree: int = 3) -> Curve:
    """Least-squares polynomial through points (dimensions -> critical n, or pairs of them).

    Raises
    ------
    InputError : fewer points than coefficients.
    """
    known = dict(points)
    if degree < 0 or len(known) < degree + 1:
        raise InputError("points", f"{len(known)} for degree {degree}", f"{max(degree, 0) + 1} or more")
    d, n = (np.array(list(side), np.float64) for side in (known.keys(), known.values()))
    coefficients = np.polyfit(d, n, degree)
    rest = float(((n - np.polyval(coefficients, d)) ** 2).sum())
    total = float(((n - n.mean()) ** 2).sum())
    ends = (int(d.min()), int(d.max()))
    return Curve(tuple(coefficients[::-1].tolist()), 1.0 - rest / total if total else 1.0, ends)


def paper_curve() -> Curve:
    """The cubic of the paper's Table 6, with all digits (the printed 0.0037 is rounded)."""
    return fit_curve(CRITICAL_N)
