"""Tests of the difference of two areas: against each other, and where they must not divide by 0."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from paperworks.errors import InputError
from paperworks.metrics import compare_auc, roc_auc


def data(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n // 10), 10)
    shared = rng.normal(size=n // 10)[groups]
    y = (rng.normal(size=n) + shared > 0).astype(int)
    return y, y + rng.normal(size=n) + shared, y + rng.normal(size=n) * 2, groups


def test_areas_are_scikit_learns() -> None:
    y, a, b, groups = data()
    assert roc_auc(y, np.round(a)) == pytest.approx(roc_auc_score(y, np.round(a)), abs=1e-12)
    assert np.isnan(roc_auc(np.ones(4), a[:4]))
    found = compare_auc(y, a, b, groups, n_boot=200)
    assert found.difference.estimate == pytest.approx(roc_auc_score(y, a) - roc_auc_score(y, b), abs=1e-12)
    assert found.difference.n == 30
    again = compare_auc(y, a, b, groups, n_boot=200)
    assert again == found


def test_the_three_methods_agree_on_independent_rows() -> None:
    bunch = load_breast_cancer()
    a, b = -bunch.data[:, 0], -bunch.data[:, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        boot = compare_auc(bunch.target, a, b, n_boot=400)
        plain = compare_auc(bunch.target, a, b, method="delong")
    rows = np.arange(len(a))
    clustered = compare_auc(bunch.target, a, b, rows, method="obuchowski")
    assert clustered.p_value == pytest.approx(plain.p_value, rel=0.1)
    assert boot.difference.low == pytest.approx(plain.difference.low, abs=0.01)
    assert boot.difference.high == pytest.approx(plain.difference.high, abs=0.01)
    assert boot.p_value <= 2 / 401 + 1e-12  # no resample on the other side: as small as it can be


def test_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(20), 30)
    y = (rng.random(600) < 0.3).astype(int)
    effect = rng.normal(size=20)[groups] * y * 2
    a, b = y + effect + rng.normal(size=600), y + rng.normal(size=600)
    clustered = compare_auc(y, a, b, groups, n_boot=300).difference
    with pytest.warns(UserWarning, match="independent"):
        independent = compare_auc(y, a, b, n_boot=300).difference
    assert clustered.high - clustered.low > 1.5 * (independent.high - independent.low)


@pytest.mark.parametrize("method", ["cluster-bootstrap", "obuchowski", "delong"])
def test_a_score_is_no_better_than_itself(method: str) -> None:
    y, a, _, groups = data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = compare_auc(y, a, a, groups, method=method, n_boot=100)  # type: ignore[arg-type]
    assert found.p_value == 1
    assert (found.difference.low, found.difference.estimate, found.difference.high) == (0, 0, 0)


def test_resamples_of_one_class_are_counted() -> None:
    y = np.array([1, 1, 0, 0, 0, 0, 0, 0])
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    found = compare_auc(y, np.arange(8), np.arange(8)[::-1], groups, n_boot=200)
    assert 0 < found.difference.skipped < 100


def test_what_cannot_be_compared() -> None:
    y, a, b, groups = data()
    with pytest.raises(InputError, match="method: found 't-test'"):
        compare_auc(y, a, b, method="t-test")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="groups: found none"):
        compare_auc(y, a, b, method="obuchowski")
    with pytest.raises(InputError, match="one class only"):
        compare_auc(np.ones_like(y), a, b, groups)
    with pytest.raises(InputError, match="equally many"):
        compare_auc(y, a, b[1:], groups)
    with pytest.raises(InputError, match="0 and 1 only"):
        compare_auc(y + 1, a, b, groups)
    with pytest.raises(InputError, match="finite"):
        compare_auc(y, np.where(a > 0, np.nan, a), b, groups)
    with pytest.warns(UserWarning, match="one group"):
        compare_auc(y, a, b, groups, method="delong")
