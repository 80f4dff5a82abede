"""Miss-ratio curves and what is read off them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.paging import LRU, Marker, Trace, belady, flip, miss_ratio_curves, oracle, simulate
from paperworks.papers.paging.planner import POLICIES, default_sizes, half_width


@pytest.fixture(scope="module")
def trace():
    return Trace.of(np.random.default_rng(0).zipf(1.3, 4000) % 150)


def test_points_are_replays(trace):
    curves = miss_ratio_curves(trace, [5, 20], ["lru", "marker", "flush"], runs=2, seed=3)
    by = {(p.policy, p.k): p for p in curves.points}
    assert set(by) == {(n, k) for n in ("opt", "lru", "marker", "flush") for k in (5, 20)}
    for k in (5, 20):
        opt = belady(trace, k).misses
        assert by["opt", k].misses == by["flush", k].misses == by["flush", k].bound == opt
        assert by["lru", k].misses == simulate(LRU(k), trace).misses
        seeds = [simulate(Marker(k, random_state=s), trace).misses for s in (3, 4)]
        assert by["marker", k].misses == np.mean(seeds)
        assert by["marker", k].half_width == pytest.approx(12.7062 * np.std(seeds, ddof=1) / math.sqrt(2), rel=1e-4)
    assert curves.curve("lru").tolist() == [by["lru", k].misses / len(trace) for k in (5, 20)]
    with pytest.raises(InputError, match="did you mean 'flush'"):
        curves.curve("flus")


@pytest.mark.parametrize("name", list(POLICIES))
def test_every_policy_stays_above_the_optimum_and_below_its_bound(trace, name):
    rng = np.random.default_rng(0)

    def noisy(whole, k, kind):
        truth = oracle(whole, k, kind)
        return truth if kind == "next_time" else flip(truth, 0.2, rng)

    curves = miss_ratio_curves(trace, [3, 30, 150], [name], predictor=noisy, runs=3)
    opt = {p.k: p.misses for p in curves.points if p.policy == "opt"}
    own = [p for p in curves.points if p.policy == name]
    assert [p.k for p in own] == [3, 30, 150]
    for p in own:
        assert opt[p.k] <= p.misses
        assert math.isnan(p.bound) or p.misses - p.half_width <= p.bound
        if p.k == 150 and name != "mark0":  # everything fits; eager Mark0 still throws pages away
            assert p.misses == trace.distinct
        assert p.eta0 + p.eta1 > 0 or name not in ("flush", "mark0", "mark-and-predict")


def test_smallest_size(trace):
    curves = miss_ratio_curves(trace, range(5, 151, 5), ["lru"])
    target = float(curves.curve("lru")[10])
    size = curves.smallest_size("lru", target)
    assert simulate(LRU(size), trace).miss_ratio <= target < simulate(LRU(size - 5), trace).miss_ratio
    assert curves.smallest_size("opt", target) < size
    assert curves.smallest_size("lru", 0.0) is None


def test_table_and_figure(trace, tmp_path):
    curves = miss_ratio_curves(trace, [5], ["lru", "marker"], runs=1)
    curves.to_csv(tmp_path / "c.csv")
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert lines[0].startswith("policy,k,misses")
    assert len(lines) == 4
    with pytest.raises(InputError, match="exists"):
        curves.to_csv(tmp_path / "c.csv")
    assert len(curves.figure().axes[0].lines) == 3


def test_sizes_and_bad_input(trace):
    assert default_sizes(1) == (1,)
    assert default_sizes(1000)[-1] == 800
    assert list(default_sizes(50)) == sorted(set(default_sizes(50)))
    for options, found in (
        ({"sizes": [0]}, "sizes: found 0"),
        ({"sizes": []}, "at least one size"),
        ({"policies": ["lru", "lfu"]}, "did you mean"),
        ({"runs": 0}, "runs"),
    ):
        with pytest.raises(InputError, match=found):
            miss_ratio_curves(trace, **{"sizes": [2], "policies": ["lru"], **options})
    assert half_width([3]) == 0
