"""Learners against their guarantees, plain versions, scikit-learn and the exact posterior."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsClassifier

from paperworks.errors import InputError
from paperworks.papers.icl_discrete import BooleanTask, ExactBayes, curve, evaluate
from paperworks.papers.icl_discrete.curves import after_teaching, correct, mean_interval
from paperworks.papers.icl_discrete.learners import (
    Averaging,
    Elimination,
    LeastSquares,
    LinearProgram,
    MultilayerPerceptron,
    Neighbours,
    Null,
    ParityElimination,
    Perceptron,
    SparseParityEnumeration,
    reference_learners,
)

LEARNERS = [
    Null(),
    Averaging(),
    Neighbours(1),
    Neighbours(3),
    LeastSquares(),
    Elimination(),
    Elimination("disjunction"),
    Elimination(monotone=True),
    ParityElimination(),
    SparseParityEnumeration(2),
    Perceptron(),
    LinearProgram(),
    MultilayerPerceptron(steps=5),
    ExactBayes(BooleanTask("conjunction", 5), noise=0.1),
]


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda x: x.name)
def test_no_learner_looks_at_the_label_it_predicts_or_at_later_points(learner):
    prompts = BooleanTask("conjunction", 5).sample(3, 12, 0)
    before = learner.scores(prompts.xs, prompts.ys)
    assert before.shape == (3, 12)
    cut = 7
    xs, ys = prompts.xs.copy(), prompts.ys.copy()
    ys[:, cut:] *= -1
    xs[:, cut + 1 :] *= -1
    np.testing.assert_allclose(learner.scores(xs, ys)[:, : cut + 1], before[:, : cut + 1], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "learner"),
    [
        ("conjunction", Elimination()),
        ("mono_conjunction", Elimination(monotone=True)),
        ("disjunction", Elimination("disjunction")),
        ("sparse_disjunction", Elimination("disjunction", monotone=True)),
    ],
)
@pytest.mark.parametrize("n", [4, 8, 13])
def test_elimination_errs_on_one_side_and_seldom(name, learner, n):
    prompts = BooleanTask(name, n).sample(300, 60, n)
    guess = np.sign(learner.scores(prompts.xs, prompts.ys))
    sign = 1 if learner.target == "conjunction" else -1
    assert not ((guess == sign) & (prompts.ys == -sign)).any()
    assert ((guess != prompts.ys).sum(1) <= n + 1).all()


def test_elimination_equals_the_algorithm_with_sets():
    prompts = BooleanTask("conjunction", 6).sample(20, 25, 5)
    scores = Elimination().scores(prompts.xs, prompts.ys)
    for b in range(20):
        literals = set(itertools.product(range(6), (-1, 1)))
        for j in range(25):
            x = prompts.xs[b, j]
            assert scores[b, j] == (1 if all(x[i] == s for i, s in literals) else -1)
            if prompts.ys[b, j] == 1:
                literals = {(i, s) for i, s in literals if x[i] == s}


@pytest.mark.parametrize("n", [3, 6, 20, 60])
def test_gaussian_elimination_is_right_wherever_the_points_determine_the_label(n):
    prompts = BooleanTask("parity", n).sample(20, n + 15, n)
    scores = ParityElimination().scores(prompts.xs, prompts.ys)
    sure = np.abs(scores) == 2
    assert (np.sign(scores) == prompts.ys)[sure].all()
    bits = prompts.xs > 0

    def rank(rows):
        basis: dict[int, int] = {}
        for row in rows:
            v = int(sum(1 << i for i, b in enumerate(row) if b))
            while v and v.bit_length() in basis:
                v ^= basis[v.bit_length()]
            if v:
                basis[v.bit_length()] = v
        return len(basis)

    for b in range(0, 20, 5):
        for j in range(0, n + 15, max(1, n // 6)):
            assert sure[b, j] == (rank(bits[b, : j + 1]) == rank(bits[b, :j]))


def test_parity_is_perfect_at_full_rank():
    prompts = BooleanTask("parity", 8).sample(200, 40, 1)
    scores = ParityElimination().scores(prompts.xs, prompts.ys)
    for b in range(200):
        span = {0}  # rank over GF(2), by counting what is reached
        for j in range(40):
            if len(span) == 256:
                assert abs(scores[b, j]) == 2
                assert np.sign(scores[b, j]) == prompts.ys[b, j]
            code = int(((prompts.xs[b, j] > 0) << np.arange(8)).sum())
            span |= {s ^ code for s in span}


def test_enumeration_finds_the_sparse_parity():
    prompts = BooleanTask("sparse_parity", 10).sample(200, 30, 0)
    scores = SparseParityEnumeration(2).scores(prompts.xs, prompts.ys)
    assert (np.sign(scores[:, -5:]) == prompts.ys[:, -5:]).mean() > 0.999
    unanimous = np.abs(scores) == 1
    assert (np.sign(scores) == prompts.ys)[unanimous].all()
    assert (scores[:, 0] == np.round(scores[:, 0] * 45) / 45).all()


def test_nearest_neighbour_labels_are_what_one_neighbour_predicts():
    prompts = BooleanTask("nearest_neighbours", 8, start=10).sample(300, 40, 2)
    assert (np.sign(Neighbours(1).scores(prompts.xs, prompts.ys)) == prompts.ys)[:, 10:].all()


def test_neighbours_agree_with_scikit_learn_where_nothing_ties():
    rng = np.random.default_rng(0)
    xs = (rng.integers(2, size=(40, 20, 31)) * 2 - 1).astype(np.int8)
    ys = (rng.integers(2, size=(40, 20)) * 2 - 1).astype(np.int8)
    checked = 0
    for k in (1, 3):
        scores = Neighbours(k).scores(xs, ys)
        assert (scores[:, 0] == 0).all()
        for b, j in itertools.product(range(40), (10, 19)):
            order = np.sort((xs[b, :j] != xs[b, j]).sum(1))
            if order[k - 1] == order[k]:
                continue
            peer = KNeighborsClassifier(k).fit(xs[b, :j], ys[b, :j]).predict(xs[b, j : j + 1])[0]
            assert np.sign(scores[b, j]) == peer
            checked += 1
    assert checked > 40


def test_least_squares_agrees_with_scikit_learn():
    prompts = BooleanTask("halfspace", 6).sample(5, 20, 0)
    scores = LeastSquares().scores(prompts.xs, prompts.ys)
    for b, j in itertools.product(range(5), (3, 10, 19)):
        peer = LinearRegression(fit_intercept=False).fit(prompts.xs[b, :j], prompts.ys[b, :j])
        assert scores[b, j] == pytest.approx(float(peer.predict(prompts.xs[b, j : j + 1])[0]), abs=1e-8)


@pytest.mark.parametrize("learner", [Perceptron(passes=500), LinearProgram()], ids=lambda x: x.name)
def test_halfspaces_agree_with_every_point_seen(learner):
    """Asked for a point that it has seen already, a consistent learner repeats the label."""
    prompts = BooleanTask("int_halfspace", 6).sample(6, 12, 0)
    xs = np.concatenate([prompts.xs, prompts.xs], 1)
    ys = np.concatenate([prompts.ys, prompts.ys], 1)
    assert (np.sign(learner.scores(xs, ys)) == ys)[:, 12:].all()


def posterior_by_hand(task, xs, ys):
    """The Bayes vote for the last point of one prompt, with Fractions of plain probabilities."""
    functions, log_prior = task.enumerate()
    n, q = task.n_dims, task.planting
    vote = total = 0.0
    for row, prior in enumerate(np.exp(log_prior)):
        f = functions[row]
        w = f.functions.weights[0, 0] * (1 if f.functions.kind == "dnf" else -1)
        p = prior
        for x in xs:
            inside = all(x[i] == w[i] for i in range(n) if w[i])
            p *= (1 - q) * 2.0**-n + q * inside * 2.0 ** -(n - np.abs(w).sum())
        if (f(xs[:-1]) == ys[:-1]).all():
            total += p
            vote += p * f(xs[-1])
    return vote / total


@pytest.mark.parametrize("name", ["conjunction", "disjunction", "mono_conjunction"])
def test_bayes_equals_the_posterior_written_out(name):
    task = BooleanTask(name, 3)
    prompts = task.sample(6, 7, 0)
    scores = ExactBayes(task).scores(prompts.xs, prompts.ys)
    for b, j in itertools.product(range(6), (0, 3, 6)):
        by_hand = posterior_by_hand(task, prompts.xs[b, : j + 1], prompts.ys[b, : j + 1])
        assert scores[b, j] == pytest.approx(by_hand, abs=1e-9)


@pytest.mark.parametrize(
    "task",
    [
        BooleanTask("conjunction", 6),
        BooleanTask("sparse_thres", 5),
        BooleanTask("sparse_parity", 7),
        BooleanTask("teach_biconjunction", 5, teach_share=0.5),
        BooleanTask("dnf", 4, clauses=2),
    ],
    ids=lambda t: t.name,
)
def test_nothing_beats_bayes(task):
    prompts = task.sample(200, 25, 1)
    best = correct(ExactBayes(task), prompts).mean()
    for learner in reference_learners(task):
        assert correct(learner, prompts).mean() <= best + 0.015, learner.name


def test_bayes_knows_the_function_after_its_teaching_sequence():
    task = BooleanTask("teach_biconjunction", 6)
    prompts = task.sample(100, 20, 0)
    right = correct(ExactBayes(task), prompts)
    assert after_teaching(right, prompts.taught, window=20) == 1.0


def test_mlp_trains_each_prompt_by_itself():
    prompts = BooleanTask("conjunction", 6).sample(4, 30, 0)
    learner = MultilayerPerceptron(steps=60, positions=(20,))
    together = learner.scores(prompts.xs, prompts.ys)
    assert (together[:, :20] == 0).all()
    assert (np.sign(together) == prompts.ys)[:, 20:].mean() > 0.7
    xs, ys = prompts.xs.copy(), prompts.ys.copy()
    ys[1:] *= -1
    np.testing.assert_allclose(learner.scores(xs, ys)[0], together[0], atol=1e-5)


def test_a_score_of_zero_is_wrong_and_curves_add_up():
    prompts = BooleanTask("conjunction", 4).sample(50, 10, 0)
    right = correct(Neighbours(1), prompts)
    assert not right[:, 0].any()
    table = curve(right)
    assert table["position"].tolist() == list(range(10))
    np.testing.assert_allclose(table["accuracy"], right.mean(0))
    assert ((table["lo"] <= table["accuracy"]) & (table["accuracy"] <= table["hi"])).all()
    assert table["lo"][0] == table["hi"][0] == 0
    resampled = right[np.random.default_rng(0).integers(50, size=(4000, 50)), 5].mean(1)
    np.testing.assert_allclose(table[["lo", "hi"]].iloc[5], np.quantile(resampled, [0.05, 0.95]), atol=0.021)
    mean, low, high = mean_interval(right, np.random.default_rng(0))
    assert low < mean < high
    assert mean == pytest.approx(right.mean())


def test_evaluation_skips_random_labels_and_flips_what_is_seen():
    task = BooleanTask("nearest_neighbours", 6, start=8)
    assert evaluate(Neighbours(1), task, n_prompts=50, n_points=20)["position"].tolist() == list(range(8, 20))
    clean = evaluate(Elimination(), BooleanTask("conjunction", 6), n_prompts=200)
    noisy = evaluate(Elimination(), BooleanTask("conjunction", 6), n_prompts=200, noise=0.3)
    assert noisy["accuracy"].iloc[-1] < clean["accuracy"].iloc[-1] - 0.1
    assert (evaluate(Null(), task, n_prompts=50, n_points=20, noise=0.4).accuracy > 0).all()


def test_bad_input_is_named():
    for make, message in [
        (lambda: Neighbours(0), "k: found 0; expected 1 neighbour or more"),
        (lambda: SparseParityEnumeration(0), "k: found 0"),
        (lambda: SparseParityEnumeration(3).scores(np.ones((1, 2, 2)), np.ones((1, 2))), "at most the 2 bits"),
        (lambda: ExactBayes(BooleanTask("conjunction", 9)), "n_dims: found 9; expected at most 8"),
        (lambda: ExactBayes(BooleanTask("dnf", 8)), "functions"),
        (lambda: curve(np.ones((0, 3))), "at least one prompt"),
    ]:
        with pytest.raises(InputError, match=message):
            make()
