"""k-means against scikit-learn's, and its properties that do not depend on the start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from paperworks.embedding import KMeans
from paperworks.errors import InputError

DIGITS = load_digits().data


@pytest.mark.parametrize("offset", [0.0, 1e4])  # far from the origin, float32 squares alone would be worthless
def test_equal_to_scikit_learn_from_the_same_centres(offset: float) -> None:
    x = DIGITS + offset
    start = x[np.random.default_rng(0).choice(len(x), 10, replace=False)]
    ours = KMeans(10, init=start, tol=0, chunk_bytes=100_000).fit(x)
    theirs = SklearnKMeans(10, init=start, n_init=1, tol=0).fit(x)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-5)
    assert (ours.labels_ == theirs.labels_).mean() > 0.999
    np.testing.assert_allclose(ours.cluster_centers_ - offset, theirs.cluster_centers_ - offset, atol=2e-2)
    np.testing.assert_array_equal(ours.predict(x), ours.labels_)


def test_starts_are_as_good_as_scikit_learns() -> None:
    ours = [KMeans(10, random_state=s).fit(DIGITS).inertia_ for s in range(8)]
    theirs = [SklearnKMeans(10, n_init=1, random_state=s).fit(DIGITS).inertia_ for s in range(8)]
    assert np.mean(ours) < 1.03 * np.mean(theirs)
    several = KMeans(10, n_init=8).fit(DIGITS).inertia_
    assert several <= min(ours) * 1.01
    assert KMeans(10, init="random", random_state=3).fit(DIGITS).inertia_ < 1.1 * np.mean(theirs)


def test_inertia_is_of_labels_and_centres_and_chunks_change_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", DIGITS.astype(np.float16))
    whole = KMeans(12, random_state=5).fit(DIGITS)
    mapped = KMeans(12, random_state=5, chunk_bytes=64 * 4 * 100).fit(tmp_path / "x.npy")
    np.testing.assert_array_equal(whole.labels_, mapped.labels_)
    by_hand = np.square(DIGITS - whole.cluster_centers_[whole.labels_]).sum()
    assert whole.inertia_ == pytest.approx(by_hand, rel=1e-6)
    assert mapped.inertia_ == pytest.approx(by_hand, rel=1e-5)
    again = KMeans(12, random_state=5).fit(DIGITS)
    np.testing.assert_array_equal(again.cluster_centers_, whole.cluster_centers_)
    assert whole.labels_.dtype == np.int32
    assert whole.cluster_centers_.dtype == np.float32


def test_clear_clusters_are_found() -> None:
    x, labels = make_blobs(3000, 5, centers=20, cluster_std=0.1, center_box=(-50, 50), random_state=0)
    found = KMeans(20).fit(x).labels_
    assert len({(a, b) for a, b in zip(labels, found, strict=True)}) == 20


def test_spherical_is_kmeans_of_unit_rows_with_unit_centres() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 6)) * rng.uniform(0.1, 10, (500, 1))
    fitted = KMeans(7, spherical=True, tol=0).fit(x)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(fitted.cluster_centers_, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(fitted.labels_, (unit @ fitted.cluster_centers_.T).argmax(axis=1))
    by_hand = np.square(unit - fitted.cluster_centers_[fitted.labels_]).sum()
    assert fitted.inertia_ == pytest.approx(by_hand, rel=1e-5)
    for cluster in range(7):  # at the end each centre is the direction of its rows' mean
        mean = unit[fitted.labels_ == cluster].mean(axis=0)
        np.testing.assert_allclose(fitted.cluster_centers_[cluster], mean / np.linalg.norm(mean), atol=1e-5)


def test_an_empty_cluster_takes_the_farthest_row() -> None:
    x = np.array([[0.0, 0], [0, 1], [0, 2], [9, 9]])
    start = np.array([[0.0, 1], [500, 500], [0, 0]])
    fitted = KMeans(3, init=start).fit(x)
    assert sorted(np.bincount(fitted.labels_)) == [1, 1, 2]
    assert fitted.inertia_ == pytest.approx(0.5)


def test_fewer_distinct_rows_than_clusters_is_said() -> None:
    with pytest.warns(ConvergenceWarning, match="2 distinct"):
        fitted = KMeans(4).fit(np.repeat([[0.0, 1.0], [2.0, 3.0]], 5, axis=0))
    assert fitted.inertia_ == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "x", "field"),
    [
        ({"n_clusters": 0}, DIGITS, "n_clusters"),
        ({"n_clusters": 5.0}, DIGITS, "n_clusters"),
        ({"n_clusters": 9}, DIGITS[:8], "n_clusters"),
        ({"init": "best"}, DIGITS, "init"),
        ({"init": np.zeros((3, 64))}, DIGITS, "init"),
        ({"n_init": 0}, DIGITS, "n_init"),
        ({"max_iter": 0}, DIGITS, "max_iter"),
        ({"tol": float("nan")}, DIGITS, "tol"),
        ({"spherical": True}, np.zeros((20, 3)), "X"),
        ({}, np.where(np.arange(64) == 3, np.nan, DIGITS), "X"),
        ({}, DIGITS[0], "X"),
        ({}, np.full((20, 2), "a"), "X"),
        ({}, "nowhere.npy", "X"),
    ],
)
def test_bad_input_is_named(options: dict, x, field: str) -> None:
    with pytest.raises(InputError) as caught:
        KMeans(**options).fit(x)
    assert caught.value.field == field


def test_predict_checks() -> None:
    with pytest.raises(NotFittedError):
        KMeans().predict(DIGITS)
    with pytest.raises(InputError, match="3 columns"):
        KMeans(3).fit(DIGITS[:50]).predict(np.zeros((2, 3)))
