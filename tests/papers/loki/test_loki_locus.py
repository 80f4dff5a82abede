"""Loci and covers: theorems' values, brute force over weights, and the choice of the next class."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.loki import (
    EmbeddingSpace,
    FrechetMean,
    GridSpace,
    complete,
    cycle,
    from_edges,
    is_locus_cover,
    locus,
    membership,
    minimum_cover,
    next_class,
    ordinal,
    plan,
    random_observed,
    random_tree,
)


@pytest.mark.parametrize("seed", range(12))
def test_locus_of_a_tree_is_the_union_of_paths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tree = random_tree(int(rng.integers(2, 16)), rng, weighted=bool(seed % 2))
    observed = rng.choice(len(tree), min(len(tree), 4), replace=False)
    between = set(observed.tolist())
    for a, b in itertools.combinations(observed.tolist(), 2):
        through = tree.distances([a])[0] + tree.distances([b])[0]
        between |= set(np.flatnonzero(np.isclose(through, tree.distances([a], [b]).item())).tolist())
    assert set(locus(tree, observed).tolist()) == between
    for method in ("lp", "pairwise"):
        for strict in (False, True):
            assert set(locus(tree, observed, method=method, strict=strict).tolist()) == between


@pytest.mark.parametrize("seed", range(6))
def test_leaves_are_the_only_minimum_cover_of_a_tree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tree = random_tree(9, rng, weighted=bool(seed % 2))
    leaves = minimum_cover(tree)
    assert leaves.tolist() == tree.leaves().tolist()
    covers = [
        chosen
        for size in range(1, len(leaves) + 1)
        for chosen in itertools.combinations(range(9), size)
        if is_locus_cover(tree, list(chosen))
    ]
    assert covers == [tuple(leaves.tolist())]


def test_grids() -> None:
    grid = GridSpace((4, 4))
    assert len(locus(grid, [0, 15])) == 16
    assert locus(grid, [0, 15], strict=True).tolist() == [0, 15]
    assert len(locus(grid, [0, 3, 12, 15], strict=True)) == 16
    assert locus(grid, [0, 3]).tolist() == [0, 1, 2, 3]
    other = GridSpace((5, 3))
    assert is_locus_cover(other, [0, 2, 12, 14], identifying=True)
    assert is_locus_cover(other, [0, 14])


def test_complete_graphs_cycles_and_the_cube() -> None:
    assert locus(complete(7), [0, 2, 3]).tolist() == [0, 2, 3]
    assert len(locus(cycle(6), [0, 3])) == 6
    assert len(minimum_cover(cycle(6))) == 2
    assert len(minimum_cover(cycle(7))) == 3
    cube = from_edges([(a, a ^ (1 << bit)) for a in range(8) for bit in range(3)])
    assert len(locus(cube, cube.index([0, 7]))) == 8
    assert len(locus(cube, cube.index([0, 7]), strict=True)) == 2
    assert len(locus(cube, cube.index([0, 3, 5, 6]), strict=True)) == 8


def test_leaves_of_equal_depth_reach_nothing_new_and_a_caterpillar_does() -> None:
    rng = np.random.default_rng(0)
    edges = [("root", f"s{i}") for i in range(4)] + [(f"s{i % 4}", f"leaf{i}") for i in range(12)]
    space = from_edges(edges, leaves_only=True)
    for size in (2, 3, 5):
        chosen = np.sort(rng.choice(12, size, replace=False))
        assert locus(space, chosen).tolist() == chosen.tolist()
    spine = [(i, i + 1) for i in range(5)] + [(i, f"leaf{i}") for i in range(6)]
    caterpillar = from_edges(spine, leaves_only=True)
    reached = locus(caterpillar, caterpillar.index(["leaf0", "leaf5"]))
    assert [caterpillar.labels[i] for i in reached] == ["leaf0", "leaf2", "leaf3", "leaf5"]
    with pytest.raises(InputError, match="not all nodes"):
        locus(caterpillar, [0], method="tree")


def test_euclidean_locus_is_the_cells_that_meet_the_hull() -> None:
    square = [[x, y] for x in range(3) for y in range(3)]
    space = EmbeddingSpace(np.array(square, dtype=float))
    assert locus(space, space.index([0, 2])).tolist() == [0, 1, 2]  # a flat hull reaches no other row
    assert locus(space, [0, 2, 6, 8], strict=True).tolist() == list(range(9))


def test_membership_agrees_with_a_fine_grid_of_weights() -> None:
    rng = np.random.default_rng(1)
    shares = np.linspace(0, 1, 101)
    weights = np.array([[a, b, 1 - a - b] for a in shares for b in shares if a + b <= 1 + 1e-12]).clip(0)
    for _ in range(3):
        space = EmbeddingSpace(rng.normal(size=(12, 2)))
        observed = rng.choice(12, 3, replace=False)
        met = set(np.concatenate(FrechetMean(space, observed).minimisers(weights)).tolist())
        inside = {y for y in range(12) if membership(space, observed, y) >= 0}
        assert met <= inside
        assert len(inside - met) <= 1  # a cell may be missed by the grid of weights only where it is small


@pytest.mark.parametrize("seed", range(8))
def test_the_farthest_class_adds_its_distance_and_no_other_adds_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tree = random_tree(20, rng)
    observed = rng.choice(20, 3, replace=False)
    reached = locus(tree, observed)
    chosen = next_class(tree, observed)
    if not len(chosen):
        assert len(reached) == 20
        return
    gains = {y: len(locus(tree, [*observed, y])) - len(reached) for y in range(20)}
    distance = tree.distances(chosen, reached).min()
    assert gains[int(chosen[0])] == distance == max(gains.values())
    assert gains[int(next_class(tree, observed, gain="lp")[0])] == distance


@pytest.mark.parametrize("seed", range(4))
def test_a_plan_from_the_diameter_is_optimal_on_trees(seed: int) -> None:
    tree = random_tree(11, np.random.default_rng(seed))
    for k in (2, 3, 4):
        best = max(len(locus(tree, list(c))) for c in itertools.combinations(range(11), k))
        assert len(locus(tree, plan(tree, k))) == best


def test_costs_change_the_choice_and_plans_go_on_when_all_is_reached() -> None:
    path = from_edges([(i, i + 1) for i in range(6)] + [(3, "side"), ("side", "end")])
    assert [path.labels[i] for i in next_class(path, path.index([2, 4]))] == [0]
    dear = np.ones(len(path))
    dear[path.index([0, 6])] = 10
    assert path.labels[int(next_class(path, path.index([2, 4]), costs=dear)[0])] == "end"
    assert sorted(plan(ordinal(9), 3).tolist()) == [0, 4, 8]
    assert plan(ordinal(1), 1).tolist() == [0]


def test_crowded_sets_and_bad_input() -> None:
    tree = random_tree(100, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    even = np.mean([len(locus(tree, random_observed(tree, 30, rng))) for _ in range(20)])
    crowded = np.mean([len(locus(tree, random_observed(tree, 30, rng, theta=4.0))) for _ in range(20)])
    assert crowded < even
    assert len(set(random_observed(tree, 100, rng, theta=1e6).tolist())) == 100
    for bad in (
        lambda: random_observed(tree, 101, rng),
        lambda: plan(tree, 0),
        lambda: next_class(tree, [0], k=0),
        lambda: next_class(tree, [0], gain="best"),  # type: ignore[arg-type]
        lambda: next_class(tree, [0], costs=np.zeros(100)),
        lambda: locus(tree, []),
        lambda: locus(tree, [100]),
        lambda: locus(tree, [0], method="guess"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError):
            bad()
