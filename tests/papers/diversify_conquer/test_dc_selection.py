"""Draws inside clusters, iterative selection, and every method of choosing, against brute force and other libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import silhouette_score

from paperworks.errors import InputError
from paperworks.papers.diversify_conquer import (
    METHODS,
    InertFeedbackWarning,
    IterationState,
    IterativeSelector,
    KMeansSelector,
    choose_n_clusters,
    near_duplicates,
    nearest_distances,
    sampled_silhouette,
    select,
)
from paperworks.papers.diversify_conquer.sampling import draw_by_weight, fill_missing

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(size=(n, 5)) + 8 * np.eye(5)[i] for i, n in enumerate((40, 30, 20, 10))])
LABELS = np.repeat(np.arange(4), (40, 30, 20, 10)).astype(np.int32)
CENTERS = np.array([X[j == LABELS].mean(axis=0) for j in range(4)])
QUALITY = RNG.normal(size=100)


def fixed(sampling="quality", budget=20, **options) -> KMeansSelector:
    return KMeansSelector(4, sampling, budget, **options)


def chosen(sampling="quality", budget=20, quality=QUALITY, **options) -> np.ndarray:
    return fixed(sampling, budget, **options).use_clusters(X, LABELS, CENTERS, quality).indices_


def test_every_cluster_gives_its_share_and_nothing_twice() -> None:
    for sampling in ("quality", "random", "closest", "median", "median-quality"):
        found = chosen(sampling)
        np.testing.assert_array_equal(np.bincount(LABELS[found]), [8, 6, 4, 2])
        assert len(set(found)) == 20
        np.testing.assert_array_equal(found, chosen(sampling))  # the same seed, the same choice
    np.testing.assert_array_equal(np.bincount(LABELS[chosen(allocation="equal", budget=38)]), [10, 10, 9, 9])
    assert not np.array_equal(chosen(random_state=1), chosen())


def test_temperature_zero_and_nearly_zero_take_the_best_of_each_cluster() -> None:
    best = np.sort(
        np.concatenate(
            [np.flatnonzero(j == LABELS)[np.argsort(-QUALITY[j == LABELS])[:n]] for j, n in enumerate((8, 6, 4, 2))]
        )
    )
    np.testing.assert_array_equal(chosen(quality_temperature=0), best)
    np.testing.assert_array_equal(chosen(quality_temperature=1e-6), best)
    np.testing.assert_array_equal(chosen(quality_temperature=1e-6, quality=QUALITY * 1e9 + 36e9), best)  # no overflow


def test_closest_and_median_by_hand() -> None:
    distance = np.linalg.norm(X - CENTERS[LABELS], axis=1)
    for sampling, key in (("closest", distance), ("median", None), ("median-quality", None)):
        values = QUALITY if sampling == "median-quality" else distance
        for j, n in enumerate((8, 6, 4, 2)):
            own = np.flatnonzero(j == LABELS)
            k = values[own] if key is not None else np.abs(values[own] - np.median(values[own]))
            expected = set(own[np.argsort(k)[:n]])
            assert set(chosen(sampling)) & set(own) == expected, (sampling, j)


def test_constant_quality_draws_like_random() -> None:
    np.testing.assert_array_equal(chosen(quality=np.full(100, 3.7)), chosen("random"))


def test_draws_have_the_weights_probabilities() -> None:
    """Of three samples with weights 1, 2, 4, two are drawn one after the other: the pairs' probabilities by hand."""
    logs, labels = np.log([1.0, 2, 4]), np.zeros(3, int)
    rng = np.random.default_rng(0)
    pairs = [tuple(draw_by_weight(logs, labels, np.array([2]), rng)) for _ in range(6000)]
    for (a, b), w in {(0, 1): (1, 2), (0, 2): (1, 4), (1, 2): (2, 4)}.items():
        expected = w[0] / 7 * w[1] / (7 - w[0]) + w[1] / 7 * w[0] / (7 - w[1])
        assert pairs.count((a, b)) / 6000 == pytest.approx(expected, abs=0.025)


def test_proportional_weights_and_replacement() -> None:
    quality = np.where(np.arange(100) % 2, 1.0, 0.0)
    assert (chosen(quality=quality, quality_weights="proportional", budget=10) % 2 == 1).all()
    with pytest.raises(InputError, match="quality"):
        chosen(quality=-quality, quality_weights="proportional")
    drawn = chosen("random", budget=90, replace=True)
    np.testing.assert_array_equal(np.bincount(LABELS[drawn]), [36, 27, 18, 9])
    assert len(set(drawn)) < 90


def test_missing_quality_is_the_clusters_median() -> None:
    quality = np.array([1.0, 2, 9, np.nan, np.nan, 4])
    filled, missing = fill_missing(quality, np.array([0, 0, 0, 0, 1, 2]), 3)
    np.testing.assert_array_equal(filled, [1, 2, 9, 2, 3, 4])
    assert missing == 2
    selector = fixed().use_clusters(X, LABELS, CENTERS, np.where(np.arange(100) == 5, np.nan, QUALITY))
    assert selector.n_missing_quality_ == 1
    for bad in (np.full(100, np.nan), np.where(np.arange(100) == 5, np.inf, QUALITY), QUALITY[:99]):
        with pytest.raises(InputError, match="quality"):
            fixed().use_clusters(X, LABELS, CENTERS, bad)


def test_only_eligible_rows_are_chosen() -> None:
    eligible = np.arange(100) % 3 > 0
    selector = fixed("random", 66).use_clusters(X, LABELS, CENTERS, eligible=eligible)
    np.testing.assert_array_equal(selector.indices_, np.flatnonzero(eligible))
    with pytest.raises(InputError, match="budget"):
        selector.select(67)
    assert len(selector.select(0.5)) == 33


def test_fit_clusters_and_another_budget_needs_no_other_fit() -> None:
    selector = KMeansSelector(4, "closest", 0.1).fit(X)
    assert len(selector.indices_) == 10
    assert selector.cluster_budgets_.sum() == 10
    assert selector.centers_.shape == (4, 5)
    by_hand = np.linalg.norm(X - selector.centers_[selector.labels_], axis=1)
    np.testing.assert_allclose(selector.distances_, by_hand, atol=1e-5)
    assert len(selector.select(30)) == 30
    with pytest.warns(UserWarning, match="below the number of clusters"):
        assert len(selector.select(2)) == 2


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"sampling": "best"}, "sampling"),
        ({"budget": 101}, "budget"),
        ({"budget": 0}, "budget"),
        ({"n_clusters": 101}, "n_clusters"),
        ({"n_clusters": "many"}, "n_clusters"),
        ({"allocation": "x"}, "allocation"),
        ({"quality_temperature": -1}, "quality_temperature"),
        ({"replace": True, "sampling": "closest"}, "replace"),
        ({"sampling": "quality"}, "quality"),
    ],
)
def test_bad_options_are_named(options: dict, field: str) -> None:
    with pytest.raises(InputError) as caught:
        KMeansSelector(**({"n_clusters": 4} | options)).fit(X, None if field == "quality" else QUALITY)
    assert caught.value.field == field


def test_by_default_quality_decides_where_there_is_one() -> None:
    for quality, sampling in ((None, "random"), (QUALITY, "quality")):
        by_default = KMeansSelector(4, budget=20).fit(X, quality).indices_
        np.testing.assert_array_equal(by_default, KMeansSelector(4, sampling, 20).fit(X, quality).indices_)


def test_embeddings_that_are_not_finite_are_refused() -> None:
    bad = X.copy()
    bad[17, 2] = np.inf
    with pytest.raises(InputError, match="row 17"):
        KMeansSelector(4, "random", 10).fit(bad)
    found = KMeansSelector(4, "random", 10).fit(X.astype(np.float16)).indices_
    assert len(found) == 10


def test_silhouette_is_scikit_learns_and_picks_the_clear_number() -> None:
    assert sampled_silhouette(X, LABELS) == pytest.approx(silhouette_score(X, LABELS))
    best, values = choose_n_clusters(X, (2, 3, 4, 6, 8))
    assert best == 4
    assert set(values) == {2, 3, 4, 6, 8}
    assert KMeansSelector("silhouette", "random", 8, grid=(2, 4, 8)).fit(X).silhouette_ is not None
    for labels in (np.zeros(100, int), np.arange(100)):
        with pytest.raises(InputError, match="clusters"):
            sampled_silhouette(X, labels)
    with pytest.raises(InputError, match="grid"):
        choose_n_clusters(X, (2, 100))


def test_all_methods_give_what_is_asked_for() -> None:
    selector = fixed("random").use_clusters(X, LABELS, CENTERS)
    eligible = np.arange(100) % 2 == 0
    for method in METHODS:
        found = select(X, 20, method, quality=QUALITY, selector=selector, eligible=eligible, threshold=0.1)
        assert len(set(found)) == 20, method
        assert eligible[found].all(), method
    for method in ("deita", "qdit", "top-quality", "kmq", "mid-quality"):
        with pytest.raises(InputError, match="quality"):
            select(X, 20, method)
    with pytest.raises(InputError, match="method"):
        select(X, 20, "best")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="budget"):
        select(X, 101, "random")
    np.testing.assert_array_equal(select(X, 3, "top-quality", quality=QUALITY), np.sort(np.argsort(-QUALITY)[:3]))


def test_qdit_is_the_plain_greedy_of_its_formula() -> None:
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    similarity = unit @ unit.T
    assert (similarity < -0.1).mean() > 0.1  # cosines count as they are, negative ones too
    for alpha in (0.0, 0.3, 0.9):
        taken: list[int] = []
        for _ in range(10):
            value = [
                -np.inf
                if i in taken
                else (1 - alpha) * similarity[:, [*taken, i]].max(axis=1).sum() + alpha * QUALITY[i]
                for i in range(100)
            ]
            taken.append(int(np.argmax(value)))
        assert list(select(X, 10, "qdit", quality=QUALITY, alpha=alpha)) == taken


def test_coverage_and_near_duplicates_by_brute_force() -> None:
    rows = chosen("random")
    pairs = np.square(X[:, None] - X[rows]).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(nearest_distances(X, rows), pairs, atol=1e-5)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    expected: list[int] = []
    for i in range(100):
        if all(LABELS[i] != LABELS[j] or unit[i] @ unit[j] < 0.95 for j in range(i) if j not in expected):
            continue
        expected.append(i)
    np.testing.assert_array_equal(np.flatnonzero(near_duplicates(X, LABELS, 0.95)), expected)
    assert len(expected) > 5


def start(**options) -> IterationState:
    return IterativeSelector(fixed("random", 30).use_clusters(X, LABELS, CENTERS), 3, **options).start()


def test_rounds_spend_the_budget_without_repeats_and_follow_the_weights() -> None:
    state = start()
    sizes = []
    while not state.done:
        batch = state.next_batch()
        sizes.append(len(batch))
        # the third cluster is always worth most
        state.update(np.where(LABELS[state.to_score] == 2, 3.0, 1.0))
    assert sizes == [10, 10, 10]
    assert len(set(state.selected)) == 30
    np.testing.assert_array_equal(np.bincount(LABELS[state.batches[0]]), [4, 3, 2, 1])
    np.testing.assert_allclose(state.weight_history[0], [0.4, 0.3, 0.2, 0.1])
    # softmax of (1, 1, 3, 1), times the weights: shares 1.76, 1.32, 6.49, 0.44
    by_hand = np.array([0.4, 0.3, 0.2 * np.e**2, 0.1])
    np.testing.assert_allclose(state.weight_history[1], by_hand / by_hand.sum())
    np.testing.assert_array_equal(np.bincount(LABELS[state.batches[1]], minlength=4), [2, 1, 7, 0])
    np.testing.assert_allclose(start(init="uniform").weights, 0.25)


def test_exhausted_clusters_pass_their_share_on() -> None:
    state = IterativeSelector(fixed("random", 90).use_clusters(X, LABELS, CENTERS), 3).start()
    while not state.done:
        assert len(state.next_batch()) == 30
        state.update(np.where(LABELS[state.to_score] == 3, 30.0, 1.0))
    assert np.bincount(LABELS[state.selected])[3] == 10


def test_a_saved_state_goes_on_as_if_it_had_not_been_saved(tmp_path: Path) -> None:
    whole, broken = start(feedback="probe"), start(feedback="probe")
    while not whole.done:
        np.testing.assert_array_equal(whole.next_batch(), broken.next_batch())
        broken.save(tmp_path / "state.npz")
        broken = IterationState.load(tmp_path / "state.npz")
        np.testing.assert_array_equal(whole.to_score, broken.to_score)
        assert not set(whole.to_score) & set(whole.selected)  # a probe was not trained on
        scores = np.where(np.arange(len(whole.to_score)) == 0, np.nan, QUALITY[whole.to_score])
        np.testing.assert_allclose(whole.update(scores), broken.update(scores))
        broken.save(tmp_path / "state.npz")
        broken = IterationState.load(tmp_path / "state.npz")
    assert broken.done
    assert broken.missing_scores == 3
    np.testing.assert_array_equal(whole.selected, broken.selected)
    (tmp_path / "other.npz").write_bytes(b"x")
    with pytest.raises(InputError, match="IterationState"):
        IterationState.load(tmp_path / "other.npz")


def test_steps_in_the_wrong_order_are_refused() -> None:
    state = start()
    with pytest.raises(InputError, match="update"):
        state.update([1.0])
    state.next_batch()
    with pytest.raises(InputError, match="next_batch"):
        state.next_batch()
    with pytest.raises(InputError, match="scores"):
        state.update([1.0])
    with pytest.warns(InertFeedbackWarning):
        state.update(np.zeros(10))
    with pytest.raises(InputError, match="rounds"):
        IterativeSelector(fixed("random", 2).use_clusters(X, LABELS, CENTERS), 3).start()
    with pytest.raises(InputError, match="transform"):
        start(transform="best")


def test_callbacks_run_the_rounds() -> None:
    calls: list[tuple[int, int]] = []

    def train(round: int, rows: np.ndarray) -> int:
        calls.append((round, len(rows)))
        return round

    found = IterativeSelector(
        KMeansSelector(4, "quality", 12), 3, train, lambda model, rows: np.full(len(rows), model)
    ).fit(X, QUALITY)
    assert calls == [(1, 4), (2, 8), (3, 12)]
    assert found.model_ == 3
    assert found.weights_.shape == (4, 4)
    np.testing.assert_allclose(found.weights_, found.weights_[0][None].repeat(4, 0))  # equal scores move nothing
    assert len(set(found.indices_)) == 12


def test_k_center_covers_the_farthest_best_and_top_quality_worst_on_digits() -> None:
    x = load_digits().data[:600]
    largest = {
        m: nearest_distances(x, select(x, 30, m, quality=-x.std(axis=1))).max()
        for m in ("k-center", "random", "km-random")
    }
    assert largest["k-center"] == min(largest.values())
