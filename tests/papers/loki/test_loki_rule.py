"""The rule: every fast path against the definition, the special cases, ties and weights."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.loki import (
    EmbeddingSpace,
    FrechetMean,
    GridSpace,
    MatrixSpace,
    complete,
    cycle,
    keep_top,
    locus,
    loki_predict,
    random_tree,
)
from paperworks.papers.loki.spaces import LabelSpace


def by_definition(space: LabelSpace, observed: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """sum_l p_l d(v, l)^2, in plain loops over distances."""
    out = np.zeros((len(weights), len(space)))
    for column, label in enumerate(observed):
        out += weights[:, [column]] * space.distances([int(label)]) ** 2
    return out


def some_space(kind: str, rng: np.random.Generator) -> LabelSpace:
    n = int(rng.integers(2, 30))
    if kind == "tree":
        return random_tree(n, rng, weighted=bool(rng.integers(2)))
    if kind == "grid":
        return GridSpace(rng.integers(1, 5, size=int(rng.integers(1, 4))).tolist())
    if kind == "embedding":
        return EmbeddingSpace(rng.normal(size=(n, 3)) + rng.normal() * 20)
    points = rng.normal(size=(n, 2))
    return MatrixSpace(np.linalg.norm(points[:, None] - points[None], axis=-1))


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(["tree", "grid", "embedding", "matrix"]), seed=st.integers(0, 10**6))
def test_every_path_gives_the_variances_of_the_definition(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = some_space(kind, rng)
    observed = rng.choice(len(space), int(rng.integers(1, len(space) + 1)))  # with repeats
    weights = rng.dirichlet(np.full(len(observed), 0.5), size=5)
    right = by_definition(space, observed, weights)
    for path in ("auto", "dense", "blocks"):
        mean = FrechetMean(space, observed, path)  # type: ignore[arg-type]
        np.testing.assert_allclose(mean.variances(weights), right, rtol=1e-7, atol=1e-8 * right.max())
        chosen = mean.predict(weights)
        np.testing.assert_allclose(right[np.arange(5), chosen], right.min(axis=1), rtol=1e-7, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_tree_path_finds_all_ties_of_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tree = random_tree(int(rng.integers(1, 25)), rng)
    observed = rng.choice(len(tree), int(rng.integers(1, len(tree) + 1)))
    weights = rng.integers(0, 3, size=(6, len(observed))).astype(float)
    weights[weights.sum(axis=1) == 0] = 1
    right = by_definition(tree, observed, weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = FrechetMean(tree, observed).minimisers(weights)
    for row, minimal in zip(right, found, strict=True):
        assert minimal.tolist() == np.flatnonzero(row <= row.min() + 1e-9).tolist()


def test_complete_graph_is_argmax_and_reaches_nothing_new() -> None:
    rng = np.random.default_rng(0)
    observed = np.array([7, 1, 4, 9])
    weights = rng.dirichlet(np.ones(4), size=1000)
    assert (loki_predict(weights, complete(12), observed) == observed[weights.argmax(axis=1)]).all()


def test_euclidean_labels_give_the_label_nearest_to_the_mean() -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(200, 5))
    observed = rng.choice(200, 20, replace=False)
    weights = rng.dirichlet(np.full(20, 0.3), size=200)
    mean = weights @ points[observed]
    nearest = np.linalg.norm(points[None] - mean[:, None], axis=-1).argmin(axis=1)
    for path in ("auto", "dense"):
        assert (loki_predict(weights, EmbeddingSpace(points), observed, path=path) == nearest).all()


def test_a_certain_classifier_is_believed() -> None:
    rng = np.random.default_rng(2)
    tree = random_tree(30, rng)
    observed = rng.choice(30, 8, replace=False)
    assert (loki_predict(np.eye(8), tree, observed) == observed).all()
    assert loki_predict(np.ones((1, 1)), tree, [17]).tolist() == [17]


def test_names_of_vertices_and_the_scale_of_distances_do_not_matter() -> None:
    rng = np.random.default_rng(3)
    points = rng.normal(size=(40, 3))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    observed = rng.choice(40, 9, replace=False)
    weights = rng.dirichlet(np.ones(9), size=100)
    base = loki_predict(weights, MatrixSpace(distances), observed)
    order = rng.permutation(40)
    place = np.argsort(order)
    moved = loki_predict(weights, MatrixSpace(distances[np.ix_(order, order)]), place[observed])
    assert (order[moved] == base).all()
    assert (loki_predict(weights, MatrixSpace(distances * 7.5), observed) == base).all()
    assert (loki_predict(weights * 3, MatrixSpace(distances), observed) == base).all()


def test_predictions_lie_in_the_locus_by_linear_programming() -> None:
    rng = np.random.default_rng(4)
    for space in (random_tree(15, rng), GridSpace((3, 4)), cycle(9)):
        observed = rng.choice(len(space), 4, replace=False)
        weights = rng.dirichlet(np.full(4, 0.5), size=300)
        assert set(loki_predict(weights, space, observed).tolist()) <= set(locus(space, observed, method="lp").tolist())


def test_ties() -> None:
    grid = GridSpace((10, 10))
    mean = FrechetMean(grid, [0, 99])
    half = np.array([[0.5, 0.5]])
    tied = mean.minimisers(half)[0]
    assert sorted(grid.labels[i] for i in tied) == [(a, 9 - a) for a in range(10)]
    assert mean.predict(half).tolist() == [tied[0]]
    heavy = np.array([[0.45, 0.55]])
    assert mean.predict(heavy, tie="nearest-observed")[0] in mean.minimisers(heavy)[0]
    drawn = {int(mean.predict(half, tie="random", rng=np.random.default_rng(s))[0]) for s in range(60)}
    assert drawn <= set(tied.tolist())
    assert len(drawn) > 5
    shares = np.linspace(0, 1, 4001)
    assert len(set(mean.predict(np.column_stack([shares, 1 - shares])).tolist())) == 19  # one per anti-diagonal


def test_top_weights_bound_what_they_leave_out() -> None:
    rng = np.random.default_rng(5)
    tree = random_tree(60, rng)
    observed = rng.choice(60, 20, replace=False)
    weights = rng.dirichlet(np.full(20, 0.2), size=50)
    mean = FrechetMean(tree, observed)
    whole, nothing = keep_top(weights, 20)
    assert (mean.predict(whole) == mean.predict(weights)).all()
    assert not nothing.any()
    kept, left = keep_top(weights, 5)
    change = np.abs(mean.variances(kept) - mean.variances(weights)).max(axis=1)
    assert (change <= left * tree.diameter() ** 2 + 1e-9).all()


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.array([[0.5, -0.5]]), "softmax"),
        (np.array([[np.nan, 1.0]]), "NaN"),
        (np.array([[0.0, 0.0]]), "only zeros"),
        (np.array([[1.0, 0.0, 0.0]]), "a column per class"),
        (np.array([["a", "b"]]), "not numbers"),
    ],
)
def test_weights_that_are_no_weights_are_refused(weights: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        loki_predict(weights, complete(3), [0, 1])


def test_logits_passed_for_probabilities_are_told() -> None:
    with pytest.warns(UserWarning, match="softmax"):
        loki_predict(np.array([[3.0, 9.0]]), complete(3), [0, 1])


def test_bad_options() -> None:
    with pytest.raises(InputError, match="observed"):
        FrechetMean(complete(3), [])
    with pytest.raises(InputError, match="0 to 2"):
        FrechetMean(complete(3), [3])
    with pytest.raises(InputError, match="path"):
        FrechetMean(complete(3), [0], "tree")
    with pytest.raises(InputError, match="tie"):
        FrechetMean(complete(3), [0]).predict(np.ones((1, 1)), tie="all")  # type: ignore[arg-type]


def test_a_large_tree_equals_rows_of_distances_on_sampled_vertices() -> None:
    rng = np.random.default_rng(6)
    tree = random_tree(20_000, rng)
    observed = rng.choice(20_000, 100, replace=False)
    weights = rng.dirichlet(np.full(100, 0.1), size=16)
    mean = FrechetMean(tree, observed)
    sample = rng.choice(20_000, 200, replace=False)
    right = weights @ tree.squared(observed, sample)
    np.testing.assert_allclose(mean.variances(weights)[:, sample], right, rtol=1e-9)
    best = mean.predict(weights)
    assert (tree.squared(best, observed) * weights).sum(axis=1) == pytest.approx(mean.variances(weights).min(axis=1))
