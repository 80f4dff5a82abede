"""Masks keep exactly what was asked for and survive optimisers; second order is least squares."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.pruning_survey.layerwise import (
    damped,
    input_grams,
    obs_row,
    sparsegpt,
    sparsegpt_layers,
)
from paperworks.papers.pruning_survey.masks import (
    MaskCallback,
    apply_masks,
    best_blocks,
    by_pattern,
    check_collapse,
    density_of,
    keep_best,
    kernel_patterns,
    layer_densities,
    least_kept,
    n_of_m,
    prunable_weights,
    same_masks,
    top,
)
from paperworks.training import TrainSettings, cross_entropy_loss, make_optimizer, train

SHAPES = {"a": torch.Size((8, 4, 3, 3)), "b": torch.Size((16, 8, 3, 3)), "c": torch.Size((10, 16))}


def _scores(seed: int = 0, *, ties: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {name: torch.rand(shape, generator=generator) for name, shape in SHAPES.items()}
    return {name: (value * 3).floor() for name, value in found.items()} if ties else found


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 1.0), st.integers(0, 5), st.booleans())
def test_a_mask_keeps_exactly_as_many_as_were_asked_for(density: float, seed: int, ties: bool) -> None:
    scores = _scores(seed, ties=ties)
    total = sum(v.numel() for v in scores.values())
    masks = keep_best(scores, density)
    assert sum(int(m.sum()) for m in masks.values()) == round(density * total)
    kept = torch.cat([v[masks[n]] for n, v in scores.items()])
    gone = torch.cat([v[~masks[n]] for n, v in scores.items()])
    if len(gone) and len(kept):
        assert float(kept.min()) >= float(gone.max())
    for name, mask in keep_best(scores, density, "local").items():
        assert int(mask.sum()) == round(density * scores[name].numel())
    rows = keep_best(scores, density, "row")["c"]
    assert set(rows.sum(1).tolist()) == {round(density * 16)}


def test_of_equal_scores_the_first_stay() -> None:
    assert top(torch.zeros(2, 3), 2).flatten().tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize("density", [0.05, 0.2, 0.6])
def test_erk_is_proportional_and_meets_the_density(density: float) -> None:
    shares = layer_densities(SHAPES, density, "erk")
    sizes = {n: s.numel() for n, s in SHAPES.items()}
    assert sum(shares[n] * sizes[n] for n in SHAPES) == pytest.approx(density * sum(sizes.values()))
    assert max(shares.values()) <= 1
    free = [n for n in SHAPES if shares[n] < 1]
    ratios = [shares[n] / (sum(SHAPES[n]) / sizes[n]) for n in free]
    assert np.allclose(ratios, ratios[0])


def test_uniform_plus_keeps_the_first_layer_and_a_fifth_of_the_last() -> None:
    shares = layer_densities(SHAPES, 0.4, "uniform-plus")
    assert shares["a"] == 1
    assert layer_densities({**SHAPES, "a": torch.Size((2, 1))}, 0.1, "uniform-plus")["c"] == 0.2
    with pytest.raises(InputError, match="first and last"):
        layer_densities(SHAPES, 0.1, "uniform-plus")


def test_a_floor_holds_in_every_tensor() -> None:
    scores = _scores()
    scores["c"] = scores["c"] - 5  # a global ranking would empty it
    assert least_kept(keep_best(scores, 0.3)) == 0
    with pytest.raises(InputError, match="empties c"):
        check_collapse(keep_best(scores, 0.3))
    masks = keep_best(scores, 0.3, floor=0.1)
    assert int(masks["c"].sum()) == 16
    assert density_of(masks) == pytest.approx(0.3, abs=1e-3)
    with pytest.raises(InputError, match="floor"):
        keep_best(scores, 0.05, floor=0.1)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8)])
def test_n_of_every_m_inputs_at_each_kernel_position(n: int, m: int) -> None:
    scores = torch.rand(6, 16, 3, 3)
    mask = n_of_m(scores, n, m)
    groups = mask.movedim(1, -1).reshape(-1, m)
    assert set(groups.sum(1).tolist()) == {n}
    best = scores.movedim(1, -1).reshape(-1, m)
    assert all(
        float(row[keep].min()) >= float(row[~keep].max()) for row, keep in zip(best[:50], groups[:50], strict=True)
    )
    with pytest.raises(InputError, match="multiple"):
        n_of_m(torch.rand(2, 6), n, m)


def test_blocks_and_kernel_patterns() -> None:
    mask = best_blocks(torch.rand(8, 12), 4, 3, 0.5)
    blocks = mask.unflatten(0, (2, 4)).unflatten(2, (4, 3)).movedim(2, 1).flatten(2)
    assert int(blocks.all(2).sum()) == 4
    assert bool((blocks.all(2) | ~blocks.any(2)).all())
    assert best_blocks(torch.rand(5, 7), 4, 3, 0.5).shape == (5, 7)
    kernels = kernel_patterns(torch.rand(6, 5, 3, 3), 4, 3).flatten(2).flatten(0, 1)
    assert set(kernels.sum(1).tolist()) == {4}
    assert len(kernels.unique(dim=0)) <= 3
    named = by_pattern(_scores(), "2:4", 1.0)
    assert density_of(named) == pytest.approx(0.5)
    assert by_pattern(_scores(), "kernel:4", 1.0)["c"].all()
    for words in ("2:", "x", "block:4", "block:0x1", "3:7", "5:4"):
        with pytest.raises(InputError, match="pattern"):
            by_pattern(_scores(), words, 0.5)


@pytest.mark.parametrize("bad", [0, -0.1, 1.2, float("nan"), True])
def test_densities_out_of_range(bad: float) -> None:
    with pytest.raises(InputError, match="density"):
        keep_best(_scores(), bad)


def test_scores_that_are_not_finite_are_named() -> None:
    scores = _scores()
    scores["b"][0, 0] = float("nan")
    with pytest.raises(InputError, match="scores of b"):
        keep_best(scores, 0.5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_masks_survive_fifty_steps_with_momentum_and_decay(optimizer: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    data = {"inputs": torch.randn(64, 6), "labels": torch.randint(3, (64,))}
    options = TrainSettings(
        steps=5, batch_size=16, optimizer=optimizer, learning_rate=0.05, weight_decay=0.1, device="cpu"
    )
    used = make_optimizer(model, options, fused=False)
    train(model, data, options, loss=cross_entropy_loss(), optimizer=used)  # moments from before the masks
    masks = keep_best({n: w.detach().abs() for n, w in prunable_weights(model).items()}, 0.3)
    longer = TrainSettings(**{**options.__dict__, "steps": 50})
    with MaskCallback(model, masks, used) as held:
        train(model, data, longer, loss=cross_entropy_loss(), optimizer=used, callbacks=[held])
        for name, weight in prunable_weights(model).items():
            assert not weight[~masks[name]].any()
            moments = [v for v in used.state[weight].values() if v.shape == weight.shape]
            assert moments
            assert not any(bool(v[~masks[name]].any()) for v in moments)
    assert not any(w._backward_hooks for w in prunable_weights(model).values())
    again = MaskCallback(model, {})
    again.load_state_dict(held.state_dict())
    assert same_masks(again.masks, masks)
    with pytest.raises(InputError, match="masks"):
        apply_masks(model, {"0.weight": torch.ones(2, 2, dtype=torch.bool)})


def _case(width: int = 7, rows: int = 3, samples: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    x = torch.randn(samples, width, generator=generator, dtype=torch.float64) @ mixing
    return torch.randn(rows, width, generator=generator, dtype=torch.float64), x.T @ x


def test_sparsegpt_is_least_squares_on_the_columns_that_are_left() -> None:
    """Column after column: what stays to the right is the best fit, given what is to the left already."""
    w, gram = _case()
    mask = torch.rand(w.shape, generator=torch.Generator().manual_seed(3)) > 0.4
    found, kept = sparsegpt(w, gram, mask=mask, damping=0.0, block=7)
    assert torch.equal(kept, mask)
    for row, keep, result in zip(w, mask, found, strict=True):
        change = torch.zeros_like(row)
        for j in range(len(row)):
            free = np.arange(j, len(row))
            fixed = np.arange(j)
            moved = -np.linalg.solve(gram[free][:, free], gram[free][:, fixed] @ change[fixed]) if j else [0.0]
            change[j] = moved[0] if keep[j] else -row[j]
        assert torch.allclose(result, torch.where(keep, row + change, torch.zeros_like(row)), atol=1e-9)


def test_columns_that_leave_first_give_plain_least_squares() -> None:
    w, gram = _case()
    mask = torch.ones_like(w, dtype=torch.bool)
    mask[:, :3] = False
    found, _ = sparsegpt(w, gram, mask=mask, damping=0.0)
    expected = torch.linalg.solve(gram[3:, 3:], gram[3:] @ w.T).T
    assert torch.allclose(found[:, 3:], expected, atol=1e-9)


@pytest.mark.parametrize("block", [2, 3, 128])
def test_blocks_do_not_change_a_given_mask(block: int) -> None:
    w, gram = _case()
    mask = torch.rand(w.shape, generator=torch.Generator().manual_seed(4)) > 0.5
    whole, _ = sparsegpt(w, gram, mask=mask)
    assert torch.allclose(sparsegpt(w, gram, mask=mask, block=block)[0], whole, atol=1e-9)


def test_sparsegpt_that_removes_nothing_changes_nothing() -> None:
    w, gram = _case()
    found, kept = sparsegpt(w, gram, density=1.0)
    assert torch.equal(found, w)
    assert bool(kept.all())


def test_sparsegpt_numbers_and_patterns() -> None:
    w, gram = _case(width=16, rows=6, samples=60)
    assert int(sparsegpt(w, gram, density=0.25)[1].sum()) == 24
    kept = sparsegpt(w, gram, pattern=(2, 4))[1]
    assert set(kept.view(6, 4, 4).sum(2).flatten().tolist()) == {2}
    error = [float(((w - v) @ gram * (w - v)).sum()) for v in (sparsegpt(w, gram, density=0.5)[0],)]
    plain = torch.where(top(w.abs(), 48), w, torch.zeros_like(w))
    assert error[0] < float(((w - plain) @ gram * (w - plain)).sum())
    for options in ({}, {"density": 0.5, "pattern": (2, 4)}, {"pattern": (2, 5)}):
        with pytest.raises(InputError):
            sparsegpt(w, gram, **options)


def test_optimal_brain_surgeon_is_least_squares_on_what_is_kept() -> None:
    w, gram = _case()
    for row in w:
        found, kept = obs_row(row, gram, 3)
        assert int(kept.sum()) == 4
        expected = torch.linalg.solve(gram[kept][:, kept], gram[kept] @ row)
        assert torch.allclose(found[kept], expected, atol=1e-8)
        first = obs_row(row, gram, 1)[1]
        errors = []
        for q in range(len(row)):
            rest = [i for i in range(len(row)) if i != q]
            best = torch.linalg.solve(gram[rest][:, rest], gram[rest] @ row)
            moved = row.clone()
            moved[rest], moved[q] = best, 0
            errors.append(float((row - moved) @ gram @ (row - moved)))
        assert int((~first).nonzero()) == int(np.argmin(errors))


def test_grams_of_convolutions_are_those_of_their_patches() -> None:
    model = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    x = torch.randn(70, 4, 4, 4)
    weights = prunable_weights(model)
    grams = input_grams(model, weights, [{"inputs": x}])
    padded = nn.functional.pad(x, (1, 1, 1, 1)).double()
    expected = torch.zeros(2, 18, 18, dtype=torch.float64)
    for i, j in itertools.product(range(0, 4, 2), repeat=2):
        for group in range(2):
            patch = padded[:, 2 * group : 2 * group + 2, i : i + 3, j : j + 3].flatten(1)
            expected[group] += patch.T @ patch
    assert torch.allclose(grams["0.weight"], expected, rtol=1e-4, atol=1e-4)
    assert grams["3.weight"].shape == (1, 24, 24)
    before = model(x).detach()
    masks = sparsegpt_layers(weights, grams, density=0.5)
    assert density_of(masks) == pytest.approx(0.5, abs=0.02)
    assert not torch.equal(model(x), before)
    assert bool((damped(grams["3.weight"]).diagonal(dim1=1, dim2=2) > 0).all())
    with pytest.raises(InputError, match="convolution"):
        sparsegpt_layers(weights, grams, pattern=(1, 2))
