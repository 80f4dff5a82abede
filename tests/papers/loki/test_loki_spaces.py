"""Label spaces: distances against independent computations, files, and bad input."""

from __future__ import annotations

import itertools
from pathlib import Path
from unittest.mock import Mock

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.loki import (
    EmbeddingSpace,
    GridSpace,
    MatrixSpace,
    TreeSpace,
    complete,
    cycle,
    from_edges,
    load_space,
    ordinal,
    random_tree,
    save_space,
)

EDGES = [("animal", "cat"), ("animal", "dog"), ("dog", "poodle"), ("dog", "beagle"), ("animal", "bird")]


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 40), seed=st.integers(0, 10**6), weighted=st.booleans())
def test_tree_distances_are_those_of_networkx(n: int, seed: int, weighted: bool) -> None:
    tree = random_tree(n, np.random.default_rng(seed), weighted=weighted)
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    labels = tree.label_of_node
    for node in range(1, n):
        graph.add_edge(int(labels[node]), int(labels[tree.parent[node]]), weight=tree.length[node])
    assert nx.is_tree(graph) or n == 0
    right = dict(nx.all_pairs_dijkstra_path_length(graph))
    expected = np.array([[right[a][b] for b in range(n)] for a in range(n)])
    np.testing.assert_allclose(tree.distances(range(n)), expected, atol=1e-12)
    assert tree.diameter() == pytest.approx(expected.max())
    a, b = np.divmod(np.arange(n * n), n)
    np.testing.assert_allclose(tree.paired(a, b), expected.ravel(), atol=1e-12)


def test_uniform_random_trees() -> None:
    """Each code of two numbers gives a tree of its own, so that uniform codes give uniform trees."""
    stars, found = 0, set()
    for code in itertools.product(range(4), repeat=2):
        rng = Mock()
        rng.integers.return_value = np.array(code)
        tree = random_tree(4, rng)
        rng.integers.assert_called_once_with(4, size=2)
        stars += int(tree.degree.max() == 3)
        found.add(tree.distances(range(4)).tobytes())
    assert len(found) == 16  # Cayley: 16 labelled trees on 4 vertices,
    assert stars == 4  # 4 of them stars


def test_a_graph_with_a_cycle_is_a_graph_unless_a_spanning_tree_is_asked_for() -> None:
    ring = from_edges([(i, (i + 1) % 6) for i in range(6)])
    assert ring.kind == "graph"
    assert ring.distances([0]).tolist() == [[0, 1, 2, 3, 2, 1]]
    np.testing.assert_array_equal(cycle(6).distances(range(6)), ring.distances(range(6)))
    tree = from_edges([(i, (i + 1) % 6) for i in range(6)], spanning_tree=True)
    assert isinstance(tree, TreeSpace)
    assert sorted(tree.distances([0])[0]) == [0, 1, 1, 2, 2, 3]
    weighted = from_edges(pd.DataFrame({"a": ["x", "y", "x"], "b": ["y", "z", "z"], "cost": [1.0, 1.0, 5.0]}))
    assert weighted.distances(weighted.index(["x"]), weighted.index(["z"])).item() == 2  # by way of y


def test_leaves_only_keeps_distances_through_inner_nodes() -> None:
    space = from_edges(EDGES, leaves_only=True)
    assert space.labels == ("cat", "poodle", "beagle", "bird")
    assert space.distances(space.index(["poodle"])).tolist() == [[3, 0, 2, 3]]


def test_named_spaces() -> None:
    assert complete(3).distances([0]).tolist() == [[0, 1, 1]]
    assert ordinal(["bad", "fair", "good"], positions=[0, 1, 5]).distances([0]).tolist() == [[0, 1, 5]]
    grid = GridSpace((2, 3))
    assert grid.labels[4] == (1, 1)
    assert grid.distances(grid.index([(0, 0)])).tolist() == [[0, 1, 2, 1, 2, 3]]
    points = EmbeddingSpace(np.array([[3.0, 0.0], [0.0, 2.0], [5.0, 0.0]]), ["a", "b", "c"], distance="cosine")
    np.testing.assert_allclose(points.squared([0]), [[0, 2, 0]], atol=1e-15)  # 2 - 2 cos


def test_labels_meet_as_text_and_as_numbers() -> None:
    space = ordinal([1, 2, 3])
    assert space.index(["2", 2.0, np.int64(2)]).tolist() == [1, 1, 1]
    assert ordinal(["1", "2"]).index([2]).tolist() == [1]
    with pytest.raises(InputError, match="did you mean 'poodle'"):
        from_edges(EDGES).index(["poodel"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: from_edges([]), "no edges"),
        (lambda: from_edges([("a", "a")]), "to itself"),
        (lambda: from_edges([("a", "b", 0.0)]), "above 0"),
        (lambda: from_edges([("a", "b", float("nan"))]), "above 0"),
        (lambda: from_edges([("a", "b"), ("c", "d")]), "no edge connects"),
        (lambda: from_edges([("a", "b"), ("b", "c"), ("c", "a"), ("d", "e")], spanning_tree=True), "no edge connects"),
        (lambda: from_edges([("a", "b", 1, 2)]), "(a, b)"),
        (lambda: from_edges(pd.DataFrame({"a": ["x"], "b": ["y"], "w": ["heavy"]})), "heavy"),
        (lambda: from_edges(pd.DataFrame({"a": ["x", None], "b": ["y", "z"]})), "row 2"),
        (lambda: from_edges(nx.Graph([(0, 1), (1, 2), (2, 0)]), leaves_only=True), "without a vertex of one"),
        (lambda: MatrixSpace(np.array([[0.0, 1.0], [2.0, 0.0]])), "symmetric"),
        (lambda: MatrixSpace(np.array([[1.0, 1.0], [1.0, 0.0]])), "itself"),
        (lambda: MatrixSpace(np.array([[0, 1, 5], [1, 0, 1], [5, 1, 0.0]])), "triangle"),
        (lambda: MatrixSpace(np.array([[0.0, np.nan], [np.nan, 0.0]])), "finite"),
        (lambda: MatrixSpace(np.zeros((2, 3))), "square"),
        (lambda: MatrixSpace(np.zeros((2, 2))), "positive"),
        (lambda: EmbeddingSpace(np.array([[np.inf]])), "finite"),
        (lambda: EmbeddingSpace(np.zeros((2, 2)), distance="cosine"), "zero vector"),
        (lambda: ordinal(["a", "a"]), "twice"),
        (lambda: ordinal(3, positions=[0, 2, 1]), "increasing"),
        (lambda: GridSpace((0, 2)), "at least 1"),
        (lambda: complete([]), "at least one label"),
    ],
)
def test_bad_spaces_are_refused_with_words(make, words: str) -> None:
    with pytest.raises(InputError, match=words.replace("(", r"\(").replace(")", r"\)")):
        make()


def test_a_cost_matrix_need_not_be_a_metric() -> None:
    costs = MatrixSpace(np.array([[0, 1, 5], [1, 0, 1], [5, 1, 0.0]]), metric=False)
    assert costs.metric is False


@pytest.mark.parametrize(
    "space",
    [
        from_edges(EDGES),
        from_edges(EDGES, leaves_only=True),
        from_edges([(0, 1, 2.5), (1, 2, 1.0), (2, 0, 1.0)]),
        MatrixSpace(np.array([[0.0, 1.5], [1.5, 0.0]]), ["a", "b"]),
        EmbeddingSpace(np.array([[1.0, 2.0], [0.0, 1.0]]), ["a", "b"]),
        GridSpace((2, 3)),
        cycle(5),
        complete(["x", "y"]),
    ],
    ids=repr,
)
def test_spaces_are_saved_and_read_back(space, tmp_path: Path) -> None:
    save_space(space, tmp_path / "space.npz")
    again = load_space(tmp_path / "space.npz")
    assert again.labels == space.labels
    np.testing.assert_allclose(again.distances(range(len(space))), space.distances(range(len(space))))
    with pytest.raises(InputError, match="nothing is overwritten"):
        save_space(space, tmp_path / "space.npz")


def test_files_are_read_by_their_form(tmp_path: Path) -> None:
    (tmp_path / "edges.tsv").write_text("parent\tchild\n" + "".join(f"{a}\t{b}\n" for a, b in EDGES))
    assert load_space(tmp_path / "edges.tsv").kind == "tree"
    (tmp_path / "weights.csv").write_text("a;b;w\nx;y;1.5\ny;z;2\n")
    assert load_space(tmp_path / "weights.csv").diameter() == 3.5
    (tmp_path / "matrix.csv").write_text("name,b,a,c\na,1,0,2\nb,0,1,1\nc,1,2,0\n")  # columns in another order
    matrix = load_space(tmp_path / "matrix.csv")
    assert matrix.distances(matrix.index(["a"]), matrix.index(["c"])).item() == 2
    (tmp_path / "points.csv").write_text("name,x,y,z\na,0,0,0\nb,3,4,0\n")
    assert load_space(tmp_path / "points.csv").distances([0], [1]).item() == 5
    np.save(tmp_path / "d.npy", matrix.distances(range(3)))
    assert load_space(tmp_path / "d.npy", ["p", "q", "r"]).kind == "matrix"
    np.save(tmp_path / "e.npy", np.eye(3)[:2])
    assert load_space(tmp_path / "e.npy", ["p", "q"]).kind == "embedding"
    np.save(tmp_path / "c.npy", np.eye(3) * 1j)
    with pytest.raises(InputError, match="complex numbers"):
        load_space(tmp_path / "c.npy", ["p", "q", "r"])
    assert load_space("ordinal", [1, 2, 3]).diameter() == 2


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", "a.csv"),
        ("a.csv", b"\x89PNG\0\0\0", "a.csv"),
        ("a.csv", b"n,x,y,z\na,1,two,3\n", "'two' in column 'x'|'two' in column 'y'"),
        ("a.parquet", b"nothing", "a.parquet"),
        ("a.npy", b"nothing", "no array"),
        ("a.npz", b"nothing", "cannot be read"),
        ("a.json", b"{}", "another kind"),
    ],
)
def test_unreadable_files_are_named(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        load_space(tmp_path / name)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not there"):
        load_space(tmp_path / "none.csv")
    with pytest.raises(InputError, match="a folder"):
        load_space(tmp_path)
    with pytest.raises(InputError, match="did you mean 'ordinal'"):
        load_space("ordnal")
