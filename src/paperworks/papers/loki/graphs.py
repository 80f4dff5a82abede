"""Label spaces from edges: trees, whose shape gives fast exact predictions, and graphs with shortest paths.

A tree keeps its nodes in breadth-first order, so that a parent stands before its children:

    node      0   1   2   3   4          0
    parent   -1   0   0   1   1         / \\
    length    0   1   1   1   2        1   2        depth of 4: 1 + 2
                                      / \\
                                     3   4

``TreeSpace.node`` maps labels to nodes. In a phylogenetic space the labels are the leaves, and the inner nodes only
carry distances.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from paperworks.errors import InputError
from paperworks.papers.loki import kernels
from paperworks.papers.loki.spaces import Label, LabelSpace

Edge = tuple[Label, Label] | tuple[Label, Label, float]


class TreeSpace(LabelSpace):
    """Labels that are nodes of a tree with positive edge lengths.

    Parameters
    ----------
    parent : int64 ``[n]``; the parent of each node, which stands before it; -1 for node 0 only.
    length : float64 ``[n]``; the length of the edge to the parent; 0 for node 0.
    node : int64 ``[N]``, the node of each label; all nodes in order without it.
    """

    kind = "tree"

    def __init__(
        self,
        parent: np.ndarray,
        length: np.ndarray | None = None,
        labels: Sequence[Label] | None = None,
        node: np.ndarray | None = None,
    ) -> None:
        self.parent = np.ascontiguousarray(parent, dtype=np.int64)
        n = len(self.parent)
        self.length = np.ones(n) if length is None else np.array(length, dtype=np.float64)
        if n == 0 or self.parent[0] != -1 or (self.parent[1:] < 0).any() or (self.parent >= np.arange(n)).any():
            raise InputError(
                "parent", "parents in another order", "-1 first, then a parent before each of its children"
            )
        if self.length.shape != self.parent.shape:
            raise InputError("length", f"{len(self.length)} lengths", f"one per node, {n}")
        self.length[0] = 0
        if not (np.isfinite(self.length).all() and (self.length[1:] > 0).all()):
            raise InputError("length", f"{self.length[1:].min()}", "edge lengths above 0")
        self.node = np.arange(n) if node is None else np.asarray(node, dtype=np.int64)
        super().__init__(self.node.tolist() if labels is None else labels)
        if len(self.labels) != len(self.node):
            raise InputError("labels", f"{len(self.labels)} labels", f"one per output node, {len(self.node)}")
        self.n_nodes = n
        self.label_of_node = np.full(n, -1, dtype=np.int64)
        self.label_of_node[self.node] = np.arange(len(self.node))
        self.depth = np.zeros(n)
        kernels.descend(self.parent, self.length, self.depth)

    @property
    def whole(self) -> bool:
        """Whether every node is a label."""
        return len(self.node) == self.n_nodes

    @property
    def degree(self) -> np.ndarray:
        """Number of neighbours of every node, int64 ``[n_nodes]``."""
        return np.bincount(self.parent[1:], minlength=self.n_nodes) + (np.arange(self.n_nodes) > 0)

    def leaves(self) -> np.ndarray:
        """Indices of the labels whose node has at most one neighbour: the leaves, and a root with one child."""
        return np.flatnonzero(self.degree[self.node] <= 1)

    def distances(self, rows: Any, cols: Any = None) -> np.ndarray:
        """See ``LabelSpace.distances``. O(nodes) per row."""
        sources = self.node[np.asarray(rows, dtype=np.int64)]
        targets = self.node if cols is None else self.node[np.asarray(cols, dtype=np.int64)]
        out = np.empty((len(sources), len(targets)))
        kernels.tree_rows(self.parent, self.length, sources, targets, out)
        return out

    def paired(self, left: np.ndarray, right: np.ndarray, *, block: int = 256) -> np.ndarray:
        """See ``LabelSpace.paired``; by the lowest common ancestor of each pair."""
        a, b = self.node[np.asarray(left, dtype=np.int64)], self.node[np.asarray(right, dtype=np.int64)]
        meet = self.common_ancestor(a, b)
        return self.depth[a] + self.depth[b] - 2 * self.depth[meet]

    def common_ancestor(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The lowest common ancestor of nodes, int64 like ``a``."""
        a, b = np.array(a, dtype=np.int64), np.array(b, dtype=np.int64)
        while (different := a != b).any():
            # a node's number is above its ancestors': the larger of two different nodes is no common ancestor
            larger = a > b
            a = np.where(different & larger, self.parent[a], a)
            b = np.where(different & ~larger, self.parent[b], b)
        return a

    def farthest_pair(self) -> tuple[int, int]:
        """See ``LabelSpace.farthest_pair``; by two sweeps, O(nodes)."""
        start = int(np.argmax(self.distances([0])[0]))
        row = self.distances([start])[0]
        end = int(np.argmax(row))
        return (start, end) if start <= end else (end, start)

    def diameter(self) -> float:
        """See ``LabelSpace.diameter``."""
        start, end = self.farthest_pair()
        return float(self.distances([start], [end])[0, 0])

    def steiner(self, labels: np.ndarray) -> np.ndarray:
        """Nodes on the paths between the given labels, bool ``[n_nodes]``."""
        count = np.zeros(self.n_nodes, dtype=np.int64)
        nodes = np.unique(self.node[np.asarray(labels, dtype=np.int64)])
        count[nodes] = 1
        kernels.sum_upwards(self.parent, count)
        inside = (count > 0) & (count < len(nodes))
        inside[nodes] = True
        top = int(np.flatnonzero(count == len(nodes))[-1])  # the deepest node above all of them
        inside[top] = True
        return inside


class GraphSpace(LabelSpace):
    """Vertices of a connected graph with positive edge weights; the distance is that of a shortest path.

    Parameters
    ----------
    adjacency : sparse ``[V, V]``, symmetric.
    node : int64 ``[N]``, the vertex of each label; all vertices in order without it.
    """

    kind = "graph"

    def __init__(self, adjacency: Any, labels: Sequence[Label] | None = None, node: np.ndarray | None = None) -> None:
        self.adjacency = sparse.csr_matrix(adjacency, dtype=np.float64)
        n = self.adjacency.shape[0]
        self.node = np.arange(n) if node is None else np.asarray(node, dtype=np.int64)
        super().__init__(self.node.tolist() if labels is None else labels)
        if len(self.labels) != len(self.node):
            raise InputError("labels", f"{len(self.labels)} labels", f"one per output vertex, {len(self.node)}")
        if self.adjacency.nnz and not (self.adjacency.data > 0).all():
            raise InputError("edges", f"a weight of {self.adjacency.data.min()}", "weights above 0")
        parts, component = csgraph.connected_components(self.adjacency, directed=False)
        if parts > 1:
            sizes = np.bincount(component)
            alone = int(np.flatnonzero(component == int(np.argmin(sizes)))[0])
            name = repr(self.labels[alone]) if len(self.node) == n else f"vertex {alone}"
            raise InputError(
                "edges",
                f"{parts} parts that no edge connects (the smallest has {sizes.min()} vertices, such as {name})",
                "a connected graph, or one label space per part",
            )

    def distances(self, rows: Any, cols: Any = None) -> np.ndarray:
        """See ``LabelSpace.distances``. One search per row (Dijkstra; breadth first where all weights are 1)."""
        sources = self.node[np.asarray(rows, dtype=np.int64)]
        unweighted = bool((self.adjacency.data == 1).all())
        found = csgraph.dijkstra(self.adjacency, directed=False, indices=sources, unweighted=unweighted)
        return found[:, self.node if cols is None else self.node[np.asarray(cols, dtype=np.int64)]]


def from_edges(
    edges: Any,
    *,
    leaves_only: bool = False,
    weight: str | None = None,
    spanning_tree: bool = False,
) -> TreeSpace | GraphSpace:
    """A label space from edges: a tree if they form one, a graph otherwise.

    Parameters
    ----------
    edges : pairs or triples ``(a, b[, weight])``; a networkx graph; or a data frame whose first two columns are the
        ends (parent and child, in any order), and whose third, or the one named ``weight``, is the weight.
    leaves_only : labels are the vertices with one neighbour. An isolated vertex is never one.
    weight : column or edge attribute with the weight; all weights are 1 without one.
    spanning_tree : of a graph with cycles, keep each vertex's first edge to a vertex that was reached before, breadth
        first from the first vertex. For hierarchies in which few vertices have two parents.

    Raises
    ------
    InputError : no edges, loops, weights that are not above 0, or parts that no edge connects.
    """
    triples = _triples(edges, weight)
    if not triples:
        raise InputError("edges", "no edges", "at least one edge (a, b)")
    names: dict[Label, int] = {}
    shortest: dict[tuple[int, int], float] = {}
    for a, b, w in triples:
        if a == b:
            raise InputError("edges", f"an edge from {a!r} to itself", "edges between different labels")
        if not (np.isfinite(w) and w > 0):
            raise InputError("edges", f"weight {w} between {a!r} and {b!r}", "weights above 0")
        i, j = names.setdefault(a, len(names)), names.setdefault(b, len(names))
        key = (min(i, j), max(i, j))
        shortest[key] = min(w, shortest.get(key, np.inf))
    labels, n = list(names), len(names)
    ends = np.array(list(shortest), dtype=np.int64)
    weights = np.array(list(shortest.values()))
    adjacency = sparse.csr_matrix((weights, (ends[:, 0], ends[:, 1])), shape=(n, n))
    adjacency = adjacency + adjacency.T
    if not spanning_tree and len(shortest) != n - 1:
        space = GraphSpace(adjacency, labels)
        if not leaves_only:
            return space
        node = np.flatnonzero(np.diff(space.adjacency.indptr) == 1)
        if not len(node):
            raise InputError("edges", "a graph without a vertex of one neighbour", "leaves, or leaves_only=False")
        return GraphSpace(adjacency, [labels[i] for i in node], node)
    order, before = csgraph.breadth_first_order(adjacency, 0, directed=False)
    if len(order) < n:
        GraphSpace(adjacency, labels)  # says which part is not connected
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    parent = np.concatenate([[-1], place[before[order[1:]]]])
    length = np.concatenate([[0.0], np.asarray(adjacency[before[order[1:]], order[1:]]).ravel()])
    # labels keep the order in which the edges name them
    tree = TreeSpace(parent, length, labels, place)
    if not leaves_only:
        return tree
    leaves = tree.leaves()
    return TreeSpace(parent, length, [labels[i] for i in leaves], place[leaves])


def ordinal(levels: int | Sequence[Label], positions: Sequence[float] | None = None) -> TreeSpace:
    """Ordered labels, such as grades: a path with steps of 1, or with the distances between ``positions``."""
    labels = list(range(levels)) if isinstance(levels, int) else list(levels)
    steps = np.ones(len(labels)) if positions is None else np.diff(np.asarray(positions, dtype=np.float64), prepend=0)
    if len(steps) != len(labels) or (steps[1:] <= 0).any():
        raise InputError("positions", positions, f"{len(labels)} increasing numbers, one per level")
    return TreeSpace(np.arange(-1, len(labels) - 1), steps, labels)


def random_tree(n: int, rng: np.random.Generator, *, weighted: bool = False) -> TreeSpace:
    """A labelled tree drawn uniformly (Pruefer sequences), rooted at label 0; lengths from (0.5, 2) if weighted."""
    if n < 1:
        raise InputError("n", n, "at least 1")
    if n <= 2:
        return TreeSpace(np.arange(-1, n - 1))
    edges = _pruefer(rng.integers(n, size=n - 2), n)
    lengths = rng.uniform(0.5, 2, size=n - 1) if weighted else np.ones(n - 1)
    adjacency = sparse.csr_matrix((lengths, (edges[:, 0], edges[:, 1])), shape=(n, n))
    adjacency = adjacency + adjacency.T
    order, before = csgraph.breadth_first_order(adjacency, 0, directed=False)
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    parent = np.concatenate([[-1], place[before[order[1:]]]])
    length = np.concatenate([[0.0], np.asarray(adjacency[before[order[1:]], order[1:]]).ravel()])
    return TreeSpace(parent, length, range(n), place)


def _pruefer(code: np.ndarray, n: int) -> np.ndarray:
    degree = np.bincount(code, minlength=n) + 1
    edges = np.empty((n - 1, 2), dtype=np.int64)
    pointer = leaf = int(np.argmax(degree == 1))
    for at, vertex in enumerate(code.tolist()):
        edges[at] = leaf, vertex
        degree[vertex] -= 1
        if degree[vertex] == 1 and vertex < pointer:
            leaf = vertex
        else:
            pointer += 1
            while degree[pointer] != 1:
                pointer += 1
            leaf = pointer
    edges[-1] = leaf, n - 1
    return edges


def _triples(edges: Any, weight: str | None) -> list[tuple[Label, Label, float]]:
    if hasattr(edges, "is_directed") and hasattr(edges, "edges"):  # networkx
        given: Iterable[Any] = edges.edges(data=weight or "weight", default=1.0)
        isolated = [v for v in edges.nodes if edges.degree(v) == 0]
        if isolated and len(edges) > 1:
            raise InputError("edges", f"vertex {isolated[0]!r} without an edge", "a connected graph")
        return [(a, b, float(w)) for a, b, w in given]
    if hasattr(edges, "columns"):  # a data frame
        if len(edges.columns) < 2:
            raise InputError("edges", f"{len(edges.columns)} column", "two columns with the ends of each edge")
        names = list(edges.columns)
        if weight is not None and weight not in names:
            raise InputError("weight", repr(weight), f"a column among {', '.join(map(str, names))}")
        column = weight if weight is not None else (names[2] if len(names) > 2 else None)
        values = [1.0] * len(edges) if column is None else _numbers(edges[column], column)
        rows = zip(edges[names[0]].tolist(), edges[names[1]].tolist(), values, strict=True)
        found = list(rows)
        for at, (a, b, _) in enumerate(found):
            if a != a or b != b or a in ("", None) or b in ("", None):
                raise InputError("edges", f"an empty cell in row {at + 1}", "a label at both ends of every edge")
        return found
    out = []
    for edge in edges:
        if len(edge) not in (2, 3):
            raise InputError("edges", f"{edge!r}", "(a, b) or (a, b, weight)")
        out.append((edge[0], edge[1], float(edge[2]) if len(edge) == 3 else 1.0))
    return out


def _numbers(column: Any, name: Any) -> list[float]:
    try:
        return [float(x) for x in column]
    except (TypeError, ValueError):
        odd = next(x for x in column if not _is_number(x))
        raise InputError("edges", f"{odd!r} in column {name!r}", "a number above 0 as the weight") from None


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
