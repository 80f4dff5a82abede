"""The tree of a hidden Chow-Liu tree: pairwise mutual information, maximum spanning tree, root, balancing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np

from paperworks.errors import InputError

Shape = Literal["center", "balanced", "balanced-center"]


@dataclass(frozen=True)
class Tree:
    """A rooted tree over the variables 0..D-1.

    ``parents`` [D]: parent of each variable, -1 for the root. ``order`` [D]: children before parents, root last.
    """

    parents: np.ndarray
    order: np.ndarray

    @classmethod
    def from_parents(cls, parents: Sequence[int] | np.ndarray) -> Tree:
        """Check that ``parents`` is one tree and order its nodes. Raises InputError for a cycle or several roots."""
        above = np.asarray(parents, dtype=np.int64)
        roots = np.flatnonzero(above < 0)
        if above.ndim != 1 or len(roots) != 1 or above.max(initial=-1) >= len(above):
            raise InputError("parents", f"{len(roots)} roots", "one parent per variable and -1 for the one root")
        children = _children(above)
        order, stack = [], [int(roots[0])]
        while stack:
            node = stack.pop()
            order.append(node)
            stack.extend(children[node])
        if len(order) != len(above):
            raise InputError("parents", "a cycle", "a tree, in which every variable leads to the root")
        return cls(above, np.array(order[::-1], dtype=np.int64))

    @property
    def root(self) -> int:
        """The root variable."""
        return int(self.order[-1])

    @property
    def children(self) -> list[list[int]]:
        """Children of each variable, in ascending order."""
        return _children(self.parents)

    def sizes(self) -> np.ndarray:
        """Number of variables in the subtree of each variable, [D]."""
        sizes = np.ones(len(self.parents), dtype=np.int64)
        for node in self.order[:-1]:
            sizes[self.parents[node]] += sizes[node]
        return sizes


def _children(parents: np.ndarray) -> list[list[int]]:
    children: list[list[int]] = [[] for _ in parents]
    for node, parent in enumerate(parents.tolist()):
        if parent >= 0:
            children[parent].append(node)
    return children


def mutual_information(codes: np.ndarray, n_categories: int, pseudocount: float = 0.1) -> np.ndarray:
    """Mutual information of all pairs of columns in nats, float64 [D, D], with a zero diagonal.

    ``codes`` [N, D] holds 0..n_categories-1, or n_categories where a value is missing; a pair is counted over the rows
    in which both are present. Joint counts are smoothed by ``pseudocount`` spread over the cells.
    """
    columns = np.ascontiguousarray(codes.T, dtype=np.uint16)
    return _mutual_information(columns, n_categories, float(pseudocount))


@numba.njit(cache=True, nogil=True)
def _mutual_information(columns, n_categories, pseudocount):  # pragma: no cover - compiled
    d, n = columns.shape
    c = n_categories
    result = np.zeros((d, d))
    joint = np.zeros((c + 1) * (c + 1), dtype=np.int64)
    row = np.zeros(c)
    column = np.zeros(c)
    logs = np.zeros(n + 1)
    share = pseudocount / (c * c)
    for count in range(n + 1):
        logs[count] = np.log(count + share) if count + share > 0 else 0.0
    for i in range(d):
        for j in range(i + 1, d):
            joint[:] = 0
            for s in range(n):
                joint[columns[i, s] * (c + 1) + columns[j, s]] += 1
            row[:] = 0.0
            column[:] = 0.0
            total = 0.0
            inner = 0.0
            for a in range(c):
                for b in range(c):
                    count = joint[a * (c + 1) + b]
                    weight = count + share
                    row[a] += weight
                    column[b] += weight
                    total += weight
                    inner += weight * logs[count]
            if total <= 0.0:
                continue
            outer = 0.0
            for a in range(c):
                if row[a] > 0.0:
                    outer += row[a] * np.log(row[a])
                if column[a] > 0.0:
                    outer += column[a] * np.log(column[a])
            value = (inner - outer) / total + np.log(total)
            result[i, j] = value
            result[j, i] = value
    return result


def spanning_tree(weights: np.ndarray) -> list[tuple[int, int]]:
    """Edges of the maximum spanning tree of the complete graph with ``weights`` [D, D]; of equal edges the lowest pair.

    Values that differ by less than 1e-12 count as equal, so that constant columns do not depend on rounding.
    """
    d = len(weights)
    first, second = np.triu_indices(d, 1)
    rounded = np.round(weights[first, second], 12)
    chosen: list[tuple[int, int]] = []
    group = list(range(d))

    def find(node: int) -> int:
        while group[node] != node:
            group[node] = group[group[node]]
            node = group[node]
        return node

    for edge in np.lexsort((second, first, -rounded)):
        a, b = int(first[edge]), int(second[edge])
        x, y = find(a), find(b)
        if x != y:
            group[max(x, y)] = min(x, y)
            chosen.append((a, b))
            if len(chosen) == d - 1:
                break
    return chosen


def rooted(edges: Sequence[tuple[int, int]], n_variables: int, shape: Shape = "center") -> Tree:
    """Root a tree given by its edges.

    ``center`` roots it at its graph centre. ``balanced`` takes the centroid (no component left is larger than half),
    removes it, and hangs the centroids of the components below it, and so on: this changes edges, and bounds the depth
    by log2 D. ``balanced-center`` does so with graph centres, which bounds nothing.
    """
    neighbours: list[list[int]] = [[] for _ in range(n_variables)]
    for a, b in edges:
        neighbours[a].append(b)
        neighbours[b].append(a)
    if shape == "center":
        return _hang(neighbours, _center(neighbours, range(n_variables)))
    if shape not in ("balanced", "balanced-center"):
        raise InputError("shape", repr(shape), "one of center, balanced, balanced-center")
    pick = _centroid if shape == "balanced" else _center
    parents = np.full(n_variables, -1, dtype=np.int64)
    left = [(list(range(n_variables)), -1)]
    while left:
        component, above = left.pop()
        node = pick(neighbours, component)
        parents[node] = above
        for neighbour in neighbours[node]:
            neighbours[neighbour].remove(node)
            left.append((_component(neighbours, neighbour), node))
        neighbours[node] = []
    return Tree.from_parents(parents)


def chow_liu(
    codes: np.ndarray, n_categories: int, *, shape: Shape = "center", pseudocount: float = 0.1
) -> tuple[Tree, np.ndarray]:
    """The Chow-Liu tree of ``codes`` [N, D] and the mutual information it was built from [D, D]."""
    information = mutual_information(codes, n_categories, pseudocount)
    return rooted(spanning_tree(information), codes.shape[1], shape), information


def coarse_tree(
    codes: np.ndarray, n_categories: int, *, bits: int, rows: int, shape: Shape = "center", pseudocount: float = 0.1
) -> Tree:
    """The Chow-Liu tree of the first ``bits`` bits of the first rows; missing values are a category of their own."""
    shift = max(0, (n_categories - 1).bit_length() - bits)
    some = codes[:rows]
    bins = ((n_categories - 1) >> shift) + 1
    coarse = np.where(some == n_categories, bins, some >> shift)
    return chow_liu(coarse, bins, shape=shape, pseudocount=pseudocount)[0]


def _hang(neighbours: list[list[int]], root: int) -> Tree:
    parents = np.full(len(neighbours), -1, dtype=np.int64)
    stack = [root]
    seen = {root}
    while stack:
        node = stack.pop()
        for neighbour in neighbours[node]:
            if neighbour not in seen:
                seen.add(neighbour)
                parents[neighbour] = node
                stack.append(neighbour)
    return Tree.from_parents(parents)


def _component(neighbours: list[list[int]], start: int) -> list[int]:
    seen, stack = {start}, [start]
    while stack:
        for neighbour in neighbours[stack.pop()]:
            if neighbour not in seen:
                seen.add(neighbour)
                stack.append(neighbour)
    return sorted(seen)


def _center(neighbours: list[list[int]], component: Sequence[int]) -> int:
    """The node of least eccentricity, the lowest of two: leaves are peeled off until one or two nodes are left."""
    degree = {node: len(neighbours[node]) for node in component}
    left = len(degree)
    leaves = [node for node, value in degree.items() if value <= 1]
    while left > 2:
        left -= len(leaves)
        fresh = []
        for leaf in leaves:
            degree[leaf] = 0
            for neighbour in neighbours[leaf]:
                if degree[neighbour] > 0:
                    degree[neighbour] -= 1
                    if degree[neighbour] == 1:
                        fresh.append(neighbour)
        leaves = fresh
    return min(leaves)


def _centroid(neighbours: list[list[int]], component: Sequence[int]) -> int:
    """The node whose removal leaves no component larger than half; the lowest of two."""
    root = component[0]
    above = {root: -1}
    order = [root]
    for node in order:
        for neighbour in neighbours[node]:
            if neighbour != above[node]:
                above[neighbour] = node
                order.append(neighbour)
    size = dict.fromkeys(order, 1)
    largest = dict.fromkeys(order, 0)
    for node in reversed(order):
        parent = above[node]
        if parent >= 0:
            size[parent] += size[node]
            largest[parent] = max(largest[parent], size[node])
    total = len(order)
    return min(order, key=lambda node: (max(largest[node], total - size[node]), node))
