"""Mutual information, Chow-Liu trees, roots and balance."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from paperworks.errors import InputError
from paperworks.papers.pc_compression import Tree, chow_liu
from paperworks.papers.pc_compression.structure import mutual_information, rooted, spanning_tree


def test_mutual_information_is_that_of_scikit_learn_without_smoothing():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (200, 5))
    x[:, 1] = (x[:, 0] + rng.integers(0, 2, 200)) % 4
    found = mutual_information(x, 4, 0.0)
    for i in range(5):
        for j in range(5):
            expected = mutual_info_score(x[:, i], x[:, j]) if i != j else 0.0
            assert found[i, j] == pytest.approx(expected, abs=1e-12)


def test_smoothed_mutual_information_follows_its_formula_and_skips_missing():
    rng = np.random.default_rng(1)
    x = rng.integers(0, 3, (60, 2))
    gaps = x.copy()
    gaps[::7, 0] = 3
    alpha = 0.7
    full = np.zeros((3, 3))
    for a, b in gaps:
        if a < 3:
            full[a, b] += 1
    p = (full + alpha / 9) / (full.sum() + alpha)
    expected = (p * np.log(p / np.outer(p.sum(1), p.sum(0)))).sum()
    assert mutual_information(gaps, 3, alpha)[0, 1] == pytest.approx(expected, rel=1e-12)


@given(st.integers(2, 12), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_spanning_tree_has_the_weight_of_networkx(d, seed):
    weights = np.random.default_rng(seed).integers(0, 6, (d, d)).astype(float)
    weights = np.triu(weights, 1) + np.triu(weights, 1).T
    edges = spanning_tree(weights)
    graph = nx.Graph((a, b, {"weight": weights[a, b]}) for a in range(d) for b in range(a))
    best = nx.maximum_spanning_tree(graph).size("weight")
    assert sum(weights[a, b] for a, b in edges) == best
    assert nx.is_tree(nx.Graph(edges))


def test_ties_go_to_the_lowest_pair():
    assert spanning_tree(np.zeros((5, 5))) == [(0, 1), (0, 2), (0, 3), (0, 4)]


@given(st.integers(1, 40), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_roots_and_balance(d, seed):
    graph = nx.random_labeled_tree(d, seed=seed) if d > 1 else nx.empty_graph(1)
    edges = [(min(e), max(e)) for e in graph.edges]
    centred = rooted(edges, d, "center")
    assert centred.root == min(nx.center(graph))
    assert {(min(v, p), max(v, p)) for v, p in enumerate(centred.parents.tolist()) if p >= 0} == set(edges)
    balanced = rooted(edges, d, "balanced")
    sizes = balanced.sizes()
    for v, p in enumerate(balanced.parents.tolist()):
        assert p < 0 or sizes[v] <= sizes[p] / 2
    depth = max(_depth(balanced.parents, v) for v in range(d))
    assert depth <= math.log2(d) + 1e-9
    Tree.from_parents(rooted(edges, d, "balanced-center").parents)


def _depth(parents, v):
    depth = 0
    while parents[v] >= 0:
        v, depth = parents[v], depth + 1
    return depth


def test_a_chain_of_copies_gives_a_chain():
    rng = np.random.default_rng(3)
    x = np.empty((4000, 6), dtype=int)
    x[:, 0] = rng.integers(0, 3, 4000)
    for v in range(1, 6):
        x[:, v] = np.where(rng.random(4000) < 0.8, x[:, v - 1], rng.integers(0, 3, 4000))
    tree, _ = chow_liu(x, 3)
    assert {(min(v, p), max(v, p)) for v, p in enumerate(tree.parents.tolist()) if p >= 0} == {
        (i, i + 1) for i in range(5)
    }
    assert tree.root == 2


@pytest.mark.parametrize("parents", [[-1, -1], [1, 0], [-1, 2, 1], [-1, 5]])
def test_what_is_no_tree_is_refused(parents):
    with pytest.raises(InputError, match="parents"):
        Tree.from_parents(parents)
