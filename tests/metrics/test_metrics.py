"""Metrics against brute force, closed forms and other libraries."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import jaccard_score, roc_auc_score

from paperworks.errors import InputError
from paperworks.metrics import (
    auc_interval,
    bootstrap_interval,
    delong_covariance,
    delong_test,
    group_accuracy,
    hits_at_k,
    linear_probe,
    mean_interval,
    mean_iou,
    precision_at_k,
    ratio_interval,
    recall_at_k,
    wilson_interval,
    worst_group_accuracy,
)


def test_ratio_interval_is_students_of_logarithms_and_turns_over() -> None:
    ratios = [2.0, 8.0, 4.0]
    found = ratio_interval(ratios)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(np.log(ratios)), scale=stats.sem(np.log(ratios)))
    assert (found.estimate, found.low, found.high) == pytest.approx((4.0, np.exp(low), np.exp(high)))
    over = ratio_interval([1 / ratio for ratio in ratios])
    assert (1 / over.estimate, 1 / over.high, 1 / over.low) == pytest.approx((found.estimate, found.low, found.high))
    with pytest.raises(InputError, match="numbers above 0"):
        ratio_interval([1.0, 0.0])


def test_mean_interval_is_students() -> None:
    values = np.array([0.91, 0.94, 0.90, 0.97])
    found = mean_interval(values, level=0.9)
    low, high = stats.t.interval(0.9, 3, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.n, found.method, found.level, found.unit) == (4, "Student t", 0.9, "seeds")
    assert str(found) == f"0.93 [{low:.4g}, {high:.4g}] (90%, Student t, n = 4 seeds)"


@pytest.mark.parametrize("successes", [0, 1, 7, 19, 20])
def test_wilson_is_scipys(successes: int) -> None:
    found = wilson_interval(successes, 20)
    peer = stats.binomtest(successes, 20).proportion_ci(0.95, "wilson")
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=1e-12)
    assert found.low <= found.estimate <= found.high


def test_bootstrap_of_clusters_of_equal_rows_is_that_of_the_clusters() -> None:
    rng = np.random.default_rng(0)
    values, size = rng.normal(size=40), 7
    once = bootstrap_interval(np.mean, values, seed=3, n_resamples=300)
    many = bootstrap_interval(
        np.mean, np.repeat(values, size), clusters=np.repeat(np.arange(40), size), seed=3, n_resamples=300
    )
    assert (many.low, many.high, many.n, many.unit) == pytest.approx((once.low, once.high, 40, "clusters"))
    naive = bootstrap_interval(np.mean, np.repeat(values, size), seed=3, n_resamples=300)
    assert many.high - many.low > 2 * (naive.high - naive.low)  # about the root of 7


def test_bootstrap_covers_and_bca_is_scipys() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(100):
        sample = rng.exponential(size=30)
        found = bootstrap_interval(np.mean, sample, seed=seed, n_resamples=199, level=0.9)
        hits += found.low <= 1 <= found.high
    assert 78 <= hits <= 97
    sample = rng.exponential(size=60)
    ours = bootstrap_interval(lambda x: float(np.var(x)), sample, method="bca", n_resamples=4000)
    peer = stats.bootstrap((sample,), np.var, method="BCa", n_resamples=4000, rng=np.random.default_rng(0))
    assert ours.low == pytest.approx(peer.confidence_interval.low, rel=0.05)
    assert ours.high == pytest.approx(peer.confidence_interval.high, rel=0.05)


def test_bootstrap_counts_undefined_resamples() -> None:
    truth, score = np.array([1, 0, 0, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3, 0.4, 0.5])

    def auc(y: np.ndarray, s: np.ndarray) -> float:
        return float(roc_auc_score(y, s)) if 0 < y.sum() < len(y) else math.nan

    found = bootstrap_interval(auc, truth, score, n_resamples=300)
    assert found.skipped / 300 == pytest.approx((5 / 6) ** 6, abs=0.1)
    assert "cluster" not in found.method


def placements(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    positive, negative = score[truth == 1], score[truth == 0]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return wins.mean(1), wins.mean(0)


def test_delong_equals_placement_values_with_ties() -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(2, size=57)
    scores = rng.integers(8, size=(3, 57)) + truth
    aucs, covariance = delong_covariance(truth, scores)
    v10, v01 = zip(*(placements(truth, s) for s in scores), strict=True)
    m, n = truth.sum(), (1 - truth).sum()
    assert aucs == pytest.approx([roc_auc_score(truth, s) for s in scores], abs=1e-12)
    assert covariance == pytest.approx(np.cov(np.stack(v10)) / m + np.cov(np.stack(v01)) / n, abs=1e-12)


def test_delong_of_equal_scores_and_of_a_permutation_test() -> None:
    data = load_breast_cancer()
    a = -data.data[:, 1]
    same = delong_test(data.target, a, np.exp(a / 40))  # another scale, the same order
    assert (same.z, same.p_value, same.difference.estimate) == (0, 1, 0)
    texture, smooth = -data.data[:, 1], -data.data[:, 4]
    found = delong_test(data.target, texture, smooth)
    assert found.p_value == pytest.approx(_swap_p(data.target, texture, smooth), abs=0.02)
    assert found.difference.low <= found.difference.estimate <= found.difference.high


def _swap_p(truth: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p-value by swapping the ranks of the two scores row by row."""
    ranks = np.stack([stats.rankdata(a), stats.rankdata(b)])
    seen = abs(_auc(truth, ranks[0]) - _auc(truth, ranks[1]))
    rng = np.random.default_rng(0)
    count = 0
    for _ in range(1000):
        swap = rng.random(len(truth)) < 0.5
        first, second = np.where(swap, ranks[1], ranks[0]), np.where(swap, ranks[0], ranks[1])
        count += abs(_auc(truth, first) - _auc(truth, second)) >= seen
    return count / 1000


def _auc(truth: np.ndarray, score: np.ndarray) -> float:
    m = truth.sum()
    return float((stats.rankdata(score)[truth == 1].sum() - m * (m + 1) / 2) / (m * (len(truth) - m)))


def test_clustered_variance() -> None:
    rng = np.random.default_rng(4)
    truth = np.tile([0, 1], 60)
    score = rng.normal(size=120) + truth
    alone = delong_covariance(truth, score)[1]
    assert delong_covariance(truth, score, np.arange(120))[1] == pytest.approx(alone, rel=1e-12)
    doubled = [np.repeat(x, 2) for x in (truth, score, np.arange(120))]
    # every row twice: m and n double, cluster sums double, so the variance stays (up to the ties within a cluster)
    assert delong_covariance(*doubled)[1] == pytest.approx(alone, rel=1e-12)
    estimates, variances = [], []
    for _ in range(300):
        patient = np.repeat(rng.normal(size=40), 5)
        y = np.tile([0, 0, 1, 0, 1], 40)
        s = y + 2 * patient + rng.normal(size=200)
        value, cov = delong_covariance(y, s, np.repeat(np.arange(40), 5))
        estimates.append(value[0])
        variances.append(cov[0, 0])
    assert np.mean(variances) == pytest.approx(np.var(estimates, ddof=1), rel=0.2)
    assert auc_interval(y, s, clusters=np.repeat(np.arange(40), 5)).method == "Obuchowski"


def test_groups() -> None:
    truth, guess = np.array([0, 0, 1, 1, 1, 1]), np.array([0, 1, 1, 1, 1, 0])
    found = group_accuracy(truth, guess, ["a", "a", "a", "b", "b", "b"])
    assert {k: (v.estimate, v.n) for k, v in found.by_group.items()} == {"a": (2 / 3, 3), "b": (2 / 3, 3)}
    pairs = group_accuracy(truth, guess, np.stack([truth, [0, 0, 0, 1, 1, 1]], 1))
    assert pairs.worst_group == (0, 0)
    assert (pairs.worst.estimate, pairs.gap, pairs.mean) == pytest.approx((0.5, 0.5, (0.5 + 1 + 2 / 3) / 3))
    assert worst_group_accuracy(truth, guess, truth) == 0.5


def test_recall_and_precision_are_expectations_over_orders_of_ties() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        score, relevant = rng.integers(3, size=6), rng.random(6) < 0.5
        relevant[0] = True
        for k in (1, 3, 6):
            orders = [o for o in itertools.permutations(range(6)) if (np.diff(score[list(o)]) <= 0).all()]
            hits = np.mean([relevant[list(o[:k])].sum() for o in orders])
            assert recall_at_k(score, relevant, k) == pytest.approx(hits / relevant.sum())
            assert precision_at_k(score, relevant, k) == pytest.approx(hits / k)


def test_mean_iou_is_the_mean_of_jaccard_scores() -> None:
    rng = np.random.default_rng(6)
    truth = [rng.integers(4, size=(9, 11)), rng.integers(4, size=(5, 3))]
    guess = [np.where(rng.random(t.shape) < 0.7, t, rng.integers(4, size=t.shape)) for t in truth]
    truth[0][:2] = 255
    t, g = (np.concatenate([x.ravel() for x in part]) for part in (truth, guess))
    peer = jaccard_score(t[t != 255], g[t != 255], average=None, labels=range(4))
    found = mean_iou(truth, guess, 5)
    assert found.per_class[:4] == pytest.approx(peer)
    assert math.isnan(found.per_class[4])
    assert found.mean == pytest.approx(peer.mean())
    assert found.pixel_accuracy == pytest.approx((t == g)[t != 255].mean())


def test_linear_probe_is_logistic_regression_on_scaled_features() -> None:
    x, y = load_digits(return_X_y=True)
    x, y = x[:600], y[:600]
    found = linear_probe(x[:400], y[:400], x[400:], y[400:], Cs=(0.01, 0.1), folds=3)
    assert found.accuracy.n == 200
    assert found.accuracy.estimate == (found.estimator.predict(x[400:]) == y[400:]).mean() > 0.8
    mean = found.estimator.named_steps["standardscaler"].mean_
    assert mean == pytest.approx(x[:400].mean(0))  # nothing of the test rows
    assert found.C in (0.01, 0.1)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: mean_interval([1.0]), "values"),
        (lambda: mean_interval([1.0, math.nan]), "values[1]"),
        (lambda: mean_interval([1.0, 2.0], level=95), "level"),
        (lambda: wilson_interval(3, 2), "successes"),
        (lambda: wilson_interval(0, 0), "n"),
        (lambda: bootstrap_interval(np.mean, [1, 2], [1]), "arrays[1]"),
        (lambda: bootstrap_interval(np.mean, [1, 2], clusters=[0, 0]), "clusters"),
        (lambda: bootstrap_interval(lambda x: math.nan, [1, 2]), "statistic"),
        (lambda: bootstrap_interval(np.mean, [1, 2], method="basic"), "method"),
        (lambda: delong_test([0, 1, 2, 0], [1] * 4, [1] * 4), "y_true"),
        (lambda: delong_test([0, 1, 1, 1], [1] * 4, [1] * 4), "y_true"),
        (lambda: delong_covariance([0, 1, 1, 0], [1, 2, 3]), "scores"),
        (lambda: delong_covariance([0, 1, 1, 0], [1, 2, 3, math.inf]), "scores[3]"),
        (lambda: delong_covariance([0, 1, 1, 0], [1, 2, 3, 4], [0, 1, 1, 0]), "clusters"),
        (lambda: group_accuracy([1, 2], [1], [0, 0]), "y_pred"),
        (lambda: group_accuracy([1, 2], [1, 2], [0]), "groups"),
        (lambda: recall_at_k([[1, 2]], [[0, 1]], 3), "k"),
        (lambda: recall_at_k([[1, 2]], [[0, 0]], 1), "relevant"),
        (lambda: mean_iou([np.zeros((2, 2))], [np.zeros((2, 3))], 2), "y_pred[0]"),
        (lambda: mean_iou([np.zeros((2, 2))], [np.full((2, 2), 2)], 2), "y_pred[0]"),
        (lambda: mean_iou([np.zeros((2, 2))], [], 2), "y_pred"),
        (lambda: linear_probe([[1.0]], [0], [[1.0]], [0]), "train_labels"),
        (lambda: linear_probe([[1.0], [2.0]], [0, 1], [[1.0]], [0]), "folds"),
    ],
)
def test_bad_input_names_the_field(call, field: str) -> None:
    with pytest.raises(InputError) as error:
        call()
    assert error.value.field == field


def test_hits_of_each_query_share_places_that_tie() -> None:
    scores, relevant = np.array([[4.0, 1, 3, 2], [1, 1, 1, 0]]), np.array([[1, 1, 0, 0], [0, 0, 1, 0]])
    assert hits_at_k(scores, relevant, 2).tolist() == pytest.approx([1, 2 / 3])
    assert recall_at_k(scores, relevant, 2) == pytest.approx((1 / 2 + 2 / 3) / 2)
