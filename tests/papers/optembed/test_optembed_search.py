"""Evolution, budgets, the three stages, and the classifier."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.exceptions import NotFittedError

from paperworks.errors import InputError
from paperworks.papers.optembed import (
    Candidates,
    Clicks,
    ClickTraining,
    Evolution,
    OptEmbedClassifier,
    OptEmbedding,
    OptEmbedSearch,
    PEPEmbedding,
    QREmbedding,
    evolve,
    fit_clicks,
    make_model,
    random_search,
)
from paperworks.papers.optembed.baselines import most_frequent, row_counts, uniform_dimension
from paperworks.papers.optembed.fitting import AdamWithThresholds, optimizer_of

SIZES = [6, 4, 20]


def clicks(rows: int, seed: int) -> Clicks:
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(0, size, rows) for size in SIZES], 1).astype(np.int32)
    chance = 1 / (1 + np.exp(-(ids[:, 0] - 2.5) * (ids[:, 1] - 1.5)))
    return Clicks(ids, (rng.random(rows) < chance).astype(np.int8))


def search(folder=None, **options) -> OptEmbedSearch:
    torch.manual_seed(0)
    model = make_model("deepfm", OptEmbedding(SIZES, 6), SIZES, 6, hidden=(8,))
    training = ClickTraining(1e-2, 1e-4, 0.1, 1e-2, epochs=3, batch_size=128)
    return OptEmbedSearch(
        model, training=training, evolution=Evolution(generations=3), folder=folder, device="cpu", **options
    )


def test_evolution_finds_the_optimum_of_a_small_space() -> None:
    def score(candidate: tuple[int, ...]) -> float:
        return -float(np.square(np.array(candidate) - [2, 7, 4]).sum())

    candidates = Candidates([1, 1, 1], 8, None, np.random.default_rng(0))
    found = evolve(score, candidates, Evolution(generations=25))
    assert found.dimensions == max(itertools.product(range(1, 9), repeat=3), key=score) == (2, 7, 4)
    assert found.by_generation == sorted(found.by_generation)
    assert len({c for c, _, _ in found.scored}) == len(found.scored)


def test_parents_are_not_changed_by_their_children() -> None:
    candidates = Candidates([1] * 6, 9, None, np.random.default_rng(0))
    first, second = (1,) * 6, (9,) * 6
    for _ in range(200):
        mutated = candidates.mutated(first, 0.5)
        crossed = candidates.crossed(first, second)
        assert first == (1,) * 6
        assert len(mutated) == 6
        point = crossed.index(9)
        assert 1 <= point <= 5
        assert crossed == first[:point] + second[point:]


@pytest.mark.parametrize("budget", [30, 75, 150, 299])
def test_every_candidate_is_within_its_budget(budget: int) -> None:
    kept = [6, 4, 20]
    candidates = Candidates(kept, 10, budget, np.random.default_rng(budget))
    found = evolve(lambda c: float(sum(c)), candidates, Evolution(generations=6))
    assert all(size <= budget and min(c) >= 1 and max(c) <= 10 for c, _, size in found.scored)
    assert all(size == np.dot(kept, c) for c, _, size in found.scored)
    others = random_search(lambda c: float(sum(c)), Candidates(kept, 10, budget, np.random.default_rng(1)), 1)
    assert others.scored[0][2] <= budget


def test_a_budget_below_one_dimension_a_row_is_refused_with_the_least() -> None:
    with pytest.raises(InputError, match=r"29 parameters.*30 or more"):
        Candidates([6, 4, 20], 10, 29, np.random.default_rng(0))


def test_thresholds_take_plain_steps_and_the_rest_is_adam() -> None:
    torch.manual_seed(0)
    table = OptEmbedding([3], 2)
    optimizer = optimizer_of(table, ClickTraining(1e-2, 0.1, threshold_lr=0.5))
    assert isinstance(optimizer, AdamWithThresholds)
    before = table.weight.detach().clone()
    beside = before.clone().requires_grad_()
    adam = torch.optim.Adam([beside], lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        table.thresholds.grad, table.weight.grad = torch.tensor([0.2]), torch.ones(3, 2)
        beside.grad = torch.ones(3, 2)
        optimizer.step()
        adam.step()
    assert table.thresholds.tolist() == pytest.approx([-0.3])
    assert torch.equal(table.weight, beside)


def test_the_three_stages_and_going_on_from_each(tmp_path) -> None:
    rows, held = clicks(600, 0), clicks(200, 1)
    whole = search(tmp_path / "a")
    whole.fit(rows, held)
    found = whole.search(held, sparsity=0.4)
    scores = whole.retrain(rows, held)
    assert whole.report()["sparsity"] >= 0.4
    assert whole.table.parameters_kept() == sum(
        f["rows_kept"] * f["dimension"] for f in whole.report(["a", "b", "c"])["fields"]
    )
    assert torch.equal(whole.initial["embedding.weight"], search().initial["embedding.weight"])
    again = search(tmp_path / "a")  # all stages are there
    again.model.load_state_dict({k: torch.zeros_like(v) for k, v in again.model.state_dict().items()})
    again.fit(rows, held)
    assert again.search(held, sparsity=0.4).dimensions == found.dimensions
    assert again.retrain(rows, held) == scores
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    compact = whole.export(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["parameters"] == compact.counted_parameters()
    with pytest.raises(InputError, match="of another data"):
        search(tmp_path / "a").fit(clicks(600, 3), held)  # as many rows, other ids
    other = search(tmp_path / "a")
    other.table.norm = 2
    with pytest.raises(InputError, match="of another norm"):
        other.fit(rows, held)


@pytest.mark.parametrize("kept", [False, True])
def test_a_search_behind_a_retraining_asks_the_supernet(tmp_path, kept: bool) -> None:
    rows, held = clicks(600, 0), clicks(200, 1)
    one = search(tmp_path / "a" if kept else None).fit(rows, held)
    value = one.score([2, 3, 4], held)
    found = one.search(held, sparsity=0.4)
    one.retrain(rows, held)
    assert one.score([2, 3, 4], held) == value
    one.retrain(rows, held)
    one.search(held, sparsity=0.5)
    assert one.search(held, sparsity=0.4).scored == found.scored
    stages = one.stages_["supernet"]
    one.retrain(rows, held)
    assert one.fit(rows, held).stages_["supernet"] == stages  # from the start, not from what was retrained


def test_fresh_weights_are_drawn_as_the_first_ones_were() -> None:
    one = search(fresh=True)
    first = one.initial
    one._restart()
    for name, value in one.model.state_dict().items():
        if value.is_floating_point() and value.ndim == 2:
            assert not torch.equal(value, first[name]), name
            assert float(value.std()) == pytest.approx(float(first[name].std()), rel=0.5), name
    assert float(one.model.state_dict()["linear.weight"].abs().max()) <= (6 / (sum(SIZES) + 1)) ** 0.5


def test_what_is_called_too_early_or_wrong_is_named() -> None:
    rows, held = clicks(200, 0), clicks(100, 1)
    with pytest.raises(InputError, match="fit first"):
        search().search(held)
    with pytest.raises(InputError, match="one of the two"):
        fitted = search()
        fitted.row_mask_ = fitted.table.row_mask()
        fitted.search(held, budget=5, sparsity=0.1)
    with pytest.raises(InputError, match="AUC is undefined"):
        search().fit(rows, Clicks(held.ids, np.zeros(100, np.int8)))
    with pytest.raises(InputError, match="0 modules"):
        OptEmbedSearch(torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="random_state"):
        search(random_state=-1)
    with pytest.raises(InputError, match="labels"):
        Clicks(held.ids, np.full(100, 2))


def test_baselines_have_the_size_they_say() -> None:
    rows = clicks(300, 0)
    counts = row_counts(rows.ids, SIZES)
    assert counts.sum() == 900
    assert set(np.flatnonzero(most_frequent(counts, 5).numpy())) == set(np.argsort(-counts, kind="stable")[:5])
    assert uniform_dimension(95, SIZES, 6) == 3
    hashed = QREmbedding([100, 3], 4, 120)
    assert hashed.counted_parameters() <= 120
    i = torch.tensor([[57, 1]])
    modulus = hashed.moduli[0]
    expected = hashed.remainder[0].weight[57 % modulus] * hashed.quotient[0].weight[57 // modulus]
    assert torch.equal(hashed(i)[0, 0], expected)
    pairs = {(v % modulus, v // modulus) for v in range(100)}
    assert len(pairs) == 100  # no two values share a vector
    with pytest.raises(InputError, match="budget"):
        QREmbedding([100, 3], 4, 50)
    pep = PEPEmbedding([5, 5], 4, start=0.0)
    assert torch.equal(pep.table(), pep.weight.sign() * (pep.weight.abs() - 0.5).clamp(min=0))
    pep = PEPEmbedding([5, 5], 4)
    pep.keep_largest(7)
    assert pep.counted_parameters() == 7


def frame(rows: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    data = clicks(rows, seed)
    table = pd.DataFrame(
        {"shop": data.ids[:, 0].astype(str), "hour": data.ids[:, 1], "item": data.ids[:, 2].astype(str)}
    )
    return table, np.where(data.labels == 1, "yes", "no")


def test_the_classifier_learns_saves_and_predicts_the_same(tmp_path) -> None:
    X, y = frame(2500, 0)
    held, truth = frame(800, 1)
    model = OptEmbedClassifier(
        dim=6,
        hidden=(8,),
        sparsity=0.3,
        training=ClickTraining(2e-2, 1e-5, epochs=12, batch_size=256, patience=3),
        evolution=Evolution(generations=3),
        device="cpu",
    ).fit(X, y)
    best = np.mean(((X["shop"].astype(int) - 2.5) * (X["hour"] - 1.5) > 0) == (y == "yes"))
    assert (model.predict(held) == truth).mean() > best - 0.06
    proba = model.predict_proba(held)
    assert proba.shape == (800, 2)
    assert np.allclose(proba.sum(1), 1)
    masked = torch.from_numpy(model.encoder_.transform(held))
    with torch.no_grad():
        assert np.allclose(model.search_.model.eval()(masked).numpy(), model.decision_function(held), atol=1e-6)
    model.save(tmp_path / "m")
    again = OptEmbedClassifier.load(tmp_path / "m")
    assert np.array_equal(again.predict_proba(held), proba)
    with torch.no_grad():  # the model by itself, too
        assert np.allclose(again.model_(masked).numpy(), model.decision_function(held), atol=1e-6)
    weights = load_file(tmp_path / "m" / "model.safetensors")
    weights.pop("output.weight")
    save_file(weights, tmp_path / "m" / "model.safetensors")
    with pytest.raises(InputError, match=r"output\.weight"):
        OptEmbedClassifier.load(tmp_path / "m")
    odd = held.assign(shop="a new shop", hour=None)
    assert np.isfinite(again.predict_proba(odd)).all()
    with pytest.raises(InputError, match="no column 'item'"):
        again.predict(held.drop(columns="item"))
    with pytest.raises(InputError, match="X: found 4 columns; expected 3"):
        again.predict(np.zeros((2, 4)))
    with pytest.raises(InputError, match="batch_size"):
        ClickTraining(batch_size=1)
    with pytest.raises(InputError, match="1 different labels"):
        OptEmbedClassifier().fit(X, np.ones(len(X)))
    with pytest.raises(InputError, match="1 missing labels"):
        OptEmbedClassifier().fit(X, np.where(np.arange(len(X)) == 3, None, y))
    with pytest.raises(InputError, match="two columns named 'shop'"):
        OptEmbedClassifier().fit(pd.concat([X, X], axis=1), y)
    for options in ({"hidden": (0,)}, {"hidden": (99_999_999,)}, {"dropout": 1.0}):
        with pytest.raises(InputError, match=next(iter(options))):
            OptEmbedClassifier(**options).fit(X, y)


def test_training_stops_at_the_first_epoch_that_is_not_better() -> None:
    rows, held = clicks(400, 0), clicks(300, 1)
    torch.manual_seed(0)
    model = make_model("fnn", OptEmbedding(SIZES, 4, rows=False, dimensions=False), SIZES, 4, hidden=(8,))
    result, history = fit_clicks(model, rows, held, ClickTraining(5e-2, epochs=40, batch_size=100), device="cpu")
    scores = [value for _, value in result.evals]
    assert scores[-1] >= min(scores[:-1])
    assert all(after < before for before, after in itertools.pairwise(scores[:-1]))
    assert result.best_step == 4 * (len(scores) - 1)
    assert not history


def test_an_unfitted_classifier_says_so() -> None:
    for call in (OptEmbedClassifier().predict, OptEmbedClassifier().predict_proba):
        with pytest.raises(NotFittedError):
            call(np.zeros((2, 3)))
