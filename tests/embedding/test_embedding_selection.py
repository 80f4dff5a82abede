"""Selections against brute force and plain loops, and the bounds that the theory gives."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.embedding import coverage_radius, facility_location, herding, k_center_greedy
from paperworks.embedding import rows as rows_module
from paperworks.errors import InputError


def _radius(x: np.ndarray, chosen) -> float:
    return float(np.linalg.norm(x[:, None] - x[list(chosen)][None], axis=2).min(axis=1).max())


@given(st.integers(0, 10_000), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_k_center_is_within_twice_the_optimum(seed: int, k: int) -> None:
    x = np.random.default_rng(seed).integers(-9, 10, (9, 2)).astype(float)
    chosen = k_center_greedy(x, k, random_state=seed)
    assert len(set(chosen.tolist())) == k
    optimum = min(_radius(x, c) for c in combinations(range(len(x)), k))
    assert _radius(x, chosen) <= 2 * optimum + 1e-9
    assert coverage_radius(x, chosen) == pytest.approx(_radius(x, chosen))


def test_k_center_is_the_plain_loop_in_any_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(1).standard_normal((300, 5)).astype(np.float32)
    chosen = [4, 17]
    expected = []
    for _ in range(25):
        distance = np.linalg.norm(x[:, None].astype(float) - x[chosen][None], axis=2).min(axis=1)
        chosen.append(int(distance.argmax()))
        expected.append(chosen[-1])
    assert k_center_greedy(x, 25, initial=[4, 17]).tolist() == expected
    monkeypatch.setattr("paperworks.embedding.selection.chunk_rows", lambda *_: 7)
    assert k_center_greedy(x, 25, initial=[4, 17]).tolist() == expected


def test_k_center_of_equal_rows_takes_each_once() -> None:
    assert sorted(k_center_greedy(np.ones((6, 2)), 6)) == list(range(6))


def test_herding_is_the_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(2).standard_normal((200, 6)).astype(np.float32)
    mean, taken, total = x.mean(axis=0, dtype=float), [], np.zeros(6)
    for step in range(60):
        distance = np.linalg.norm((step + 1) * mean - total - x.astype(float), axis=1)
        distance[taken] = np.inf
        taken.append(int(distance.argmin()))
        total += x[taken[-1]]
    assert herding(x, 60).tolist() == taken
    monkeypatch.setattr("paperworks.embedding.selection.chunk_rows", lambda *_: 11)
    assert herding(x, 60).tolist() == taken
    # The mean of the chosen approaches the target at a rate of 1/m, a random choice at 1/sqrt(m).
    error = np.linalg.norm(x[taken].mean(axis=0) - mean)
    random = np.linalg.norm(x[np.random.default_rng(0).choice(200, 60, replace=False)].mean(axis=0) - mean)
    assert error < 0.2 * random
    assert herding(x, 1, target=x[42]).tolist() == [42]


def _value(s: np.ndarray, chosen, bonus: np.ndarray) -> float:
    chosen = list(chosen)
    return float(np.maximum(s[:, chosen].max(axis=1), 0).sum() + bonus[chosen].sum()) if chosen else 0.0


def _naive(s: np.ndarray, k: int, bonus: np.ndarray) -> list[int]:
    chosen: list[int] = []
    for _ in range(k):
        gains = [-np.inf if j in chosen else _value(s, [*chosen, j], bonus) for j in range(len(s))]
        chosen.append(int(np.argmax(gains)))
    return chosen


@given(st.integers(0, 10_000), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_facility_location_reaches_its_bound(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    s = rng.integers(0, 8, (8, 8)).astype(float)  # many ties
    bonus = rng.integers(0, 5, 8).astype(float)
    chosen = facility_location(s, k, similarity="precomputed", bonus=bonus)
    assert chosen.tolist() == _naive(s, k, bonus)
    best = max(_value(s, c, bonus) for c in combinations(range(8), k))
    assert _value(s, chosen, bonus) >= (1 - 1 / np.e) * best - 1e-9


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_lazy_is_plain_greedy(similarity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(3).standard_normal((90, 4)).astype(np.float32)
    x[50] = x[20]  # a tie
    unit = x.astype(float) / (np.linalg.norm(x.astype(float), axis=1, keepdims=True) if similarity == "cosine" else 1)
    expected = _naive(unit @ unit.T, 30, np.zeros(90))
    assert facility_location(x, 30, similarity=similarity).tolist() == expected
    monkeypatch.setattr("paperworks.embedding.selection.chunk_rows", lambda *_: 13)
    assert facility_location(x, 30, similarity=similarity).tolist() == expected


def test_everything_can_be_chosen() -> None:
    x = np.random.default_rng(4).standard_normal((40, 3))
    for select in (k_center_greedy, herding, facility_location):
        assert sorted(select(x, 40)) == list(range(40))


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda x: k_center_greedy(x, 11), "n_select"),
        (lambda x: herding(x, 0), "n_select"),
        (lambda x: facility_location(x, True), "n_select"),
        (lambda x: k_center_greedy(x, 2, initial=[10]), "initial"),
        (lambda x: k_center_greedy(x, 2, initial=[1, 1]), "initial"),
        (lambda x: coverage_radius(x, []), "chosen"),
        (lambda x: herding(x, 2, target=np.zeros(4)), "target"),
        (lambda x: facility_location(x, 2, similarity="near"), "similarity"),
        (lambda x: facility_location(x, 2, similarity="precomputed"), "vectors"),
        (lambda x: facility_location(x, 2, bonus=np.full(10, np.nan)), "bonus"),
        (lambda x: facility_location(np.zeros((5, 2)), 2), "vectors"),
        (lambda x: herding(np.full((4, 2), np.inf), 2), "vectors"),
        (lambda x: k_center_greedy(np.empty((0, 3)), 1), "vectors"),
    ],
)
def test_bad_input_is_named(call, field: str) -> None:
    with pytest.raises(InputError) as caught:
        call(np.arange(30.0).reshape(10, 3))
    assert caught.value.field == field


def test_rows_are_read_from_what_has_slices() -> None:
    import pandas as pd
    import torch

    x = np.arange(6.0).reshape(3, 2)
    for given_rows in (x.tolist(), torch.tensor(x), pd.DataFrame(x), x.astype(np.int16)):
        np.testing.assert_array_equal(rows_module.read_rows(rows_module.as_rows(given_rows), slice(0, 3)), x)
