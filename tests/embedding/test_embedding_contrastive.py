"""Contrastive losses against their definitions, pytorch-metric-learning, and themselves in chunks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from paperworks.embedding import (
    LearnableTemperature,
    cached_backward,
    clip_loss,
    info_nce,
    nt_xent,
    similarity_logsumexp,
    supervised_contrastive_loss,
)
from paperworks.errors import InputError


def _features(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _gradients(loss: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, inputs))


def test_info_nce_is_its_definition() -> None:
    a, p, n = (_features(k, 6, seed=i).requires_grad_() for i, k in enumerate((4, 4, 9)))
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    unit = [functional.normalize(x, dim=1) for x in (a, p, n)]
    terms = torch.cat([(unit[0] * unit[1]).sum(1, keepdim=True), unit[0] @ unit[2].T], dim=1) / t
    expected = functional.cross_entropy(terms, torch.zeros(4, dtype=torch.long))
    wanted = _gradients(expected, a, p, n, t)
    for chunk in (None, 1, 4, 100):
        found = info_nce(a, p, n, temperature=t, chunk=chunk)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
        for ours, theirs in zip(_gradients(found, a, p, n, t), wanted, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("temperature", [0.02, 0.2, 5.0])
@pytest.mark.parametrize("chunk", [None, 3])
def test_values_and_gradients_are_pytorch_metric_learnings(temperature: float, chunk: int | None) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    for seed in range(5):
        a, b = (_features(16, 12, seed=seed * 2 + i).requires_grad_() for i in range(2))
        ids = torch.arange(16).repeat(2)
        theirs = losses.NTXentLoss(temperature)(torch.cat([a, b]), ids)
        ours = nt_xent(a, b, temperature=temperature, chunk=chunk)
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
        for x, y in zip(_gradients(ours, a, b), _gradients(theirs, a, b), strict=True):
            torch.testing.assert_close(x, y, atol=1e-6, rtol=1e-6)
        labels = torch.randint(0, 4, (16,), generator=torch.Generator().manual_seed(seed))
        theirs = losses.SupConLoss(temperature)(a, labels)
        ours = supervised_contrastive_loss(a, labels, temperature=temperature, chunk=chunk)
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(*(_gradients(x, a)[0] for x in (ours, theirs)), atol=1e-6, rtol=1e-6)


def test_clip_loss_is_the_mean_of_two_cross_entropies() -> None:
    a, b = _features(7, 5), _features(7, 5, seed=1)
    logits = functional.normalize(a, dim=1) @ functional.normalize(b, dim=1).T / 0.07
    target = torch.arange(7)
    expected = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(clip_loss(a, b), expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(clip_loss(a, b, chunk=2), expected, atol=1e-12, rtol=1e-12)


def test_numeric_gradients() -> None:
    a, k = (_features(n, 3, seed=n).requires_grad_() for n in (4, 6))
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([0, 1, 2, 9]), torch.tensor([0, 0, 1, 3, 4, 5])
    for chunk in (None, 2):
        assert torch.autograd.gradcheck(
            lambda a, k, s, c=chunk: similarity_logsumexp(a, k, s, anchor_ids=ids[0], key_ids=ids[1], chunk=c),
            (a, k, scale),
        )


def test_ids_leave_negatives_out_and_a_row_without_any_costs_nothing() -> None:
    a, p, bank = _features(3, 4), _features(3, 4, seed=1), _features(5, 4, seed=2)
    own = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2, 3, 4])
    found = info_nce(a, p, bank, anchor_ids=own[0], negative_ids=own[1], reduction="none")
    for i in range(3):
        rest = torch.tensor([j for j in range(5) if j != i])
        alone = info_nce(a[i : i + 1], p[i : i + 1], bank[rest])
        assert float(found[i]) == pytest.approx(float(alone), abs=1e-12)
    a.requires_grad_()
    nothing = info_nce(a, p, bank[:1], anchor_ids=torch.zeros(3, dtype=torch.long), negative_ids=torch.tensor([0]))
    assert float(nothing.detach()) == 0
    assert _gradients(nothing, a)[0].abs().max() == 0
    assert float(nt_xent(a[:1], p[:1]).detach()) == pytest.approx(0, abs=1e-12)
    duplicates = info_nce(a, p, anchor_ids=torch.tensor([5, 5, 6]), reduction="none")
    assert float(duplicates[0].detach()) == pytest.approx(float(info_nce(a[:1], p[:1], p[2:]).detach()), abs=1e-12)
    lonely = supervised_contrastive_loss(a, torch.tensor([1, 2, 3]))
    assert float(lonely.detach()) == 0


def test_small_temperatures_and_half_precision_do_not_overflow() -> None:
    a, b = _features(8, 16, dtype=torch.float16), _features(8, 16, seed=1, dtype=torch.float16)
    found = nt_xent(a.requires_grad_(), b, temperature=0.005)
    assert found.dtype == torch.float32
    assert torch.isfinite(found)
    assert torch.isfinite(_gradients(found, a)[0]).all()
    with torch.autocast("cpu", torch.bfloat16):
        plain = nt_xent(a.detach().float(), b.float(), temperature=0.005)
    torch.testing.assert_close(plain, found.detach(), atol=2e-2, rtol=2e-3)


def test_learned_temperature() -> None:
    t = LearnableTemperature(0.07)
    assert float(t()) == pytest.approx(0.07)
    nt_xent(_features(4, 4).float(), _features(4, 4, seed=1).float(), temperature=t()).backward()
    assert t.log_scale.grad is not None
    assert t.log_scale.grad.abs() > 0
    t.log_scale.data.fill_(50.0)
    assert float(t()) == pytest.approx(0.01)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_cached_gradients_are_those_of_the_whole_batch(dropout: float) -> None:
    torch.manual_seed(0)
    left = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 4)).double()
    right = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    temperature = LearnableTemperature().double()
    x, y = _features(20, 6), _features(20, 5, seed=1)
    parameters = [*left.parameters(), *right.parameters(), *temperature.parameters()]

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return clip_loss(a, b, temperature=temperature())

    torch.manual_seed(5)
    # Chunks one after the other get the same dropout masks as in cached_backward.
    expected = loss(torch.cat([left(part) for part in x.split(6)]) if dropout else left(x), right(y))
    wanted = torch.autograd.grad(expected, parameters)
    torch.manual_seed(5)
    found = cached_backward([(left, x.split(6)), (right, y.split(7))], loss)
    torch.testing.assert_close(found, expected.detach(), atol=1e-12, rtol=1e-12)
    for parameter, gradient in zip(parameters, wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-6)


def test_equal_similarities_give_the_logarithm_of_their_number() -> None:
    same = torch.ones(8, 3, dtype=torch.float64)
    assert float(nt_xent(same, same, temperature=0.1)) == pytest.approx(math.log(15), abs=1e-12)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda a: nt_xent(a, a, temperature=0), "temperature"),
        (lambda a: nt_xent(a, a, temperature=float("nan")), "temperature"),
        (lambda a: nt_xent(a, a[:2]), "second"),
        (lambda a: info_nce(a, a[:2]), "positives"),
        (lambda a: info_nce(a, a, a, anchor_ids=torch.arange(4)), "negative_ids"),
        (lambda a: info_nce(a, a, normalize=False), "anchors"),
        (lambda a: nt_xent(a * torch.nan, a), "first"),
        (lambda a: nt_xent(a, a[0]), "second"),
        (lambda a: clip_loss(a.long(), a), "first"),
        (lambda a: nt_xent(a, a, reduction="max"), "reduction"),
        (lambda a: supervised_contrastive_loss(a, torch.arange(3)), "labels"),
        (lambda a: LearnableTemperature(0.001), "temperature"),
    ],
)
def test_bad_input_is_named(call, field: str) -> None:
    with pytest.raises(InputError) as caught:
        call(3 * _features(4, 3))
    assert caught.value.field == field
