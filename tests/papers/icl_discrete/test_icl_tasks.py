"""Function classes against truth tables written out by hand, teaching sequences, and the distribution of prompts."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.icl_discrete import TASKS, BooleanTask, MixedTask
from paperworks.papers.icl_discrete.functions import Formulas, Parities, Thresholds, nearest_neighbour_labels
from paperworks.papers.icl_discrete.tasks import sparse_parity_pool


def cube(n):
    return np.array(list(itertools.product((-1, 1), repeat=n)), np.int8)


def by_definition(function, x):
    """The label by Python loops, from the parameters of one function."""
    inner = function.functions
    if isinstance(inner, Formulas):
        clauses = []
        for weights in inner.weights[0]:
            literals = [(x[i] == 1) == (w == 1) for i, w in enumerate(weights) if w]
            clauses.append(all(literals) if inner.kind == "dnf" else any(literals))
        value = any(clauses) if inner.kind == "dnf" else all(clauses)
    elif isinstance(inner, Thresholds):
        value = sum(w * int(b) for w, b in zip(inner.weights[0], x, strict=True)) > inner.biases[0]
    else:
        assert isinstance(inner, Parities)
        value = sum(int(b == 1) for b, s in zip(x, inner.selected[0], strict=True) if s) % 2 == 1
    return 1 if value else -1


@pytest.mark.parametrize("name", [n for n in TASKS if n != "nearest_neighbours"])
@pytest.mark.parametrize("n", [4, 6])
def test_labels_equal_the_truth_table(name, n):
    task = BooleanTask(name, n)
    prompts = task.sample(20, 30, seed=n)
    every = cube(n)
    for b in range(20):
        function = prompts.functions[b]
        table = {tuple(x): by_definition(function, x) for x in every}
        assert [table[tuple(x)] for x in prompts.xs[b]] == prompts.ys[b].tolist()
        assert function(every).tolist() == list(table.values())
    assert set(np.unique(prompts.xs)) == {-1, 1}
    assert prompts.xs.dtype == prompts.ys.dtype == np.int8


def evaluate_text(text, x):
    """A formula as printed, evaluated by Python."""
    text = text.replace("true", "True").replace("false", "False").replace("^", "!=")
    for i in range(len(x) - 1, -1, -1):
        text = text.replace(f"~x{i}", f"(not x{i})").replace(f"x{i}", f"(b[{i}]==1)")
    return bool(eval(text, {"b": x}))


@pytest.mark.parametrize("name", ["conjunction", "dnf", "cnf", "disjunction", "sparse_parity"])
def test_printed_formulas_say_what_the_function_does(name):
    functions = BooleanTask(name, 5).draw_functions(30, 1)
    for b in range(30):
        for x in cube(5)[::3]:
            assert (functions[b](x) == 1) == evaluate_text(str(functions[b]), x), str(functions[b])


def test_some_functions_by_hand():
    weights = np.array([[[1, 0, -1]], [[0, 0, 0]]], np.int8)
    conjunction, disjunction = Formulas(weights, "dnf"), Formulas(weights, "cnf")
    assert str(conjunction[0]) == "x0 & ~x2"
    assert str(disjunction[0]) == "x0 | ~x2"
    assert (str(conjunction[1]), str(disjunction[1])) == ("true", "false")
    assert conjunction[1](cube(3)).tolist() == [1] * 8
    assert disjunction[1](cube(3)).tolist() == [-1] * 8
    assert str(Formulas(np.array([[[1, 1, 0], [0, 0, -1]]], np.int8), "dnf")[0]) == "(x0 & x1) | ~x2"
    assert str(Thresholds(np.array([[1.0, -2, 0]]), np.array([0.5]))[0]) == "x0 - 2 x1 > 0.5"


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 14), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_nearest_neighbour_labels_follow_the_rule(seed, n, m, start):
    rng = np.random.default_rng(seed)
    xs = (rng.integers(2, size=(1, m, n)) * 2 - 1).astype(np.int8)
    first = (rng.integers(2, size=(1, min(start, m))) * 2 - 1).astype(np.int8)
    ys = nearest_neighbour_labels(xs, first)[0]
    for j in range(m):
        distances = [int((xs[0, i] != xs[0, j]).sum()) for i in range(j)]
        nearest = distances.index(min(distances)) if distances else None
        if j < first.shape[1]:
            copied = nearest is not None and distances[nearest] == 0
            assert ys[j] == (ys[nearest] if copied else first[0, j])
        else:
            assert ys[j] == ys[nearest]


def consistent(functions, xs, ys):
    count = len(functions)
    labels = functions.labels(np.broadcast_to(xs, (count, *xs.shape)))
    return int((labels == ys).all(1).sum())


@pytest.mark.parametrize(
    ("name", "n", "extra", "count"),
    [
        ("teach_biconjunction", 5, 2, 243),
        ("teach_conjunction", 6, 1, 64),
        ("teach_sparse_parity", 6, 0, 15),
    ],
)
def test_teaching_sequences_leave_one_function(name, n, extra, count):
    task = BooleanTask(name, n)
    functions, log_prior = task.enumerate()
    assert len(functions) == count
    assert np.exp(log_prior).sum() == pytest.approx(1)
    for row in range(count):
        function = functions[row]
        points = task.teaching_sequence(function)
        inner = function.functions
        relevant = inner.selected.sum() if isinstance(inner, Parities) else np.abs(inner.weights).sum()
        assert len(points) == relevant + extra
        assert consistent(functions, points, function(points)) == 1


def test_dnf_teaching_leaves_one_function_unless_a_clause_contains_another():
    task = BooleanTask("teach_dnf", 3, clauses=2)
    functions, _ = task.enumerate()
    tables = functions.labels(np.broadcast_to(cube(3), (len(functions), 8, 3)))
    for row in range(len(functions)):
        a, b = functions.take(np.array([row])).weights[0] > 0
        if (a <= b).all() or (b <= a).all():
            continue
        points = task.teaching_sequence(functions[row])
        labels = functions.labels(np.broadcast_to(points, (len(functions), *points.shape)))
        agree = (labels == functions[row](points)).all(1)
        assert len(np.unique(tables[agree], axis=0)) == 1


def test_teaching_comes_first_and_in_order():
    task = BooleanTask("teach_biconjunction", 6, teach_share=0.5)
    prompts = task.sample(400, 20, 3)
    assert 0.4 < (prompts.taught > 0).mean() < 0.6
    for b in np.flatnonzero(prompts.taught)[:50]:
        points = task.teaching_sequence(prompts.functions[int(b)])
        assert len(points) == prompts.taught[b]
        assert (prompts.xs[b, : len(points)] == points).all()
        assert prompts.ys[b, 0] == prompts.ys[b, 1] == 1
        assert (prompts.ys[b, 2 : len(points)] == -1).all()
    with pytest.raises(InputError, match="n_points: found 2; expected at least"):
        BooleanTask("teach_conjunction", 6, literals=1.0).sample(3, 2, 0)


@pytest.mark.parametrize(("name", "sign"), [("conjunction", 1), ("disjunction", -1)])
@pytest.mark.parametrize("n", [8, 28])
def test_share_of_the_rare_label(name, sign, n):
    """0.3 + 0.7 * 0.85^n, within 3 standard deviations of the mean over functions."""
    prompts = BooleanTask(name, n).sample(4000, 25, n)
    per_prompt = (prompts.ys == sign).mean(1)
    expected = 0.3 + 0.7 * 0.85**n
    assert abs(per_prompt.mean() - expected) < 3 * per_prompt.std() / 4000**0.5


def test_distributions_of_weights():
    def weights(name, n=10, **options):
        functions = BooleanTask(name, n, **options).draw_functions(20_000, 0)
        return functions.weights.reshape(-1, n)

    w = weights("conjunction")
    assert [(w == v).mean() for v in (-1, 0, 1)] == pytest.approx([0.15, 0.7, 0.15], abs=0.005)
    w = weights("dnf")
    assert [(w == v).mean() for v in (-1, 0, 1)] == pytest.approx([0.1, 0.8, 0.1], abs=0.005)
    assert (weights("mono_conjunction") == 1).mean() == pytest.approx(0.3, abs=0.005)
    assert (weights("majority") == 1).mean() == pytest.approx(0.3, abs=0.005)
    w = weights("int_halfspace")
    assert [(w == v).mean() for v in range(-3, 4)] == pytest.approx([1 / 7] * 7, abs=0.005)
    assert set(np.abs(weights("sparse_disjunction")).sum(1)) == {4}
    assert set((weights("sparse_halfspace") != 0).sum(1)) == {3}
    biases = BooleanTask("sparse_thres", 8).draw_functions(6000, 0).biases
    assert sorted(set(biases)) == [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]
    assert set(BooleanTask("sparse_parity", 10).draw_functions(99, 0).selected.sum(1)) == {2}


def test_the_seed_decides_and_a_pool_repeats():
    task = BooleanTask("dnf", 7)
    a, b = task.sample(5, 9, 4), task.sample(5, 9, 4)
    assert (a.xs == b.xs).all()
    assert (a.ys == b.ys).all()
    assert not (task.sample(5, 9, 5).xs == a.xs).all()
    pooled = BooleanTask("sparse_parity", 10, pool=sparse_parity_pool(10))
    assert sparse_parity_pool(10) == 23
    seen = {str(f) for s in range(5) for f in (pooled.draw_functions(50, s)[i] for i in range(50))}
    assert len(seen) <= 23
    shifted = BooleanTask("conjunction", 8, bit_probability=0.9, planted=0).sample(100, 30, 0)
    assert (shifted.xs == 1).mean() == pytest.approx(0.9, abs=0.02)


def test_tasks_are_saved_and_mixed():
    task = BooleanTask("teach_dnf", 8, clauses=2, teach_share=0.3)
    assert BooleanTask.from_dict(json.loads(json.dumps(task.to_dict()))) == task
    mixed = MixedTask((BooleanTask("conjunction", 6), BooleanTask("parity", 6), BooleanTask("majority", 6)))
    prompts = mixed.sample(10, 8, 0)
    assert (prompts.functions.labels(prompts.xs) == prompts.ys).all()
    kinds = [type(prompts.functions[i].functions.parts[0]).__name__ for i in range(10)]
    assert kinds == ["Formulas"] * 4 + ["Parities"] * 3 + ["Thresholds"] * 3
    assert str(prompts.functions[5]) == prompts.functions.parts[1].describe(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BooleanTask("conjuction"), "task: found 'conjuction'.*did you mean 'conjunction'"),
        (lambda: BooleanTask("dnf", 0), "n_dims: found 0; expected 1 or more"),
        (lambda: BooleanTask("sparse_parity", 4, relevant=5), "n_dims: found 4; expected at least the 5 relevant"),
        (lambda: BooleanTask("sparse_parity", 4, relevant=0), "relevant: found 0"),
        (lambda: BooleanTask("dnf", planted=1.5), "planted: found 1.5; expected a probability"),
        (lambda: BooleanTask("dnf").sample(0, 5, 0), "batch: found 0"),
        (lambda: BooleanTask("dnf").sample(5, 0, 0), "n_points: found 0"),
        (lambda: BooleanTask("nearest_neighbours").sample(5, 10, 0), "n_points: found 10; expected more than the 10"),
        (lambda: BooleanTask("halfspace").enumerate(), "finitely many"),
        (lambda: BooleanTask("dnf").enumerate(), "n_dims: found 8, with .* functions"),
        (lambda: MixedTask(()), "tasks: found none"),
        (lambda: BooleanTask("dnf").sample(1, 5, 0).functions[0](np.zeros(8)), "x: found 0"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
