"""Best score first against the plain loop; facility location on a sample of rows, and against apricot."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from paperworks.embedding import KMeans, facility_location, score_first
from paperworks.errors import InputError

RNG = np.random.default_rng(1)
UNIT = RNG.normal(size=(3000, 6)).astype(np.float32)
UNIT /= np.linalg.norm(UNIT, axis=1, keepdims=True)
SCORES = np.round(RNG.normal(size=3000), 2)


def by_the_loop(count: int, threshold: float) -> list[int]:
    taken: list[int] = []
    for i in np.argsort(-SCORES, kind="stable"):
        difference = UNIT[taken].astype(np.float64) - UNIT[i]
        if not taken or np.square(difference).sum(axis=1).min() >= threshold:
            taken.append(int(i))
        if len(taken) == count:
            break
    return taken


def test_score_first_is_the_plain_loop() -> None:
    assert list(score_first(UNIT, SCORES, 25, min_squared_distance=0.3)) == by_the_loop(25, 0.3)
    np.testing.assert_array_equal(
        score_first(UNIT, SCORES, 40, min_squared_distance=0), np.argsort(-SCORES, kind="stable")[:40]
    )


def test_too_few_rows_that_are_far_enough_are_said() -> None:
    with pytest.warns(UserWarning, match="of 3000 rows chosen"):
        found = score_first(UNIT, SCORES, 3000, min_squared_distance=0.9)
    assert list(found) == by_the_loop(3000, 0.9)


def test_bad_input_is_named() -> None:
    for options, field in (
        ({"n_select": 0}, "n_select"),
        ({"scores": SCORES[:5]}, "scores"),
        ({"scores": np.full(3000, np.nan)}, "scores"),
        ({"min_squared_distance": -1}, "min_squared_distance"),
    ):
        with pytest.raises(InputError) as caught:
            score_first(**({"vectors": UNIT, "scores": SCORES, "n_select": 3} | options))
        assert caught.value.field == field
    with pytest.raises(InputError, match="represented"):
        facility_location(UNIT, 3, represented=0)


def test_facility_location_over_a_sample_is_the_greedy_of_that_sum() -> None:
    shown = np.sort(np.random.default_rng(5).choice(3000, 80, replace=False))
    similarity = np.maximum(UNIT[shown].astype(np.float64) @ UNIT.T.astype(np.float64), 0)
    best, taken = np.zeros(80), []
    for _ in range(8):
        gain = np.maximum(similarity - best[:, None], 0).sum(axis=0)
        taken.append(int(gain.argmax()))
        best = np.maximum(best, similarity[:, taken[-1]])
    assert list(facility_location(UNIT, 8, represented=80, random_state=5)) == taken
    np.testing.assert_array_equal(facility_location(UNIT[:300], 5, represented=300), facility_location(UNIT[:300], 5))


def test_facility_location_is_apricots() -> None:
    """Ranking and gains of apricot-select 0.6.0, FacilityLocationSelection(25, "precomputed", optimizer="lazy").

    ``benchmarks/embedding_selection_peers.py`` runs it beside ours; here its output stands, since compiling it takes
    longer than a test may.
    """
    x = load_digits().data[:400]
    ranking = [
        148,
        269,
        112,
        185,
        221,
        162,
        65,
        331,
        380,
        62,
        346,
        149,
        384,
        228,
        396,
        173,
        2,
        288,
        360,
        157,
        40,
        210,
        165,
        132,
        320,
    ]
    gains = [316.2764, 9.7887, 6.9819, 6.1936, 5.8847, 3.9153, 3.5418, 3.4209, 3.1368, 2.0385]
    found = facility_location(x, 25)
    np.testing.assert_array_equal(found, ranking)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    value = [0.0, *((unit @ unit.T)[:, found[:i]].max(axis=1).sum() for i in range(1, 11))]
    np.testing.assert_allclose(np.diff(value), gains, atol=1e-4)


def test_centres_from_a_sample_label_all_rows() -> None:
    fitted = KMeans(8, max_rows_per_cluster=50, random_state=3).fit(UNIT)
    assert fitted.labels_.shape == (3000,)
    np.testing.assert_array_equal(fitted.predict(UNIT), fitted.labels_)
    by_hand = np.square(UNIT.astype(np.float64) - fitted.cluster_centers_[fitted.labels_]).sum()
    assert fitted.inertia_ == pytest.approx(by_hand, rel=1e-5)
    assert fitted.inertia_ < 1.1 * KMeans(8, random_state=3).fit(UNIT).inertia_
    same = KMeans(8, max_rows_per_cluster=375, random_state=3).fit(UNIT)
    np.testing.assert_array_equal(same.labels_, KMeans(8, random_state=3).fit(UNIT).labels_)
    bad = UNIT.copy()
    bad[2999] = np.nan
    with pytest.raises(InputError, match="row 2999"):
        KMeans(2, max_rows_per_cluster=2, random_state=1).fit(bad)
    with pytest.raises(InputError, match="max_rows_per_cluster"):
        KMeans(2, max_rows_per_cluster=0).fit(UNIT)
