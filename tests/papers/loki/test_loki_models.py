"""Loki around classifiers: scikit-learn, torch, transformers; temperatures, losses, scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from paperworks.errors import InputError
from paperworks.papers.loki import (
    EmbeddingSpace,
    FrechetMean,
    LokiClassifier,
    LokiHead,
    LokiModel,
    best_constant,
    calibrate,
    complete,
    evaluate,
    from_edges,
    loki_loss,
    loki_predict,
    ordinal,
    random_tree,
    surrogate_loss,
)
from paperworks.papers.loki.classifier import sharpen
from paperworks.papers.loki.evaluation import score
from paperworks.papers.loki.head import project_to_simplex
from paperworks.papers.loki.recipe import _score_table


def digits() -> tuple[np.ndarray, np.ndarray, EmbeddingSpace]:
    x, y = load_digits(return_X_y=True)
    x = x[:600] / 16
    y = y[:600]
    means = np.stack([x[y == c].mean(axis=0) for c in range(10)])
    return x, y, EmbeddingSpace(means, list(range(10)))


def test_columns_follow_the_classes_of_the_estimator_whatever_their_names() -> None:
    x, y, space = digits()
    shuffled = {c: f"class {(c * 7 + 3) % 10}" for c in range(10)}  # sorts in another order
    named = EmbeddingSpace(space.points, [shuffled[c] for c in range(10)])
    observed = [0, 2, 3, 5, 6, 9]
    base = LokiClassifier(KNeighborsClassifier(5), space, observed=observed).fit(x, y)
    other = LokiClassifier(KNeighborsClassifier(5), named, observed=[shuffled[c] for c in observed])
    other.fit(x, np.array([shuffled[c] for c in y]))
    assert [shuffled[c] for c in base.predict(x[:200])] == other.predict(x[:200]).tolist()


def test_scikit_learn_contract() -> None:
    x, y, space = digits()
    model = LokiClassifier(make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)), space, [0, 3, 6, 9])
    assert clone(model).get_params()["observed"] == [0, 3, 6, 9]
    assert model.fit(x, y) is model
    assert model.classes_.tolist() == list(range(10))
    assert model.observed_classes_.tolist() == [0, 3, 6, 9]
    scores = model.decision_function(x[:50])
    assert scores.shape == (50, 10)
    assert (model.classes_[scores.argmax(axis=1)] == model.predict(x[:50])).all()
    chances = model.predict_proba(x[:50])
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert (chances.argmax(axis=1) == scores.argmax(axis=1)).all()
    assert 0 <= model.score(x, y) <= 1


def test_a_frozen_estimator_is_used_as_it_is() -> None:
    x, y, space = digits()
    kept = np.isin(y, [1, 4, 7])
    fitted = LogisticRegression(max_iter=300).fit(x[kept], y[kept])
    before = fitted.coef_.copy()
    model = LokiClassifier(FrozenEstimator(fitted), space).fit(x[kept][:5], y[kept][:5])
    assert (fitted.coef_ == before).all()
    expected = loki_predict(fitted.predict_proba(x), space, [1, 4, 7])
    assert (model.predict(x) == expected).all()


def test_temperature() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), size=30)
    np.testing.assert_allclose(sharpen(p, 0.5), p**2 / (p**2).sum(axis=1, keepdims=True))
    logits = rng.normal(size=(4000, 3)) * 3
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(3, p=row) for row in softmax])
    mean = FrechetMean(complete(3), [0, 1, 2])
    assert calibrate(sharpen(softmax, 0.25), truth, mean) == pytest.approx(4, rel=0.15)  # undoes the sharpening
    x, y, space = digits()
    fitted = LokiClassifier(KNeighborsClassifier(3), space, [0, 3, 6, 9], temperature="calibrate").fit(x, y)
    assert 0.05 <= fitted.temperature_ <= 20
    for bad in (0, -1, float("nan")):
        with pytest.raises(InputError, match="temperature"):
            LokiClassifier(KNeighborsClassifier(3), space, temperature=bad).fit(x, y)
    with pytest.raises(InputError, match="no row of an observed"):
        calibrate(np.ones((1, 2)) / 2, np.array([2]), FrechetMean(complete(3), [0, 1]))


def test_bad_input_is_named() -> None:
    x, y, space = digits()
    with pytest.raises(InputError, match="space"):
        LokiClassifier(KNeighborsClassifier()).fit(x, y)
    with pytest.raises(InputError, match="99"):
        LokiClassifier(KNeighborsClassifier(), space).fit(x, np.full(len(y), 99))
    with pytest.raises(InputError, match="observed"):
        LokiClassifier(KNeighborsClassifier(), space, observed=["zebra"]).fit(x, y)


def test_torch_equals_numpy() -> None:
    rng = np.random.default_rng(1)
    tree = random_tree(50, rng)
    observed = rng.choice(50, 9, replace=False)
    logits = torch.from_numpy(rng.normal(size=(40, 9)) * 2)
    weights = logits.softmax(-1)
    right = loki_predict(weights.numpy(), tree, observed, path="dense")
    assert (LokiHead(tree, observed).predict(logits).numpy() == right).all()
    assert (LokiHead(tree, observed, inputs="probabilities").predict(weights).numpy() == right).all()
    assert (loki_predict(weights, tree, observed).numpy() == right).all()
    np.testing.assert_allclose(
        LokiHead(tree, observed, temperature=2.0)(logits).numpy(),
        -FrechetMean(tree, observed).variances(sharpen(weights.numpy(), 2.0)),
    )
    np.testing.assert_allclose(
        LokiHead(tree, observed, temperature=2.0, inputs="probabilities")(weights).numpy(),
        LokiHead(tree, observed, temperature=2.0)(logits).numpy(),
    )
    for wrong in (-1, 50):
        with pytest.raises(InputError, match=f"observed: found {wrong};"):
            LokiHead(tree, [0, wrong, 3])


def test_losses_have_gradients_that_lower_the_loss() -> None:
    torch.manual_seed(0)
    tree = ordinal(6)
    head = LokiHead(tree, [0, 5])
    target = torch.tensor([0, 2, 5, 3])
    outputs = torch.zeros(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: loki_loss(z, target, head), outputs)
    start = float(loki_loss(outputs, target, head).detach())
    optimizer = torch.optim.Adam([outputs], 0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loki_loss(outputs, target, head).backward()
        optimizer.step()
    assert float(loki_loss(outputs, target, head).detach()) < start
    for gradient in ("straight-through", "negative-identity", "polytope"):
        z = torch.tensor([[2.0, -2.0]], dtype=torch.float64, requires_grad=True)  # predicts 0, or near it
        surrogate_loss(z, torch.tensor([5]), head, gradient=gradient).backward()
        assert z.grad is not None
        assert z.grad[0, 1] < 0 < z.grad[0, 0]  # a step down the gradient moves towards label 5
    with pytest.raises(InputError, match="gradient"):
        surrogate_loss(outputs, target, head, gradient="none")  # type: ignore[arg-type]


def test_projection_onto_the_simplex() -> None:
    torch.manual_seed(0)
    values = torch.randn(200, 6, dtype=torch.float64) * 2
    projected = project_to_simplex(values)
    np.testing.assert_allclose(projected.sum(-1), 1)
    assert (projected >= 0).all()
    # optimality: (v - P v) . (x - P v) <= 0 for every vertex x of the simplex
    gap = ((values - projected)[:, None] * (torch.eye(6, dtype=torch.float64)[None] - projected[:, None])).sum(-1)
    assert (gap <= 1e-9).all()


def test_a_classifier_of_transformers_gets_all_labels() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=3
    )
    base = BertForSequenceClassification(config).eval()
    head = LokiHead(ordinal(7), [0, 3, 6])
    model = LokiModel(base, head)
    ids = torch.randint(0, 30, (5, 4))
    with torch.no_grad():
        output = model(input_ids=ids)
        np.testing.assert_array_equal(output.logits, head(base(input_ids=ids).logits))
    assert output.logits.shape == (5, 7)
    linear = torch.nn.Linear(4, 3)
    assert LokiModel(linear, head)(torch.zeros(2, 4)).shape == (2, 7)


def test_scores_and_baselines() -> None:
    tree = from_edges([("root", "a"), ("root", "b"), ("a", "a1"), ("a", "a2"), ("b", "b1")])
    truth, predicted = tree.index(["a1", "a2", "b1"]), tree.index(["a1", "a", "a1"])
    found = score("x", tree, truth, predicted, tree.index(["a1"]))
    assert found.squared == pytest.approx((0 + 1 + 16) / 3)
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.unobserved == pytest.approx(1 / 3)
    assert found.precision == pytest.approx((2 + 1 + 0) / 5)  # ancestors of a1: a, a1; of a: a
    assert found.recall == pytest.approx((2 + 1 + 0) / 6)
    labels = tree.index(["a1", "a1", "a2", "b1"])
    costs = [(tree.distances([v], labels) ** 2).mean() for v in range(len(tree))]
    assert costs[best_constant(tree, labels)] == pytest.approx(min(costs))
    mean = FrechetMean(tree, tree.index(["a1", "a2", "b1"]))
    rows = evaluate(mean, np.eye(3), tree.index(["a1", "a2", "b1"]))
    assert {r.name: r.squared for r in rows}["Loki"] == 0
    assert "Loki, leaves only" in {r.name for r in rows}
    roots = score("all at the root", tree, truth, tree.index(["root"] * 3), tree.index(["a1"]))
    assert [row[-2:] for row in _score_table([found, roots]).rows] == [[found.precision, found.recall], [None, 0.0]]


def test_an_unfitted_model_and_labels_of_another_length_are_refused() -> None:
    model = LokiClassifier(KNeighborsClassifier(1), ordinal(4))
    for call in (model.predict, model.predict_proba, model.decision_function):
        with pytest.raises(NotFittedError):
            call(np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"y: found shape \(5,\)"):
        model.fit(np.zeros((6, 2)), np.array([0, 3, 0, 3, 0]))
