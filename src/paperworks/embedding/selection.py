"""Choosing a part of a set of vectors: k-center, herding, facility location, best score first.

Each returns positions in the order of choice, so that the first m of them are the choice of size m. All work on rows
that may be larger than memory: a step reads the rows in chunks and keeps one number for each.
"""

from __future__ import annotations

import heapq
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from paperworks.embedding.rows import as_rows, chunk_rows, chunks, read_at, read_rows, unit_rows
from paperworks.errors import InputError
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

Similarity = Literal["cosine", "dot", "precomputed"]
TOGETHER = 16
"""Gains that the lazy greedy evaluates in one pass over the rows."""
STEP = 1e-11
"""Gains that differ by less than this part of the largest are ties."""
VISITED = 1024
"""Rows that ``score_first`` compares with those taken in one product."""


def k_center_greedy(
    vectors: Any,
    n_select: int,
    *,
    initial: Sequence[int] | np.ndarray = (),
    random_state: int = 0,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Greedy k-center: again and again the row that is farthest from those chosen (Gonzalez 1985).

    The largest distance of a row to the chosen ones is at most twice the least possible (without ``initial``).

    Parameters
    ----------
    vectors : numbers [n, d]; Euclidean distance.
    n_select : rows to choose.
    initial : positions that count as chosen already and are not returned; without any, the first row is random.
    random_state : seed of the first row.

    Returns
    -------
    int64 [n_select], in the order of choice. Of equally far rows the first is taken; no row is taken twice.
    """
    check_seed("random_state", random_state)
    rows = as_rows(vectors, "vectors")
    given = _positions(initial, rows.shape[0], "initial")
    _check_size(n_select, rows.shape[0] - len(given))
    chosen: list[int] = []
    if not len(given):
        chosen.append(int(np.random.default_rng(random_state).integers(rows.shape[0])))
    nearest = np.full(rows.shape[0], np.inf)
    for position in given:
        _approach(rows, int(position), nearest)
    for step in progress(range(n_select), "k-center", n_select):
        if step >= len(chosen):
            chosen.append(int(nearest.argmax()))
        _approach(rows, chosen[step], nearest)
    return np.array(chosen, np.int64)


def coverage_radius(vectors: Any, chosen: Sequence[int] | np.ndarray) -> float:
    """The largest Euclidean distance of a row of ``vectors`` [n, d] to its nearest chosen row."""
    rows = as_rows(vectors, "vectors")
    nearest = np.full(rows.shape[0], np.inf)
    positions = _positions(chosen, rows.shape[0], "chosen")
    if not len(positions):
        raise InputError("chosen", "nothing", "one position or more")
    for position in positions:
        _approach(rows, int(position), nearest)
    return float(np.sqrt(np.maximum(nearest, 0).max()))


def _approach(rows: Any, position: int, nearest: np.ndarray) -> None:
    """Lower the squared distances ``nearest`` by those to a row, which itself becomes -1: it is not chosen again."""
    center = read_at(rows, np.array([position]), "vectors")[0].astype(np.float64)
    for start, block in chunks(rows, chunk_rows(rows.shape[1], 16 * 2**20), "vectors"):
        difference = block - center
        squared = np.einsum("ij,ij->i", difference, difference)
        part = nearest[start : start + len(block)]
        np.minimum(part, squared, out=part)
    nearest[position] = -1.0


def herding(
    vectors: Any,
    n_select: int,
    *,
    target: np.ndarray | None = None,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Herding (Welling 2009): rows whose running mean stays near the mean of all.

    Step t takes the row x, not taken before, of least ``|| t target - (sum of those taken) - x ||``.

    Parameters
    ----------
    vectors : numbers [n, d].
    n_select : rows to choose.
    target : the mean to approach, float [d]; by default that of ``vectors``.

    Returns
    -------
    int64 [n_select], in the order of choice. Of equally good rows the first is taken.
    """
    rows = as_rows(vectors, "vectors")
    count, width = rows.shape
    _check_size(n_select, count)
    size = chunk_rows(width, 16 * 2**20)
    if target is None:
        target = sum(
            (block.sum(axis=0, dtype=np.float64) for _, block in chunks(rows, size, "vectors")), np.zeros(width)
        )
        target = target / count
    target = np.asarray(target, np.float64)
    if target.shape != (width,) or not np.isfinite(target).all():
        raise InputError("target", f"shape {target.shape}", f"finite numbers, shape ({width},)")
    taken = np.zeros(count, bool)
    total = np.zeros(width)
    chosen = np.empty(n_select, np.int64)
    squared = np.empty(count)
    for step in progress(range(n_select), "herding", n_select):
        wanted = (step + 1) * target - total
        for start, block in chunks(rows, size, "vectors", check=False):
            difference = block - wanted
            squared[start : start + len(block)] = np.einsum("ij,ij->i", difference, difference)
        squared[taken] = np.inf
        chosen[step] = squared.argmin()
        taken[chosen[step]] = True
        total += read_at(rows, chosen[step : step + 1])[0]
    return chosen


def facility_location(
    vectors: Any,
    n_select: int,
    *,
    similarity: Similarity = "cosine",
    bonus: np.ndarray | None = None,
    floor: float = 0.0,
    represented: int | None = None,
    random_state: int = 0,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Lazy greedy maximisation of the facility-location function (Minoux 1978).

    ``f(S) = sum over rows i of max(floor, max over j in S of s(i, j)) + sum over j in S of bonus(j)``. Without negative
    bonuses f is monotone and submodular, and the greedy choice reaches at least 1 - 1/e of the best value (Nemhauser,
    Wolsey and Fisher 1978). The choice is that of the plain greedy algorithm, with far fewer evaluations.

    Parameters
    ----------
    vectors : numbers [n, d], or the similarities themselves [n, n] where ``similarity`` is "precomputed" (s(i, j) in
        row i, column j).
    n_select : rows to choose.
    similarity : "cosine", "dot" (inner product) or "precomputed".
    bonus : a value of each row for itself, float [n], such as a weighted quality (QDIT).
    floor : lower similarities count as this; -1 leaves cosines as they are.
    represented : sum over so many random rows instead of all; the time is in proportion to it. Every row can be chosen.
    random_state : seed of those rows.

    Returns
    -------
    int64 [n_select], in the order of choice. Of equal gains the first row is taken.
    """
    check_seed("random_state", random_state)
    rows = as_rows(vectors, "vectors")
    count = rows.shape[0]
    _check_size(n_select, count)
    if similarity not in ("cosine", "dot", "precomputed"):
        raise InputError("similarity", repr(similarity), "cosine, dot or precomputed")
    if similarity == "precomputed" and rows.shape[1] != count:
        raise InputError("vectors", f"shape {rows.shape}", "similarities [n, n]")
    own = np.zeros(count) if bonus is None else np.asarray(bonus, np.float64)
    if own.shape != (count,) or not np.isfinite(own).all():
        raise InputError("bonus", f"shape {own.shape}", f"finite numbers, shape ({count},)")
    base = rows
    if represented is not None:
        if isinstance(represented, bool) or not isinstance(represented, (int, np.integer)) or represented < 1:
            raise InputError("represented", repr(represented), "a whole number, 1 or more, or None")
        if represented < count:
            drawn = np.random.default_rng(random_state).choice(count, represented, replace=False)
            base = read_rows(rows, np.sort(drawn), "vectors")
    best = np.full(base.shape[0], float(floor))
    columns = max(TOGETHER, min(count, 2**24 // base.shape[0]))

    def gains(which: np.ndarray) -> np.ndarray:
        return own[which] + _gains(base, rows, which, best, similarity)

    first = np.concatenate(
        [
            gains(np.arange(start, min(start + columns, count)))
            for start in progress(range(0, count, columns), "first gains")
        ]
    )
    # Gains are compared in steps far above rounding, so that rows of equal gain are equal here too.
    unit = STEP * float(np.abs(first).max()) or 1.0
    heap = [(-gain, j, 0) for j, gain in enumerate(np.rint(first / unit))]
    heapq.heapify(heap)
    chosen: list[int] = []
    for step in progress(range(n_select), "facility location", n_select):
        # A gain only falls: a bound of this step that is on top is the largest gain.
        while heap[0][2] != step:
            stale: list[int] = []
            while heap and len(stale) < TOGETHER and heap[0][2] != step:
                stale.append(heapq.heappop(heap)[1])
            for j, gain in zip(stale, np.rint(gains(np.array(stale)) / unit), strict=True):
                heapq.heappush(heap, (-gain, j, step))
        chosen.append(heapq.heappop(heap)[1])
        _cover(base, rows, chosen[-1], best, similarity)
    return np.array(chosen, np.int64)


def score_first(
    vectors: Any,
    scores: Any,
    n_select: int,
    *,
    min_squared_distance: float = 0.9,
    progress: Progress = no_progress,
) -> np.ndarray:
    """The highest scores first, leaving out what is near to a row taken already (Deita, Liu et al. 2023).

    Rows are visited from the highest score to the lowest. A row is taken where the squared Euclidean distance to every
    row taken before is at least ``min_squared_distance``.

    Parameters
    ----------
    vectors : numbers [n, d]. The published threshold, 0.9, is for unit rows.
    scores : float [n], larger is better.
    n_select : rows to choose, at most n.

    Returns
    -------
    int64 [m], in the order of choice. Of equal scores the first row is visited first. Where fewer rows than
    ``n_select`` are far enough from each other, m is below it, and a UserWarning says so.
    """
    rows = as_rows(vectors, "vectors")
    count, width = rows.shape
    _check_size(n_select, count)
    value = np.asarray(scores, np.float64)
    if value.shape != (count,) or not np.isfinite(value).all():
        raise InputError("scores", f"shape {value.shape}", f"finite numbers, shape ({count},)")
    if not 0 <= min_squared_distance < np.inf:
        raise InputError("min_squared_distance", min_squared_distance, "0 or a positive number")
    order = np.argsort(-value, kind="stable")
    chosen: list[int] = []
    kept = np.empty((n_select, width), np.float32)
    for start in progress(range(0, count, VISITED), "best score first"):
        visited = order[start : start + VISITED]
        block = read_at(rows, visited, "vectors")
        near = _nearest_squared(block, kept[: len(chosen)])
        inside = _squared(block, block)
        for place in range(len(visited)):
            if near[place] >= min_squared_distance:
                kept[len(chosen)] = block[place]
                chosen.append(int(visited[place]))
                np.minimum(near, inside[place], out=near)
                if len(chosen) == n_select:
                    return np.array(chosen, np.int64)
    warnings.warn(
        f"{len(chosen)} of {n_select} rows chosen: the others are nearer than {min_squared_distance:g} (squared) to "
        "one that is",
        stacklevel=2,
    )
    return np.array(chosen, np.int64)


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances of all rows of a to all rows of b, float64 [n, m]."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    found = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b) - 2 * a @ b.T
    return np.maximum(found, 0)


def _nearest_squared(block: np.ndarray, kept: np.ndarray) -> np.ndarray:
    near = np.full(len(block), np.inf)
    for start in range(0, len(kept), 4096):
        np.minimum(near, _squared(block, kept[start : start + 4096]).min(axis=1), out=near)
    return near


def _similarities(base: Any, rows: Any, which: np.ndarray, similarity: Similarity) -> Any:
    """(first row, s[rows of a chunk of base, which of rows]) chunk by chunk."""
    size = max(1, min(chunk_rows(base.shape[1], 16 * 2**20), 2**24 // len(which)))

    def prepared(block: np.ndarray, start: int) -> np.ndarray:
        block = block.astype(np.float64)
        return unit_rows(block, start, "vectors") if similarity == "cosine" else block

    others = None if similarity == "precomputed" else prepared(read_at(rows, which, "vectors"), 0)
    for start, block in chunks(base, size, "vectors"):
        yield start, block[:, which] if others is None else prepared(block, start) @ others.T


def _gains(base: Any, rows: Any, which: np.ndarray, best: np.ndarray, similarity: Similarity) -> np.ndarray:
    total = np.zeros(len(which))
    for start, found in _similarities(base, rows, which, similarity):
        total += np.maximum(found - best[start : start + len(found), None], 0).sum(axis=0)
    return total


def _cover(base: Any, rows: Any, position: int, best: np.ndarray, similarity: Similarity) -> None:
    for start, found in _similarities(base, rows, np.array([position]), similarity):
        part = best[start : start + len(found)]
        np.maximum(part, found[:, 0], out=part)


def _positions(given: Sequence[int] | np.ndarray, count: int, field: str) -> np.ndarray:
    positions = np.asarray(given, np.int64).reshape(-1)
    if len(positions) and (positions.min() < 0 or positions.max() >= count):
        raise InputError(field, f"positions from {positions.min()} to {positions.max()}", f"0 to {count - 1}")
    if len(np.unique(positions)) < len(positions):
        raise InputError(field, "a position twice", "each position once")
    return positions


def _check_size(n_select: int, available: int) -> None:
    if isinstance(n_select, bool) or not isinstance(n_select, (int, np.integer)) or not 1 <= n_select <= available:
        raise InputError("n_select", repr(n_select), f"a whole number from 1 to {available}, the rows there are")
