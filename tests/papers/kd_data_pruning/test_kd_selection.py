"""Selection rules against their definitions, and the closed forms of the theory against simulation."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from torch import nn

from paperworks import classification
from paperworks.errors import InputError
from paperworks.papers.kd_data_pruning import (
    METHODS,
    DataPruner,
    ExampleScores,
    choose_alpha,
    coverage_centric,
    distillation_weight,
    expected_ridge_error,
    isotropic_error,
    keep_best,
    rank,
    recommend,
    ridge_student,
    sweep,
    sweeps,
    train_student,
)
from paperworks.papers.kd_data_pruning.scoring import memorization_subsets
from paperworks.papers.kd_data_pruning.selection import class_quota
from paperworks.papers.kd_data_pruning.students import student_settings
from paperworks.papers.kd_data_pruning.theory import isotropic_inputs
from paperworks.training import TrainSettings

pytestmark = pytest.mark.filterwarnings("ignore:no row of")
QUICK = TrainSettings(steps=30, batch_size=32, optimizer="sgd", learning_rate=0.05, device="cpu")


def make(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    return (x[:240] / 16).astype(np.float32), y[:240]


@pytest.fixture(scope="module")
def scores(digits) -> ExampleScores:
    return ExampleScores(make, *digits, QUICK, early_steps=5, runs=2, memorization_models=4)


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("balance", [False, True])
def test_every_method_keeps_as_many_as_asked(digits, scores, method: str, balance: bool) -> None:
    pruner = DataPruner(method, 0.25, balance=balance).fit(None, *digits, scores=scores)
    kept = pruner.indices_
    assert kept.dtype == np.int64
    assert np.array_equal(kept, np.unique(kept))
    assert len(kept) == 60
    if balance:
        counts, all_counts = np.bincount(digits[1][kept], minlength=10), np.bincount(digits[1], minlength=10)
        assert (abs(counts - 0.25 * all_counts) < 1).all()
    again = DataPruner(method, 0.25, balance=balance).fit(None, *digits, scores=scores)
    assert np.array_equal(again.indices_, kept)


@pytest.mark.parametrize("method", ["el2n", "aum", "forgetting", "entropy", "random", "herding", "k-center"])
def test_a_smaller_part_is_within_a_larger_one(digits, scores, method: str) -> None:
    pruner = DataPruner(method, 0.5).fit(None, *digits, scores=scores)
    assert set(pruner.select(0.1)) < set(pruner.select(0.4)) < set(pruner.select(1.0))
    assert np.array_equal(pruner.select(1.0), np.arange(240))


def test_scores_are_those_of_their_definitions(digits, scores) -> None:
    x, y = digits
    total = np.zeros(240)
    for seed in (1, 2):
        model = make(seed)
        early = TrainSettings(**{**QUICK.__dict__, "steps": 5, "schedule_steps": 30, "seed": seed})
        classification.fit(model, x, y, settings=early)
        p = classification.predict_proba(model, x, device="cpu")
        total += np.sqrt(((p - np.eye(10)[y]) ** 2).sum(1))
    assert scores.score("el2n") == pytest.approx(total / 2, abs=1e-6)
    assert 0 <= scores.score("el2n").min() <= scores.score("el2n").max() <= math.sqrt(2)
    h = scores.features
    distance = np.array([np.linalg.norm(h[i] - h[y == y[i]].mean(0)) for i in range(240)])
    moderate = [abs(distance[i] - np.median(distance[y == y[i]])) for i in range(240)]
    assert scores.score("moderate") == pytest.approx(moderate, abs=1e-5)
    model, dynamics = scores.trained
    assert np.array_equal(scores.score("aum"), dynamics.aum())
    last = np.linalg.norm(h, axis=1)
    assert h.shape == (240, 16)
    assert last.min() > 0
    memory = scores.score("memorization")
    assert -1 <= memory.min() <= memory.max() <= 1


@pytest.mark.parametrize("models", [4, 10, 20, 33])
def test_every_row_is_left_out_by_three_tenths_of_the_models(models: int) -> None:
    used = memorization_subsets(57, models, seed=1)
    assert used.shape == (models, 57)
    assert abs((~used).mean(0) - 0.3).max() <= 0.05
    assert (~used).sum(0).min() >= 1
    assert len({tuple(row) for row in used.tolist()}) == models


def test_scores_do_not_depend_on_the_order_of_the_rows(digits) -> None:
    x, y = digits
    order = np.random.default_rng(0).permutation(240)
    for method in ("el2n", "grand", "grand-last", "max-margin"):
        plain, shuffled = (
            ExampleScores(make, x[rows], y[rows], QUICK, early_steps=0, runs=2).score(method)
            for rows in (np.arange(240), order)
        )
        assert shuffled == pytest.approx(plain[order], rel=1e-4)


def test_ranks_follow_scores_and_break_ties_by_the_seed() -> None:
    values = np.array([1.0, np.inf, 0, 0, 0, 0, 2])
    order = rank(values, "largest", infinite=True)
    assert order[:3].tolist() == [1, 6, 0]
    assert rank(-values, "smallest", infinite=True)[:3].tolist() == [1, 6, 0]
    tails = {tuple(rank(values, "largest", seed=s, infinite=True)[3:].tolist()) for s in range(20)}
    assert len(tails) > 5
    assert all(sorted(tail) == [2, 3, 4, 5] for tail in tails)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 200), st.floats(0.01, 1), st.sampled_from([0.0, 0.1, 0.3]), st.integers(1, 60), st.integers(0, 99)
)
def test_ccs_covers_the_strata(n: int, fraction: float, beta: float, strata: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    aum = draw.choice([draw.normal(size=n), np.zeros(n), -draw.exponential(size=n)], axis=0)
    count = max(1, round(fraction * n))
    if n - round(beta * n) < count:
        with pytest.raises(InputError):
            coverage_centric(aum, fraction, beta=beta, strata=strata, seed=seed)
        return
    kept = coverage_centric(aum, fraction, beta=beta, strata=strata, seed=seed)
    assert len(kept) == count == len(set(kept.tolist()))
    dropped = np.sort(aum)[: round(beta * n)]
    if len(dropped):
        assert aum[kept].min() >= dropped.max() or (aum == dropped.max()).sum() > 1


def test_ccs_by_hand() -> None:
    aum = np.array([0.0] * 6 + [1.0] * 2 + [2.0])  # strata of 6, 2 and 1 rows
    kept = coverage_centric(aum, 6 / 9, beta=0, strata=3)
    assert [int((aum[kept] == v).sum()) for v in (0, 1, 2)] == [3, 2, 1]
    assert np.array_equal(coverage_centric(aum, 1.0, beta=0), np.arange(9))
    hard = coverage_centric(np.arange(10.0), 0.5, beta=0.5)
    assert hard.tolist() == [5, 6, 7, 8, 9]


def test_class_quotas_add_up_and_minimum_holds() -> None:
    labels = np.repeat([0, 1, 2], [7, 11, 100])
    quota = class_quota(labels, 0.1)
    assert sum(quota.values()) == 12
    assert all(abs(quota[c] - 0.1 * n) < 1 for c, n in ((0, 7), (1, 11), (2, 100)))
    order = np.arange(118)[::-1]
    assert np.bincount(labels[keep_best(order, 0.01, labels=labels, min_per_class=3)]).tolist() == [3, 3, 3]
    x = np.zeros((118, 2), dtype=np.float32)
    with pytest.warns(UserWarning, match="no row of"):
        DataPruner("random", 0.01).fit(None, x, labels)
    kept = DataPruner("random", 0.02, min_per_class=2).fit(None, x, labels).indices_
    assert np.bincount(labels[kept]).min() >= 2


def test_herding_is_nearer_to_the_mean_than_chance(digits, scores) -> None:
    mean = scores.features.mean(0)
    for count in (10, 30, 60):
        kept = DataPruner("herding", count / 240).fit(None, *digits, scores=scores).indices_
        own = np.linalg.norm(scores.features[kept].mean(0) - mean)
        draws = [np.random.default_rng(i).permutation(240)[:count] for i in range(99)]
        assert own < np.median([np.linalg.norm(scores.features[d].mean(0) - mean) for d in draws])


def test_students(digits) -> None:
    x, y = digits
    rows = np.arange(0, 240, 4)
    plain = train_student(make, x, y, rows, QUICK)
    zero = train_student(make, x, y, rows, QUICK, teacher=make(9), alpha=0.0)
    for a, b in zip(plain.parameters(), zero.parameters(), strict=True):
        assert torch.equal(a, b)
    wrong = y.copy()
    wrong[1::4] = 0  # of rows that are not kept
    same = train_student(make, x, wrong, rows, QUICK)
    assert torch.equal(plain[0].weight, same[0].weight)
    assert student_settings(QUICK, 10, 240).batch_size == 5
    assert student_settings(QUICK, 1, 240).batch_size == 1
    assert student_settings(QUICK, 120, 240, "epochs").steps == 15
    assert student_settings(QUICK, 120, 240).steps == 30
    teacher = classification.predict_logits(make(9), x, device="cpu")
    best, tried = choose_alpha(make, x, y, rows, QUICK, teacher=teacher)
    assert tried[best] == max(tried.values())


def test_the_weight_grows_as_fewer_rows_are_kept() -> None:
    weights = [distillation_weight(f) for f in (0.01, 0.1, 0.5, 1.0)]
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] == 0.5
    assert distillation_weight(0.5, low=0, high=1) == 0.5


def test_sweeps_have_every_combination(digits) -> None:
    x, y = digits
    found = sweep(
        make,
        (x[:180], y[:180]),
        (x[180:], y[180:]),
        QUICK,
        fractions=(0.2, 1.0),
        methods=("random", "el2n"),
        alphas=(0.0, 1.0),
        seeds=(0, 1),
        teacher_steps=40,
        scoring_steps=20,
        early_steps=4,
        runs=1,
    )
    assert len(found) == 2 * (2 * 2 + 2)
    assert set(found["kept"]) == {36, 180}
    assert set(found.attrs["teacher"]) == {0, 1}
    best = recommend(found, 0.3)
    assert best["fraction"] == 0.2
    means = found[found["fraction"] == 0.2].groupby(["method", "alpha"])["accuracy"].mean()
    assert best["accuracy"] == means.max()


def test_a_sweep_that_was_stopped_goes_on_after_the_last_student(
    digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = digits
    options = {"fractions": (0.2,), "methods": ("random", "el2n", "forgetting"), "alphas": (0.0, 1.0), "seeds": (0, 1)}
    small = {"teacher_steps": 20, "scoring_steps": 20, "early_steps": 4, "runs": 1}

    def swept(folder: Path | None) -> Any:
        return sweep(make, (x[:180], y[:180]), (x[180:], y[180:]), QUICK, folder=folder, **options, **small)

    whole, trained = swept(None), []
    plain = sweeps.train_student

    def counted(*arguments: Any, **rest: Any) -> Any:
        if len(trained) == 8:
            raise KeyboardInterrupt
        trained.append(1)
        return plain(*arguments, **rest)

    monkeypatch.setattr(sweeps, "train_student", counted)
    with pytest.raises(KeyboardInterrupt):
        swept(tmp_path)
    trained.clear()
    found = swept(tmp_path)
    assert len(trained) == len(whole) - 8
    assert found.equals(whole)
    assert found.attrs == whole.attrs
    monkeypatch.setattr(sweeps, "train_student", None)  # all is known: nothing is trained
    monkeypatch.setattr(sweeps.classification, "fit", None)
    assert swept(tmp_path).equals(whole)


def test_closed_forms_agree_with_each_other_and_with_simulation() -> None:
    x = isotropic_inputs(24, 3)
    theta = np.array([1.0, -2.0, 0.5])
    for alpha in (0.0, 0.3, 1.0):
        exact = expected_ridge_error(x, theta, 6, 24, alpha=alpha)
        assert exact / 3 == pytest.approx(isotropic_error(6, 24, alpha))
    assert isotropic_error(6, 24, 0) == pytest.approx(1 / 6)
    assert isotropic_error(6, 24, 1) == pytest.approx(1 / 24)
    draw = np.random.default_rng(0)
    x = draw.normal(size=(12, 3))
    found = []
    for _ in range(2000):
        y = x @ theta + 0.5 * draw.normal(size=12)
        found.append(((ridge_student(x, y, 6, 12, alpha=0.7, ridge=0.4) - theta) ** 2).sum())
    expected = expected_ridge_error(x, theta, 6, 12, alpha=0.7, ridge=0.4, noise=0.25)
    assert abs(np.mean(found) - expected) < 4 * np.std(found) / math.sqrt(2000)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda x, y: DataPruner("el2m"), "method"),
        (lambda x, y: DataPruner("random", 0), "fraction"),
        (lambda x, y: DataPruner("random", 1.1), "fraction"),
        (lambda x, y: DataPruner("random", min_per_class=-1), "min_per_class"),
        (lambda x, y: DataPruner("el2n").fit(None, x, y), "make_model"),
        (lambda x, y: DataPruner("random").fit(None, x, y[:-1]), "labels"),
        (lambda x, y: DataPruner("random").fit(None, x, y - 1), "labels[0]"),
        (lambda x, y: DataPruner("random").fit(None, x[:5], y[:5], scores=ExampleScores(make, x, y, QUICK)), "scores"),
        (lambda x, y: ExampleScores(make, x, y, QUICK, runs=0), "runs"),
        (lambda x, y: ExampleScores(make, x, y, QUICK, early_steps=-1), "early_steps"),
        (lambda x, y: ExampleScores(make, x, y, QUICK, memorization_models=2), "memorization_models"),
        (lambda x, y: ExampleScores(make, x, y, QUICK).score("herding"), "method"),
        (lambda x, y: ExampleScores(make, x, y, TrainSettings(steps=1, device="cpu")).score("aum"), "steps"),
        (lambda x, y: rank([1.0, math.nan], "largest"), "scores[1]"),
        (lambda x, y: rank([1.0, math.inf], "largest"), "scores[1]"),
        (lambda x, y: rank([1.0], "most"), "keep"),
        (lambda x, y: coverage_centric([1.0, 2.0], 0.5, beta=1), "beta"),
        (lambda x, y: coverage_centric([1.0, 2.0], 1.0, beta=0.5), "beta"),
        (lambda x, y: coverage_centric([1.0, 2.0], 0.5, strata=0), "strata"),
        (lambda x, y: keep_best([0, 1], 0.5, min_per_class=1), "min_per_class"),
        (lambda x, y: train_student(make, x, y, [], QUICK), "rows"),
        (lambda x, y: train_student(make, x, y, [1, 1], QUICK), "rows"),
        (lambda x, y: train_student(make, x, y, [240], QUICK), "rows"),
        (lambda x, y: train_student(make, x, y, [1, 2], QUICK, teacher=make(0), alpha=1.5), "alpha"),
        (lambda x, y: student_settings(QUICK, 2, 4, "time"), "budget"),
        (lambda x, y: choose_alpha(make, x, y, [3], QUICK, teacher=make(0)), "rows"),
        (lambda x, y: distillation_weight(0), "fraction"),
        (lambda x, y: distillation_weight(0.5, low=0.9, high=0.5), "low"),
        (lambda x, y: ridge_student(x, y, 30, 20, alpha=1), "student"),
        (lambda x, y: ridge_student(x, y, 10, 20, alpha=1), "ridge"),
        (lambda x, y: ridge_student(x, y, 10, 20, alpha=2, ridge=1), "alpha"),
        (lambda x, y: sweep(make, (x, y), (x, y), QUICK, fractions=(), methods=("random",)), "seeds"),
    ],
)
def test_bad_input_names_the_field(digits, call, field: str) -> None:
    with pytest.raises(InputError) as error:
        call(*digits)
    assert error.value.field == field


class Margins:
    """Scores that are known, in place of ``ExampleScores``."""

    def __init__(self, labels: np.ndarray, values: np.ndarray) -> None:
        self.labels, self.values = labels, values

    def score(self, method: str) -> np.ndarray:
        return self.values


def test_ccs_drops_the_same_share_of_every_class() -> None:
    # quotas of 13.1 and 12.9 rows are both 13: more and less than a tenth of their class
    y = np.repeat([0, 1], [131, 129])
    values = np.concatenate([np.arange(131.0), np.arange(129.0)])
    for seed in range(20):
        pruner = DataPruner("ccs", 0.1, balance=True, strata=1, random_state=seed)
        kept = pruner.fit(None, np.zeros((260, 2)), y, scores=Margins(y, values)).indices_
        assert np.bincount(y[kept]).tolist() == [13, 13]
        assert values[kept].min() >= 39  # three tenths of either class
    small = np.repeat([0, 1], [257, 3])
    for beta in (None, 0.3):
        pruner = DataPruner("ccs", 0.1, balance=True, min_per_class=3, beta=beta)
        kept = pruner.fit(None, np.zeros((260, 2)), small, scores=Margins(small, values)).indices_
        assert np.bincount(small[kept])[1] == 3


def test_classes_of_a_ranking_may_be_names() -> None:
    names = np.array(["a", "a", "b", "b", "b", "b"])
    assert keep_best([5, 4, 3, 2, 1, 0], 0.5, labels=names).tolist() == [1, 4, 5]
    with pytest.raises(InputError, match=r"labels.*\(6,\)"):
        keep_best(np.arange(6), 0.5, labels=names[:5])


def test_a_pruner_is_an_estimator(digits) -> None:
    pruner = DataPruner("herding", 0.25, settings=QUICK)
    with pytest.raises(NotFittedError):
        pruner.select(0.5)
    pruner.fit(lambda seed: make(seed), *digits)  # a function that cannot be pickled
    copied, fresh = pickle.loads(pickle.dumps(pruner)), clone(pruner)
    assert np.array_equal(copied.select(0.4), pruner.select(0.4))
    assert not hasattr(fresh, "indices_")
    assert np.array_equal(fresh.fit(make, *digits).indices_, pruner.indices_)
    with pytest.raises(InputError, match="method"):
        clone(pruner).set_params(method="nothing").fit(make, *digits)
    with pytest.raises(InputError, match="beta"):
        DataPruner("random", beta=0.3)
