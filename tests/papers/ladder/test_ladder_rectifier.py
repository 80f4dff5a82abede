"""Rectification, its module, the baselines, Domino's mixture and the precision of slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from papers.ladder.world import World, world
from paperworks.errors import InputError
from paperworks.nn import MLP
from paperworks.papers.ladder import (
    ErrorAwareMixture,
    Hypothesis,
    RectifiedHead,
    SliceRectifier,
    StaticBackend,
    cvar_dro,
    deep_feature_reweighting,
    group_dro,
    harvest_features,
    just_train_twice,
    learning_from_failure,
    match_slices,
    paper_settings,
    random_subset_head,
)
from paperworks.papers.ladder.baselines import group_dro_loss
from paperworks.papers.ladder.hard_examples import cvar_loss, failure_loss
from paperworks.papers.ladder.heads import LinearHead, as_head, train_head
from paperworks.papers.ladder.rectifier import balanced_rows, extremes
from paperworks.training import TrainSettings

pytestmark = pytest.mark.filterwarnings("ignore")


def fitted(one: World, **options: Any) -> SliceRectifier:
    return SliceRectifier(one.discover(), one.head, **options).fit(one.features["val"], one.y["val"])


def worst(one: World, guess: np.ndarray) -> float:
    y, ground = one.y["test"], one.ground["test"]
    return min(float((guess == y)[(y == a) & (ground == b)].mean()) for a in (0, 1) for b in (0, 1))


def test_the_worst_group_rises_and_no_label_is_needed_to_predict() -> None:
    one = world()
    ours = fitted(one)
    before = (one.features["test"] @ one.head[0].T).argmax(axis=1)
    assert worst(one, ours.predict(one.features["test"])) > worst(one, before) + 0.3
    found = ours.evaluate(one.features["test"], one.y["test"], 2 * one.y["test"] + one.ground["test"])
    assert found["worst group after"] == pytest.approx(worst(one, ours.predict(one.features["test"])))
    with pytest.raises(InputError, match="rows of validation"):
        ours.evaluate(one.features["val"], one.y["val"])


@pytest.mark.parametrize("optimizer", ["lbfgs", "sgd", "adamw"])
def test_with_no_epochs_it_is_the_original_classifier(optimizer: Any) -> None:
    one = world()
    ours = fitted(one, epochs=0, optimizer=optimizer)
    assert ours.changed_
    np.testing.assert_allclose(ours.logits(one.features["test"]), one.features["test"] @ one.head[0].T, atol=1e-6)


def test_with_one_hypothesis_the_ensemble_is_that_head() -> None:
    one = world()
    backend = StaticBackend({"sea": [Hypothesis("water", "", ("a bird on water",))]})
    for combine in ("select", "mean"):
        ours = SliceRectifier(one.discover(backend=backend), one.head, combine=combine, faithful=True)  # type: ignore[arg-type]
        ours.fit(one.features["val"], one.y["val"])
        np.testing.assert_array_equal(ours.logits(one.features["test"]), ours.heads_[0].logits(one.features["test"]))


def test_the_choice_is_by_standardised_similarity_of_confirmed_slices_or_as_released() -> None:
    one = world()
    one_slice = Hypothesis("light", "", ("bright", "a bright day"))
    backend = StaticBackend(
        {
            "sea": [Hypothesis("water", "", ("a bird on water",)), one_slice],
            "land": [Hypothesis("grass", "", ("a bird on grass",))],
        }
    )
    found = one.discover(backend=backend)
    x = one.features["test"]
    scores = found.score(x)
    confirmed = found.confirmed_
    assert len(confirmed) < len(found.slices_)
    ours = SliceRectifier(found, one.head).fit(one.features["val"], one.y["val"])
    mean = np.array([s.mean for s in found.slices_])
    z = ((scores - mean) / found.deviations_)[:, confirmed]
    np.testing.assert_array_equal(ours.chosen_slices(x), np.array(confirmed)[z.argmax(axis=1)])
    released = SliceRectifier(found, one.head, faithful=True).fit(one.features["val"], one.y["val"])
    np.testing.assert_array_equal(released.chosen_slices(x), scores.argmax(axis=1))
    assert len(released.heads_) == len(found.slices_)


def test_a_learning_rate_asks_for_gradient_descent() -> None:
    one = world()
    x, y = one.features["val"], one.y["val"]
    given = SliceRectifier(one.discover(), one.head, n=60, epochs=3, lr=1e-3).fit(x, y)
    named = SliceRectifier(one.discover(), one.head, n=60, epochs=3, lr=1e-3, optimizer="sgd").fit(x, y)
    np.testing.assert_array_equal(given.logits(x), named.logits(x))
    with pytest.raises(InputError, match=r"lr: found 0\.001"):
        SliceRectifier(one.discover(), one.head, lr=1e-3, optimizer="lbfgs").fit(x, y)


def test_without_a_head_the_predictions_of_discovery_stand_in() -> None:
    one = world()
    found = one.discover()
    with pytest.warns(UserWarning, match="The last layer was not given"):
        ours = SliceRectifier(found).fit(one.features["val"], one.y["val"])
    assert ours.agreement_ > 0.95
    with pytest.raises(InputError, match="none, and no pred_val"):  # of other rows nothing is known
        SliceRectifier(found).fit(one.features["test"], one.y["test"])


def test_what_the_headline_says_without_a_confirmed_slice() -> None:
    from paperworks.papers.ladder.reporting import _headline

    one = world()
    found = one.discover(margin=1.0)
    for faithful, ending in ((False, " The classifier is left as it is."), (True, "")):
        ours = SliceRectifier(found, one.head, faithful=faithful).fit(one.features["val"], one.y["val"])
        assert ours.changed_ == faithful
        tried = len(found.slices_)
        said = f"No slice is confirmed: none of {tried} hypotheses raises the error of its class by 1."
        assert _headline(found, ours, {}) == said + ending


def test_without_a_confirmed_slice_the_classifier_is_left_as_it_is() -> None:
    one = world()
    found = one.discover(margin=1.0)
    with pytest.warns(UserWarning, match="left as it is"):
        ours = SliceRectifier(found, one.head).fit(one.features["val"], one.y["val"])
    assert not ours.changed_
    np.testing.assert_array_equal(ours.logits(one.features["test"]), as_head(one.head).logits(one.features["test"]))
    assert set(ours.chosen_slices(one.features["test"])) == {-1}
    torch_head = ours.to_head()
    np.testing.assert_allclose(
        torch_head(torch.tensor(one.features["test"])).detach().numpy(), ours.logits(one.features["test"]), atol=1e-6
    )


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(-5, 5)), min_size=2, max_size=40), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_extremes_are_of_the_same_class_and_count_once(rows: list[tuple[int, float]], n: int) -> None:
    y, s = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    chosen = extremes(s, y, n)
    assert len(set(chosen.tolist())) == len(chosen)
    for code in np.unique(y):
        of, mine = s[y == code], chosen[y[chosen] == code]
        side = min(n, len(of) // 2)
        if side:
            assert len(mine) == 2 * side
            np.testing.assert_array_equal(np.sort(s[mine])[:side], np.sort(of)[:side])
            np.testing.assert_array_equal(np.sort(s[mine])[side:], np.sort(of)[len(of) - side :])


def test_pseudo_labels_are_balanced_and_a_degenerate_split_is_said() -> None:
    one = world()
    ours = SliceRectifier(one.discover(), one.head, balance="pseudo_label").fit(one.features["val"], one.y["val"])
    scores, y = ours.discovery.score(one.features["val"]), one.y["val"]
    for position, rows in ours.rows_.items():
        labels = scores[:, position] > 0
        if not 0.05 <= labels.mean() <= 0.95 or labels[y == 0].all() or labels[y == 1].all():
            labels = scores[:, position] >= ours.discovery.slices_[position].threshold
        assert len(set(np.bincount(2 * y[rows] + labels[rows], minlength=4))) == 1
    rows = balanced_rows(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 1]), None, np.random.default_rng(0))
    assert len(rows) == 3  # one of each of the three groups that there are
    shifted = world()
    for part in ("train", "val"):
        shifted.vlr[part] = shifted.vlr[part] + 3.0
    with pytest.warns(UserWarning, match="nearly all alike"):
        SliceRectifier(shifted.discover(), shifted.head, balance="pseudo_label").fit(
            shifted.features["val"], shifted.y["val"]
        )


def test_the_module_is_a_drop_in_and_the_backbone_is_untouched(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one = world()
    network = MLP(inputs=4, hidden=(8,), outputs=2).eval()
    parts = {p: harvest_features(network, one.features[p].astype(np.float32), "head") for p in ("train", "val", "test")}
    for part, found in parts.items():
        one.features[part] = found.features
    one.head = parts["val"].head
    one.guess = parts["val"].predictions
    ours = SliceRectifier(one.discover(), one.head, faithful=True).fit(one.features["val"], one.y["val"])
    inputs = world().features["test"].astype(np.float32)
    new = ours.to_module(network)
    with torch.inference_mode():
        logits = new(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(logits, ours.logits(one.features["test"]), atol=1e-4)
    np.testing.assert_array_equal(logits.argmax(axis=1), ours.predict(one.features["test"]))
    for name, weight in network.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(weight, new.state_dict()[name]), name
    assert not any(p.requires_grad for n, p in new.named_parameters() if not n.startswith("head."))
    ours.save(tmp_path / "head.safetensors")
    again = RectifiedHead.load(tmp_path / "head.safetensors")
    for a, b in zip(again.state_dict().values(), ours.to_head().state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(InputError, match=r"layer: found 'layers\.0' from 4 to 8"):
        ours.to_module(network, "layers.0")


def test_harvested_features_are_the_input_of_the_last_layer() -> None:
    torch.manual_seed(0)
    network, x = MLP(inputs=4, hidden=(6,), outputs=3), np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    found = harvest_features(network, x, batch_size=4)
    np.testing.assert_allclose(as_head(found.head).logits(found.features), found.logits, atol=1e-5)
    assert found.layer == "head"
    assert np.array_equal(found.predictions, found.logits.argmax(1))
    for layer, message in (
        ("heat", "did you mean 'head'"),
        ("layers.1", "'layers.1', a ReLU"),
        ("layers.0", "last linear layer"),
    ):
        with pytest.raises(InputError, match=message):
            harvest_features(network, x, layer)


class LastPosition(torch.nn.Module):
    """As causal models classify: the layer is applied to every position, and one position counts."""

    def __init__(self) -> None:
        super().__init__()
        self.score = torch.nn.Linear(3, 2, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.score(inputs)[:, 2]


def test_a_layer_over_positions_is_read_at_the_one_that_counts() -> None:
    x = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(harvest_features(LastPosition(), x).features, x[:, 2])


def test_the_head_is_that_of_scikit_learn_at_the_same_penalty() -> None:
    one = world()
    x, y = one.features["val"], one.y["val"]
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    peer = LogisticRegression(C=1 / (0.01 * len(y)), max_iter=5000, tol=1e-10).fit(scaled, y)
    single = train_head(LinearHead(np.zeros((1, 4)), np.zeros(1)), x, y, weight_decay=0.01)
    np.testing.assert_allclose(single.logits(x)[:, 0], peer.decision_function(scaled), atol=1e-3)
    double = train_head(LinearHead(np.zeros((2, 4)), np.zeros(2)), x, y, weight_decay=0.005)
    double_peer = LogisticRegression(C=1 / (0.0025 * len(y)), max_iter=5000, tol=1e-10).fit(scaled, y)
    np.testing.assert_allclose(
        np.diff(double.logits(x), axis=1)[:, 0], double_peer.decision_function(scaled), atol=1e-3
    )


def test_it_is_a_classifier_of_scikit_learn_and_takes_heads_of_all_kinds() -> None:
    one = world()
    x, y = one.features["val"], one.y["val"]
    linear = torch.nn.Linear(4, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(one.head[0]))
        linear.bias.zero_()
    for head in (linear, LogisticRegression().fit(x, one.predicted), one.head):
        ours = SliceRectifier(one.discover(), head, n=30).fit(x, y)
        assert ours.score(one.features["test"], one.y["test"]) > 0.6
        np.testing.assert_allclose(ours.predict_proba(x).sum(axis=1), 1)
    again = clone(ours)
    assert again.get_params()["n"] == 30
    blind = SliceRectifier(one.discover()).fit(x, y, pred_val=one.predicted)
    assert blind.agreement_ > 0.95
    with pytest.raises(InputError, match="head and features_val: found 3 and 4 columns"):
        SliceRectifier(one.discover(), (np.zeros((2, 3)), np.zeros(2))).fit(x, y)
    with pytest.raises(InputError, match="balance: found 'x'"):
        SliceRectifier(one.discover(), one.head, balance="x").fit(x, y)  # type: ignore[arg-type]


def test_the_settings_of_the_paper() -> None:
    found = paper_settings("waterbirds")
    assert found["rectifier"]["n"] == 600
    assert found["discovery"] == {"top_k": 200, "percentile": 55}
    one = world()
    found["rectifier"]["n"] = 40
    assert fitted(one, **found["rectifier"]).changed_
    assert fitted(one, **{**paper_settings("rsna")["rectifier"], "epochs": 2}).changed_
    with pytest.raises(InputError, match="did you mean 'waterbirds'"):
        paper_settings("waterbird")


def test_retraining_with_known_groups_and_on_a_random_subset() -> None:
    one = world()
    x, y, test = one.features["val"], one.y["val"], one.features["test"]
    oracle = deep_feature_reweighting(one.head, x, y, 2 * y + one.ground["val"], repeats=3)
    before = worst(one, (test @ one.head[0].T).argmax(axis=1))
    assert worst(one, oracle.logits(test).argmax(axis=1)) > before + 0.3
    sparse = deep_feature_reweighting(one.head, x, y, 2 * y + one.ground["val"], repeats=1, penalty="l1")
    assert worst(one, sparse.logits(test).argmax(axis=1)) > before + 0.2
    rows = extremes(x[:, 0], y, 20)
    control = random_subset_head(one.head, x, y, rows)
    assert worst(one, control.logits(test).argmax(axis=1)) < worst(one, oracle.logits(test).argmax(axis=1))


def test_group_dro_weights_follow_the_losses_of_the_groups() -> None:
    loss = group_dro_loss(2, eta=0.5)
    model = torch.nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0], [1.0]]))
    batch = {
        "inputs": torch.tensor([[1.0], [1.0], [2.0]]),
        "labels": torch.tensor([1, 1, 0]),
        "index": torch.tensor([0, 0, 1]),
    }
    first = np.log(1 + np.exp(-1.0)), np.log(1 + np.exp(2.0))
    q = np.exp(0.5 * np.array(first))
    q /= q.sum()
    total, count = loss(model, batch)
    assert float(total / count) == pytest.approx(float(q @ first), rel=1e-5)
    q *= np.exp(0.5 * np.array(first))
    q /= q.sum()
    assert float(loss(model, batch)[0]) == pytest.approx(float(q @ first), rel=1e-5)


@pytest.mark.parametrize("alpha", [0.1, 0.35, 1.0])
def test_cvar_is_the_largest_mean_under_bounded_weights(alpha: float) -> None:
    torch.manual_seed(0)
    model, x, y = torch.nn.Linear(3, 2), torch.randn(13, 3), torch.randint(0, 2, (13,))
    each = torch.nn.functional.cross_entropy(model(x), y, reduction="none").detach().double().numpy()
    bound = [(0, 1 / (alpha * len(y)))] * len(y)
    largest = -linprog(-each, A_eq=np.ones((1, len(y))), b_eq=[1], bounds=bound).fun
    total, count = cvar_loss(alpha)(model, {"inputs": x, "labels": y})
    assert float(total / count) == pytest.approx(largest, rel=1e-5)


def test_learning_from_failure_weighs_what_the_biased_copy_finds_hard() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 9, 3, requires_grad=True)
    y = torch.randint(0, 3, (9,))
    q = 0.7
    total, count = failure_loss(q)(lambda _inputs: logits, {"inputs": logits, "labels": y})  # type: ignore[arg-type]
    total.backward()
    assert int(count) == 9
    assert logits.grad is not None
    fair, biased = logits.detach().softmax(-1).unbind()
    onehot = torch.nn.functional.one_hot(y, 3)
    p, b = (rows.gather(1, y[:, None]) for rows in (fair, biased))
    weights = b.log() / (b.log() + p.log())
    # of the copy: p^q times the gradient of cross-entropy (Zhang and Sabuncu 2018)
    torch.testing.assert_close(logits.grad[0], weights * (fair - onehot))
    torch.testing.assert_close(logits.grad[1], b**q * (biased - onehot))
    for name, value, make in (("alpha", 0.0, cvar_loss), ("alpha", 1.5, cvar_loss), ("q", 0.0, failure_loss)):
        with pytest.raises(InputError, match=name):
            make(value)
    with pytest.raises(InputError, match="data and y"):
        cvar_dro(torch.nn.Linear(3, 2), np.zeros((4, 3)), [0, 1, 0], settings=TrainSettings(steps=1))


def test_the_rivals_train() -> None:
    one = world()
    x, y = one.features["train"].astype(np.float32), one.y["train"]
    options = TrainSettings(steps=80, batch_size=64, learning_rate=0.02, device="cpu", clip_norm=0)
    for model in (
        just_train_twice(MLP(inputs=4, hidden=(), outputs=2), x, y, settings=options),
        group_dro(MLP(inputs=4, hidden=(), outputs=2), x, y, 2 * y + one.ground["train"], settings=options, eta=0.1),
        cvar_dro(MLP(inputs=4, hidden=(), outputs=2), x, y, settings=options, alpha=0.5),
        learning_from_failure(MLP(inputs=4, hidden=(), outputs=2), x, y, settings=options),
    ):
        with torch.inference_mode():
            guess = model(torch.tensor(one.features["test"], dtype=torch.float32)).argmax(1).numpy()
        assert (guess == one.y["test"]).mean() > 0.6


def mixed(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Three clusters; in the third the predictions are wrong."""
    draw = np.random.default_rng(seed)
    cluster = np.repeat([0, 1, 2], 60)
    z = draw.normal(size=(180, 6)) + 6 * np.eye(6)[cluster]
    y = np.where(cluster == 2, 1, cluster)
    return z, y, np.where(cluster == 2, 0, y), cluster


@pytest.mark.parametrize("initialise", ["confusion", "kmeans"])
def test_the_mixture_finds_the_errors_and_its_objective_never_falls(initialise: Any) -> None:
    z, y, guess, cluster = mixed()
    found = ErrorAwareMixture(2, n_components=6, initialise=initialise, tolerance=0.0).fit(z, y, guess)
    assert np.diff(found.objective_).min() > -1e-6
    soft = found.predict_proba(z, y, guess)
    assert soft.shape == (180, 2)
    assert (soft >= 0).all()
    assert (soft.sum(axis=1) <= 1 + 1e-9).all()
    match = match_slices(soft, cluster == 2)[0]
    assert match.precision == 1.0
    assert not match.complement


def test_without_labels_and_predictions_the_mixture_is_that_of_scikit_learn() -> None:
    from sklearn.mixture import GaussianMixture

    z, y, guess, _ = mixed()
    ours = ErrorAwareMixture(1, n_components=3, n_pca=6, gamma_y=0, gamma_pred=0, initialise="kmeans", tolerance=1e-9)
    ours.fit(z, y, guess)
    peer = GaussianMixture(3, covariance_type="diag", tol=1e-9, random_state=0)
    axes = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)[2]
    assert ours.objective_[-1] == pytest.approx(peer.fit((z - z.mean(axis=0)) @ axes.T).lower_bound_, abs=1e-3)


def test_precision_counts_complements() -> None:
    truth = np.array([True, True, False, False])
    found = match_slices(np.array([[0.1], [0.2], [0.9], [0.8]]), truth, k=2)[0]
    assert (found.complement, found.precision, found.average_precision) == (True, 1.0, 1.0)
    outside = match_slices(np.array([[-np.inf], [0.2], [0.9], [-np.inf]]), truth, k=1)[0]
    assert outside.precision == 1.0
    assert outside.complement
    with pytest.raises(InputError, match="membership and known"):
        match_slices(np.zeros((3, 1)), truth)


def test_an_unfitted_rectifier_says_so() -> None:
    model = SliceRectifier(None)  # type: ignore[arg-type]
    for call in (model.logits, model.predict, model.chosen_slices):
        with pytest.raises(NotFittedError):
            call(np.zeros((2, 3)))
