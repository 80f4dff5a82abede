"""Nearest neighbours against a full comparison in float64, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from paperworks.embedding import NearestNeighbors, neighbors
from paperworks.errors import InputError

METRICS = ("euclidean", "cosine", "inner_product")


def _brute(queries: np.ndarray, x: np.ndarray, k: int, metric: str, own: bool) -> tuple[np.ndarray, np.ndarray]:
    q, x = queries.astype(float), x.astype(float)
    if metric == "euclidean":
        distance = np.linalg.norm(q[:, None] - x[None], axis=2)
    elif metric == "cosine":
        norms = np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(x, axis=1)[None]
        distance = np.round(1 - np.clip(q @ x.T / norms, -1, 1), 12)
    else:
        distance = -(q @ x.T)
    if own:
        np.fill_diagonal(distance, np.inf)
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distance, order, 1), order


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "QUERY_ROWS", 7)
    monkeypatch.setattr(neighbors, "_block_rows", lambda rows: 11)


@given(st.integers(0, 10_000), st.sampled_from(METRICS), st.integers(1, 12), st.booleans(), st.sampled_from([0, 1000]))
@settings(max_examples=40, deadline=None)
def test_ties_are_those_of_brute_force(seed: int, metric: str, k: int, own: bool, offset: int) -> None:
    rng = np.random.default_rng(seed)
    offset = 0 if metric == "cosine" else offset  # far away, cosines of float64 differ in their last digits only
    x = rng.integers(-1, 2, (40, 3)).astype(np.float32) + offset  # few values: equal rows and equal distances
    x[(x == 0).all(axis=1)] = 1
    queries = x if own else rng.integers(1, 3, (9, 3)).astype(np.float32) + offset
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "QUERY_ROWS", 7)
        patch.setattr(neighbors, "_block_rows", lambda rows: 11)
        found = NearestNeighbors(k, metric=metric).fit(x).kneighbors(None if own else queries)
    distance, position = _brute(queries, x, k, metric, own)
    np.testing.assert_allclose(found[0], distance, atol=1e-9)
    np.testing.assert_array_equal(found[1], position)


@pytest.mark.parametrize("metric", METRICS)
def test_random_rows(metric: str, small_blocks: None) -> None:
    rng = np.random.default_rng(0)
    x, queries = rng.standard_normal((300, 20)).astype(np.float32), rng.standard_normal((31, 20)).astype(np.float32)
    found = NearestNeighbors(9, metric=metric).fit(x).kneighbors(queries)
    distance, position = _brute(queries, x, 9, metric, own=False)
    np.testing.assert_array_equal(found[1], position)
    np.testing.assert_allclose(found[0], distance, atol=1e-10)


def test_all_rows_equal(small_blocks: None) -> None:
    distance, position = NearestNeighbors(4).fit(np.full((30, 2), 3.0)).kneighbors()
    assert (distance == 0).all()
    assert position[0].tolist() == [1, 2, 3, 4]
    assert position[9].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("metric", METRICS)
def test_approximate_neighbours_are_mostly_the_exact_ones(metric: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 16)).repeat(100, axis=0) + 0.3 * rng.standard_normal((4000, 16))
    exact = NearestNeighbors(10, metric=metric).fit(x).kneighbors()
    near = NearestNeighbors(10, metric=metric, algorithm="approximate").fit(x).kneighbors()
    same = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact[1], near[1], strict=True)])
    assert same > 0.95
    assert not (near[1] == np.arange(4000)[:, None]).any()
    assert (near[0] >= exact[0] - 1e-12).all()
    every = NearestNeighbors(10, metric=metric, algorithm="approximate", n_probe=10**6).fit(x).kneighbors()
    assert (every[1] == exact[1]).mean() > 0.999


def test_what_an_approximate_search_misses_is_said() -> None:
    x = np.concatenate([np.zeros((3, 2)), np.full((97, 2), 50.0)]) + np.random.default_rng(0).random((100, 2))
    distance, position = NearestNeighbors(5, algorithm="approximate", n_probe=1).fit(x).kneighbors(x[:1])
    assert np.isinf(distance[position < 0]).all()
    assert (distance[position >= 0] < 2).all()


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: NearestNeighbors(metric="l1").fit(np.ones((3, 2))), "metric"),
        (lambda: NearestNeighbors(algorithm="tree").fit(np.ones((3, 2))), "algorithm"),
        (lambda: NearestNeighbors(metric="cosine").fit(np.zeros((3, 2))), "X"),
        (lambda: NearestNeighbors(metric="cosine").fit(np.ones((9, 2))).kneighbors(np.zeros((3, 2))), "X"),
        (lambda: NearestNeighbors(3).fit(np.ones((3, 2))).kneighbors(), "n_neighbors"),
        (lambda: NearestNeighbors(0).fit(np.ones((3, 2))).kneighbors(), "n_neighbors"),
        (lambda: NearestNeighbors(1).fit(np.ones((3, 2))).kneighbors(np.ones((1, 3))), "X"),
        (lambda: NearestNeighbors(1).fit(np.ones((3, 2))).kneighbors(np.full((1, 2), np.nan)), "X"),
    ],
)
def test_bad_input_is_named(call, field: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.field == field


def test_not_fitted() -> None:
    with pytest.raises(NotFittedError):
        NearestNeighbors().kneighbors()
