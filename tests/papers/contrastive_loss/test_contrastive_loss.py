"""The four losses, their gradients and the metrics: against definitions, theorems and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.papers.contrastive_loss import (
    ContrastiveLoss,
    MemoryBank,
    MomentumQueue,
    alignment,
    gradient_shares,
    penalty_distribution,
    penalty_entropy,
    separation_curve,
    tolerance,
    uniform_law,
    uniformity,
    update_momentum_copy,
)


def _features(n: int, d: int = 6, seed: int = 0) -> torch.Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(x, dim=1)


def _by_hand(a, p, n, tau: float, *, form: str = "softmax", k: int | None = None, mask=None, **options) -> torch.Tensor:
    """One anchor at a time, as the equations are written."""
    losses = []
    for i in range(len(a)):
        s = torch.stack([a[i] @ n[j] for j in range(len(n)) if mask is None or not mask[i, j]])
        s = s.sort(descending=True).values[:k]
        positive = a[i] @ p[i]
        if form == "simple":
            losses.append(-positive + options.get("weight", 1 / len(s)) * s.sum())
            continue
        positive = positive - options.get("margin", 0.0)
        own = 0 if options.get("decoupled") else (positive / tau).exp()
        losses.append(-((positive / tau).exp() / ((s / tau).exp().sum() + own)).log())
    return torch.stack(losses).mean()


@pytest.mark.parametrize(
    ("options", "by_hand"),
    [
        ({}, {}),
        ({"hard_k": 3}, {"k": 3}),
        ({"hard_fraction": 0.5}, {"k": 4}),
        ({"form": "simple"}, {"form": "simple"}),
        ({"form": "simple", "hard_k": 2}, {"form": "simple", "k": 2}),
        ({"form": "simple", "simple_weight": 0.7}, {"form": "simple", "weight": 0.7}),
        ({"margin": 0.2}, {"margin": 0.2}),
        ({"decoupled": True}, {"decoupled": True}),
        ({"learnable_temperature": True}, {}),
    ],
)
@pytest.mark.parametrize("chunk", [None, 2])
def test_losses_are_their_equations(options: dict, by_hand: dict, chunk: int | None) -> None:
    a, p, n = (_features(k, seed=s).requires_grad_() for s, k in enumerate((5, 5, 8)))
    expected = _by_hand(a, p, n, 0.3, **by_hand)
    loss = ContrastiveLoss(0.3, chunk=chunk, normalize=False, **options).double()
    found, stats = loss(a, p, n, return_stats=True)
    for value in (loss(a, p, n), found):
        torch.testing.assert_close(value, expected, atol=1e-7, rtol=1e-6)
        for x, y in zip(
            torch.autograd.grad(value, (a, p, n), retain_graph=True),
            torch.autograd.grad(expected, (a, p, n), retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(x, y, atol=1e-7, rtol=1e-6)
    assert stats.positive == pytest.approx(float((a * p).sum(1).mean().detach()))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hard_k": 3},
        {"margin": 0.2},
        {"decoupled": True},
        {"form": "simple"},
        {"form": "simple", "hard_k": 2},
    ],
)
def test_figures_of_a_batch_are_those_of_its_gradient(options: dict) -> None:
    a, p, n = (_features(k, seed=s) for s, k in enumerate((5, 5, 8)))
    # the similarities as free variables: products with the unit vectors of ten dimensions
    table = torch.cat([(a * p).sum(1, keepdim=True), a @ n.T], 1).requires_grad_()
    loss = ContrastiveLoss(0.3, **options).double()
    losses = []
    for row in table:
        anchor = torch.cat([row, torch.zeros(1, dtype=row.dtype)])
        basis = torch.eye(10, dtype=row.dtype)
        losses.append(loss._rows(anchor[None], basis[:1], basis[1:9], None, None)[0][0])
    (slopes,) = torch.autograd.grad(torch.stack(losses).sum(), table)
    push = slopes[:, 1:] / slopes[:, 1:].sum(1, keepdim=True)
    entropy = -torch.where(push > 0, push * push.clamp(min=1e-30).log(), 0.0).sum(1)
    stats = loss(a, p, n, return_stats=True)[1]
    assert stats.strength == pytest.approx(float(-slopes[:, 0].mean()), rel=1e-6)
    assert stats.effective_negatives == pytest.approx(float(entropy.exp().mean()), rel=1e-6)
    assert stats.top1 == pytest.approx(float(push.amax(1).mean()), rel=1e-6)


@pytest.mark.parametrize("options", [{}, {"hard_k": 2}, {"form": "simple"}])
def test_pairs_of_a_batch(options: dict) -> None:
    a, p = _features(5), _features(5, seed=1)
    own = torch.eye(5, dtype=torch.bool)
    hand = {"k": options.get("hard_k"), "form": options.get("form", "softmax")}
    one = ContrastiveLoss(0.3, **options)(a, p)
    torch.testing.assert_close(one, _by_hand(a, p, p, 0.3, mask=own, **hand))
    both = ContrastiveLoss(0.3, pairs="symmetric", **options)(a, p)
    torch.testing.assert_close(both, (one + _by_hand(p, a, a, 0.3, mask=own, **hand)) / 2)
    views = ContrastiveLoss(0.3, pairs="two-view", **options)(a, p)
    expected = _by_hand(torch.cat([a, p]), torch.cat([p, a]), torch.cat([a, p]), 0.3, mask=own.repeat(2, 2), **hand)
    torch.testing.assert_close(views, expected)


def test_masks_and_rows_without_negatives() -> None:
    a, p, n = _features(3), _features(3, seed=1), _features(4, seed=2)
    ids = torch.tensor([0, 1, 9]), torch.tensor([0, 1, 0, 3])
    mask = ids[0][:, None] == ids[1][None]
    for options, hand in (({}, {}), ({"hard_k": 2}, {"k": 2})):
        found = ContrastiveLoss(0.5, **options)(a, p, n, anchor_ids=ids[0], negative_ids=ids[1])
        torch.testing.assert_close(found, _by_hand(a, p, n, 0.5, mask=mask, **hand))
    a.requires_grad_()
    for options in ({}, {"hard_k": 2}, {"hard_fraction": 0.5}, {"decoupled": True}):
        everything = torch.zeros(3, dtype=torch.long), torch.zeros(4, dtype=torch.long)
        found = ContrastiveLoss(0.5, **options)(a, p, n, anchor_ids=everything[0], negative_ids=everything[1])
        assert float(found.detach()) == 0
        assert torch.autograd.grad(found, a)[0].abs().max() == 0


def test_gradient_of_similarities() -> None:
    """|dL/ds_ii| is the sum of |dL/ds_ij|; shares do not depend on the positive; d entropy / d tau is a variance."""
    rng = np.random.default_rng(0)
    positive, s = rng.uniform(-1, 1, 7), rng.uniform(-1, 1, (7, 30))
    for tau in (0.05, 0.3, 2.0):
        pos, neg = torch.tensor(positive, requires_grad=True), torch.tensor(s, requires_grad=True)
        terms = torch.cat([pos[:, None], neg], 1) / tau
        up, down = torch.autograd.grad((terms.logsumexp(1) - terms[:, 0]).sum(), (pos, neg))
        np.testing.assert_allclose((up + down.sum(1)).numpy(), 0, atol=1e-12)
        r = penalty_distribution(s, tau)
        np.testing.assert_allclose(r.sum(1), 1, atol=1e-12)
        np.testing.assert_allclose(down.numpy(), -up.numpy()[:, None] * r, atol=1e-12)
        shares = gradient_shares(positive, s, tau)
        assert shares.strength == pytest.approx(float(-up.mean()), rel=1e-9)
        assert shares.top1 == pytest.approx(r.max(1).mean())
        assert shares.top10 == pytest.approx(np.sort(r, 1)[:, -10:].sum(1).mean())
        assert shares.negatives == 30
        variance = (r * s**2).sum(1) - (r * s).sum(1) ** 2
        high, low = (penalty_entropy(penalty_distribution(s, tau * (1 + e))) for e in (1e-6, -1e-6))
        np.testing.assert_allclose((high - low) / (2e-6 * tau), variance / tau**3, rtol=1e-4, atol=1e-6)
    hard = penalty_distribution(s, 0.3, hard_k=4)
    assert ((hard > 0).sum(1) == 4).all()
    top = np.sort(s, 1)[:, -4:]
    np.testing.assert_allclose(np.sort(hard, 1)[:, -4:], penalty_distribution(top, 0.3), atol=1e-12)
    s[:, 3] = -np.inf
    assert (penalty_distribution(s, 0.01)[:, 3] == 0).all()
    assert gradient_shares(positive, np.full((7, 3), -np.inf), 0.1).strength == 0


@given(st.integers(0, 1000), st.floats(0.02, 5), st.floats(1.001, 3))
@settings(max_examples=40, deadline=None)
def test_entropy_rises_with_the_temperature(seed: int, tau: float, factor: float) -> None:
    s = np.random.default_rng(seed).uniform(-1, 1, (3, 12))
    low, high = (penalty_entropy(penalty_distribution(s, t)) for t in (tau, tau * factor))
    assert (high >= low - 1e-12).all()


def test_limits_and_truncation() -> None:
    a, p, n = _features(1), _features(1, seed=1), _features(20, seed=2)
    s, positive = (a @ n.T)[0], float(a @ p.T)
    assert 1e-4 * float(ContrastiveLoss(1e-4)(a, p, n)) == pytest.approx(max(float(s.max()) - positive, 0), abs=1e-3)
    hot = 21 * 1e4 * (float(ContrastiveLoss(1e4)(a, p, n)) - math.log(21)) / 20
    assert hot == pytest.approx(float(s.mean()) - positive, abs=1e-3)
    assert float(ContrastiveLoss(1.0, form="simple")(a, p, n)) == pytest.approx(float(s.mean()) - positive, abs=1e-12)
    for tau in (0.05, 0.5):
        whole, one = (float(ContrastiveLoss(tau, hard_k=k)(a, p, n)) for k in (20, 1))
        assert whole == pytest.approx(float(ContrastiveLoss(tau)(a, p, n)), abs=1e-12)
        assert one == pytest.approx(float(functional.softplus((s.max() - positive) / tau)), abs=1e-12)


def test_uniformity_of_known_laws() -> None:
    assert [round(uniform_law(d), 4) for d in (64, 128, 256)] == [3.8752, 3.9375, 3.9688]
    x = np.random.default_rng(0).standard_normal((4000, 128))
    assert uniformity(x, normalize=True).value == pytest.approx(3.9375, abs=0.005)
    point = np.eye(4)[np.zeros(600, int)]
    assert uniformity(point).value == pytest.approx(0, abs=1e-9)
    assert tolerance(point, np.zeros(600)) == pytest.approx(1)
    point[::2] *= -1
    assert uniformity(point).value == pytest.approx(-math.log((299 + 300 * math.exp(-8)) / 599), abs=1e-6)


def test_metrics_are_their_definitions_in_any_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = _features(60, 5).numpy()
    labels = np.random.default_rng(0).integers(0, 4, 60)
    pairs = [(i, j) for i in range(60) for j in range(60) if i != j]
    kernel = np.array([math.exp(-2 * np.sum((x[i] - x[j]) ** 2)) for i, j in pairs])
    same = np.array([labels[i] == labels[j] for i, j in pairs])
    cosines = np.array([x[i] @ x[j] for i, j in pairs])
    for chunk in (7, 60, 1000):
        assert uniformity(x, chunk=chunk).value == pytest.approx(-math.log(kernel.mean()), abs=1e-6)
        between = uniformity(x, labels=labels, chunk=chunk)
        assert between.value == pytest.approx(-math.log(kernel[~same].mean()), abs=1e-6)
        assert between.pairs * 2 == (~same).sum()
    half = torch.as_tensor(x).bfloat16()  # a type that numpy does not have
    assert uniformity(half, normalize=True).value == pytest.approx(-math.log(kernel.mean()), abs=1e-2)
    for size in (13, 4096):
        monkeypatch.setattr("paperworks.papers.contrastive_loss.metrics.CHUNK", size)
        assert tolerance(x, labels) == pytest.approx(cosines[same].mean(), abs=1e-6)
        assert tolerance(x, labels, literal=True) == pytest.approx((cosines * same).mean(), abs=1e-6)
        assert alignment(x, -x) == pytest.approx(4, abs=1e-5)
        assert alignment(x[:30], x[30:], power=1) == pytest.approx(
            np.linalg.norm(x[:30] - x[30:], axis=1).mean(), abs=1e-6
        )


@pytest.mark.parametrize("labels", [None, np.arange(5000) % 3, np.arange(5000) % 1000 == 0])
def test_drawn_pairs_are_within_their_error(monkeypatch: pytest.MonkeyPatch, labels: np.ndarray | None) -> None:
    x = np.random.default_rng(1).standard_normal((5000, 3)).astype(np.float32)
    whole = uniformity(x, normalize=True, labels=labels)
    monkeypatch.setattr("paperworks.papers.contrastive_loss.metrics.EXACT_UP_TO", 100)
    monkeypatch.setattr("paperworks.papers.contrastive_loss.metrics.CHUNK", 256)
    drawn = uniformity(x, normalize=True, labels=labels, max_pairs=2_000_000)
    assert whole.standard_error == 0
    assert 0 < drawn.standard_error < 0.06
    assert abs(drawn.value - whole.value) < 5 * drawn.standard_error


def test_separation_is_brute_force() -> None:
    a, p, n = (_features(k, seed=s).numpy() for s, k in enumerate((9, 9, 15)))
    curve = separation_curve(a, p, n, top=4)
    assert curve.positive == pytest.approx((a * p).sum(1).mean(), abs=1e-6)
    np.testing.assert_allclose(curve.negatives, np.sort(a @ n.T, 1)[:, ::-1][:, :4].mean(0), atol=1e-6)
    own = a @ p.T
    np.fill_diagonal(own, -np.inf)
    inside = separation_curve(a, p)
    np.testing.assert_allclose(inside.negatives, np.sort(own, 1)[:, ::-1][:, :8].mean(0), atol=1e-6)
    assert inside.gap == pytest.approx(inside.positive - inside.negatives[0])


def test_bank_and_queue() -> None:
    bank = MemoryBank(6, 3, momentum=0.5)
    before = bank.vectors.clone()
    a = functional.normalize(torch.randn(3, 3), dim=1)
    bank.update(torch.tensor([1, 4, 1]), a)  # the last of the two counts
    torch.testing.assert_close(bank(torch.tensor([1]))[0], functional.normalize(before[1] / 2 + a[2] / 2, dim=0))
    torch.testing.assert_close(bank.vectors[4], functional.normalize(before[4] / 2 + a[1] / 2, dim=0))
    torch.testing.assert_close(bank.vectors[[0, 2, 3, 5]], before[[0, 2, 3, 5]])
    loss = ContrastiveLoss(0.2)(
        a, bank(torch.tensor([0, 1, 2])), bank.vectors, anchor_ids=torch.tensor([0, 1, 2]), negative_ids=bank.ids
    )
    assert torch.isfinite(loss)
    queue = MomentumQueue(4, 2)
    keys = functional.normalize(torch.arange(1.0, 15).reshape(7, 2), dim=1)
    queue.enqueue(keys[:3])
    queue.enqueue(keys[3:5])
    torch.testing.assert_close(queue.vectors, keys[[4, 1, 2, 3]])
    queue.enqueue(keys[[0, 1, 2, 3, 4, 5]])  # more than it holds
    assert sorted(map(tuple, queue.vectors.tolist())) == sorted(map(tuple, keys[2:6].tolist()))
    model, copy = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    expected = 0.9 * copy.weight + 0.1 * model.weight
    update_momentum_copy(copy, model, 0.9)
    torch.testing.assert_close(copy.weight, expected)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda x: ContrastiveLoss(0.0), "temperature"),
        (lambda x: ContrastiveLoss(form="hinge"), "form"),
        (lambda x: ContrastiveLoss(pairs="all"), "pairs"),
        (lambda x: ContrastiveLoss(hard_k=2, hard_fraction=0.1), "hard_k"),
        (lambda x: ContrastiveLoss(hard_fraction=0.0), "hard_fraction"),
        (lambda x: ContrastiveLoss(hard_k=0), "hard_k"),
        (lambda x: ContrastiveLoss(chunk=0), "chunk"),
        (lambda x: ContrastiveLoss(form="simple", margin=0.1), "margin"),
        (lambda x: ContrastiveLoss(form="simple", decoupled=True), "decoupled"),
        (lambda x: ContrastiveLoss(form="simple", learnable_temperature=True), "learnable_temperature"),
        (lambda x: ContrastiveLoss(simple_weight=0.5), "simple_weight"),
        (lambda x: ContrastiveLoss(normalize=False)(3 * x, x), "anchors"),
        (lambda x: ContrastiveLoss(hard_k=1)(x * torch.nan, x), "anchors"),
        (lambda x: ContrastiveLoss()(x, x[:2]), "positives"),
        (lambda x: ContrastiveLoss()(x, x, x, anchor_ids=torch.arange(4)), "negative_ids"),
        (lambda x: penalty_distribution(x, -1.0), "temperature"),
        (lambda x: penalty_distribution(x, 0.1, 9), "hard_k"),
        (lambda x: penalty_distribution(x * torch.nan, 0.1), "similarities"),
        (lambda x: gradient_shares(x[:, 0].numpy()[:2], x, 0.1), "positive"),
        (lambda x: uniformity(3 * x), "x"),
        (lambda x: uniformity(x[:1]), "x"),
        (lambda x: uniformity(x, t=0), "t"),
        (lambda x: uniformity(x, labels=[1, 1, 1, 1]), "labels"),
        (lambda x: uniformity(0 * x, normalize=True), "x"),
        (lambda x: tolerance(x, [1, 2, 3]), "labels"),
        (lambda x: tolerance(x, [1, 2, 3, 4]), "labels"),
        (lambda x: alignment(x, x[:2]), "y"),
        (lambda x: separation_curve(x, x, top=0), "top"),
        (lambda x: uniform_law(0), "dimensions"),
        (lambda x: MemoryBank(0, 3), "n"),
        (lambda x: MemoryBank(3, 3, 1.0), "momentum"),
    ],
)
def test_bad_input_is_named(call, field: str) -> None:
    with pytest.raises(InputError) as caught:
        call(_features(4))
    assert caught.value.field == field
