"""Tours: the optimum by brute force, the heuristics by their guarantees."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.pointer_networks import solve
from paperworks.papers.pointer_networks.generators import make_tsp
from paperworks.papers.pointer_networks.heuristics import (
    christofides,
    greedy_edge,
    lin_kernighan,
    nearest_neighbour,
    nearest_two_opt,
    random_tour,
    reference_tour,
)
from paperworks.papers.pointer_networks.problems import PROBLEMS
from paperworks.papers.pointer_networks.tours import (
    RANDOM_EDGE,
    canonical_tour,
    counter_clockwise,
    held_karp,
    is_tour,
    or_opt,
    tour_length,
    two_opt,
)

METHODS = [greedy_edge, nearest_neighbour, nearest_two_opt, christofides, lambda p: christofides(p, improve=False)]


def test_held_karp_is_brute_force():
    rng = np.random.default_rng(0)
    for n in range(1, 9):
        for _ in range(4):
            p = rng.random((n, 2))
            best = min(tour_length(p, [0, *rest]) for rest in permutations(range(1, n)))
            tour = held_karp(p)
            assert is_tour(tour.tolist(), n)
            assert tour_length(p, tour) == pytest.approx(best, abs=1e-12)
            assert tour[0] == 0
            assert n < 3 or tour[1] < tour[-1]


def test_batched_targets_are_held_karps():
    instances = make_tsp((1, 8), 60, seed=1)
    for points, solution in instances:
        assert tour_length(points, solution) == pytest.approx(tour_length(points, held_karp(points)))
        x, y = points[solution].T
        assert x @ np.roll(y, -1) - np.roll(x, -1) @ y >= -1e-12  # counter-clockwise
        assert solution[0] == 0
        assert np.array_equal(canonical_tour(np.array(solution)), held_karp(points))


def test_a_learned_tour_runs_counter_clockwise_whichever_way_it_came():
    square = np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    for tour in ([0, 2, 1, 3], [3, 1, 2, 0], [1, 2, 0, 3]):
        assert counter_clockwise(square, np.array(tour)).tolist() == [0, 2, 1, 3]
    line = np.zeros((4, 2))
    assert counter_clockwise(line, np.array([0, 3, 1, 2])).tolist() == [0, 2, 1, 3]
    assert [counter_clockwise(line, np.arange(n)).tolist() for n in (1, 2)] == [[0], [0, 1]]


def test_mean_lengths_of_the_paper():
    for n, published, size in ((5, 2.12, 3000), (10, 2.87, 1500)):
        instances = make_tsp(n, size, seed=5)
        assert np.mean([tour_length(*pair) for pair in instances]) == pytest.approx(published, abs=0.03)


@given(st.integers(1, 25), st.integers(0, 2**31), st.booleans())
@settings(max_examples=40, deadline=None)
def test_heuristics_give_tours_also_of_duplicates_and_lines(n, seed, grid):
    rng = np.random.default_rng(seed)
    p = rng.integers(0, 3, (n, 2)).astype(float) if grid else rng.random((n, 2))
    for method in METHODS:
        tour = method(p)
        assert is_tour(tour.tolist(), n)
        assert tour[0] == 0
        assert n < 3 or tour[1] < tour[-1]


@given(st.integers(4, 30), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_improvements_never_make_it_longer_and_leave_no_gain(n, seed):
    rng = np.random.default_rng(seed)
    p, start = rng.random((n, 2)), rng.permutation(n)
    better, moved = two_opt(p, start), or_opt(p, start)
    for tour in (better, moved):
        assert is_tour(tour.tolist(), n)
        assert tour_length(p, tour) <= tour_length(p, start) + 1e-12
    for i in range(n - 1):  # no single reversal helps
        for j in range(i + 1, n):
            turned = np.concatenate([better[:i], better[i : j + 1][::-1], better[j + 1 :]])
            assert tour_length(p, turned) > tour_length(p, better) - 1e-9
    for i in range(n):  # no single city is better elsewhere
        rest = np.delete(moved, i)
        for j in range(n - 1):
            assert tour_length(p, np.insert(rest, j, moved[i])) > tour_length(p, moved) - 1e-9


def test_christofides_keeps_its_bound_and_improvement_helps():
    rng = np.random.default_rng(3)
    for _ in range(60):
        p = rng.random((9, 2))
        best = tour_length(p, held_karp(p))
        plain, improved = (tour_length(p, christofides(p, improve=i)) for i in (False, True))
        assert best - 1e-9 <= improved <= plain + 1e-9
        assert plain <= 1.5 * best + 1e-9


def test_nearest_neighbour_takes_the_nearest():
    p = np.array([[0, 0], [0, 3], [0, 1], [0, 7.0]])
    assert nearest_neighbour(p).tolist() in ([0, 2, 1, 3], [0, 3, 1, 2])
    line = np.array([[0, 0], [1, 0], [3, 0], [6, 0], [10, 0.0]])
    assert tour_length(line, nearest_neighbour(line)) == 20


def test_heuristics_are_ordered_as_in_the_paper():
    rng = np.random.default_rng(4)
    points = [rng.random((20, 2)) for _ in range(60)]
    means = {f: np.mean([tour_length(p, solve(p, f)) for p in points]) for f in ("random", "nearest", "a1", "a2", "a3")}
    assert means["a2"] < means["a1"] < means["random"]
    assert means["a3"] < means["a1"]
    assert means["a1"] < means["nearest"]


def test_random_tours_have_the_known_length():
    rng = np.random.default_rng(6)
    mean = np.mean([tour_length(p := rng.random((10, 2)), random_tour(p, rng)) for _ in range(4000)]) / 10
    assert mean == pytest.approx(RANDOM_EDGE, abs=0.01)
    pairs = rng.random((200_000, 2, 2))
    assert np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=1).mean() == pytest.approx(RANDOM_EDGE, abs=0.003)


def test_reference_tours():
    pytest.importorskip("elkai")
    p = np.random.default_rng(7).random((11, 2))
    exact, name = reference_tour(p)
    assert name == "optimum"
    assert tour_length(p, lin_kernighan(p)) == pytest.approx(tour_length(p, exact), rel=1e-4)
    assert reference_tour(np.random.default_rng(8).random((15, 2)))[1] == "LKH"


def test_tour_metrics_count_valid_tours_only():
    p = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])
    found = PROBLEMS["tsp"].metrics([p] * 3, [[0, 1, 2, 3], [0, 2, 1, 3], [0, 1, 1, 3]], [[0, 1, 2, 3]] * 3)
    assert found["valid"] == pytest.approx(2 / 3)
    assert found["length"] == pytest.approx((4 + 2 + 2 * 2**0.5) / 2)
    assert found["ratio"] == pytest.approx((1 + (2 + 2 * 2**0.5) / 4) / 2)


def test_too_many_points_for_an_exact_tour():
    with pytest.raises(InputError, match="GiB"):
        held_karp(np.random.default_rng(0).random((23, 2)))


def test_a_labeller_must_return_tours():
    assert make_tsp(6, 5, label="a1").solution(0)[0] == 0
    own = make_tsp(6, 5, label=lambda p: np.arange(6)[::-1])
    assert own.solution(0) in ([0, 1, 2, 3, 4, 5], [0, 5, 4, 3, 2, 1])
    with pytest.raises(InputError, match="every index"):
        make_tsp(6, 5, label=lambda p: [0] * 6)
    with pytest.raises(InputError, match="did you mean 'a1'"):
        make_tsp(6, 5, label="a11")
