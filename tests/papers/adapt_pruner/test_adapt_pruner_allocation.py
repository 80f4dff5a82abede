"""Importance, sparsities and widths against what they are defined to be."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_transformers import tiny, token_ids

from paperworks.errors import InputError
from paperworks.papers.adapt_pruner.allocation import Filler, next_sparsity, removals, weakest_removed
from paperworks.papers.adapt_pruner.calibration import FreshBatches
from paperworks.papers.adapt_pruner.importance import measure, normalised
from paperworks.papers.adapt_pruner.shares import data_shares, dealt
from paperworks.structure import count, prune, units_of
from paperworks.training.losses import next_token_loss

numbers = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


@given(numbers, st.sampled_from(["max", "zscore", "rank"]))
def test_normalised_importance_has_mean_0_inside_1_and_keeps_the_order(values: list[float], how: str) -> None:
    raw = torch.tensor(values, dtype=torch.float64)
    found = normalised(raw, how)  # type: ignore[arg-type]
    assert abs(float(found.mean())) < 1e-9
    assert float(found.abs().max()) <= 1 + 1e-12
    order = raw.argsort(stable=True)
    assert bool((found[order].diff() >= -1e-12).all())


def test_equal_layers_are_zero_and_the_largest_distance_is_one() -> None:
    assert normalised(torch.full((4,), -0.9)).tolist() == [0, 0, 0, 0]
    assert normalised(torch.tensor([-1.0, -1.0, -1.0, -0.2])).tolist() == pytest.approx([-1 / 3, -1 / 3, -1 / 3, 1])
    assert normalised(torch.tensor([3.0, 1.0, 1.0, 9.0]), "rank").tolist() == pytest.approx([1 / 3, -2 / 3, -2 / 3, 1])


@given(numbers, st.floats(0.001, 0.2), st.floats(0, 0.2))
def test_increments_average_to_the_budget_and_stay_within_the_amplitude(
    values: list[float], delta: float, amplitude: float
) -> None:
    before = torch.full((len(values),), 0.45, dtype=torch.float64)
    rise = next_sparsity(before, normalised(torch.tensor(values)), delta, amplitude) - before
    assert float(rise.mean()) == pytest.approx(delta, abs=1e-9)
    assert float((rise - delta).abs().max()) <= amplitude + 1e-9


def test_sparsity_is_clipped() -> None:
    found = next_sparsity(torch.tensor([0.0, 0.985]), torch.tensor([1.0, -1.0]), 0.02, 0.05)
    assert found.tolist() == [0.0, pytest.approx(0.99)]


@pytest.mark.parametrize(
    ("kind", "start", "now", "sparsity", "width", "wanted"),
    [
        ("ffn", 100, 100, 0.02, 1, 2),  # 100 * 0.98 is 98, not 97.99...
        ("ffn", 100, 98, 0.02, 1, 0),
        ("ffn", 640, 640, 0.02, 1, 13),
        ("ffn", 10, 1, 0.99, 1, 0),
        ("ffn", 10, 3, 0.99, 1, 2),
        ("kv_group", 4, 4, 0.24, 32, 0),
        ("kv_group", 4, 4, 0.25, 32, 1),
        ("kv_group", 4, 3, 0.49, 32, 0),
        ("kv_group", 4, 3, 0.5, 32, 1),
        ("kv_group", 1, 1, 0.99, 32, 0),
    ],
)
def test_whole_units(kind: str, start: int, now: int, sparsity: float, width: int, wanted: int) -> None:
    assert removals(kind, start, now, sparsity, width) == wanted


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "opt"])
def test_filler_counts_as_the_counter_does_and_gives_back_to_within_a_unit(family: str) -> None:
    model = tiny(family)
    units = units_of(model)
    filler = Filler(model, units)
    whole = {key: s.n_units - 1 for key, s in units.items()}
    scores = {key: torch.arange(s.n_units, dtype=torch.float64) for key, s in units.items()}
    least = filler.parameters(whole)
    assert least == count(model, weakest_removed(units, scores, whole)).parameters
    target = (least + filler.now) // 2
    numbers = filler.fill({}, whole, target, [2, 0, 1])
    plan = weakest_removed(units, scores, numbers)
    reached = sum(p.numel() for p in prune(model, plan).parameters())
    cheapest = min(filler.cost[key] for key, n in numbers.items() if n)
    assert reached == filler.parameters(numbers)
    assert target - cheapest < reached <= target


def test_shares_sum_to_one() -> None:
    linear = data_shares(20)
    assert (linear[0], linear[-1]) == (1 / 210, 20 / 210)
    for split in ("linear", "constant", "cosine"):
        shares = data_shares(7, split)  # type: ignore[arg-type]
        assert sum(shares) == pytest.approx(1, abs=1e-12)
        assert all(b >= a - 1e-12 for a, b in itertools.pairwise(shares))
    assert data_shares(2, "cosine") == pytest.approx([1 - math.sqrt(0.5), math.sqrt(0.5)])
    with pytest.raises(InputError, match="data_split"):
        data_shares(2, "square")  # type: ignore[arg-type]


@given(st.integers(0, 500), st.integers(1, 20))
def test_dealt_is_exact(total: int, stages: int) -> None:
    shares = data_shares(stages)
    found = dealt(total, shares)
    assert sum(found) == total
    assert all(abs(n - total * share) < 1 for n, share in zip(found, shares, strict=True))


def test_batches_are_fresh_and_repeatable() -> None:
    tokens = token_ids(40)
    batches = FreshBatches(tokens, examples=8, batch_size=3, seed=1)
    first, second = (torch.cat([b["input_ids"] for b in batches(step)]) for step in (1, 2))
    assert first.shape == (8, 24)
    assert not torch.equal(first, second)
    again = FreshBatches(tokens, examples=8, batch_size=3, seed=1)
    assert torch.equal(first, torch.cat([b["input_ids"] for b in again(1)]))
    fixed = FreshBatches(tokens, examples=8, batch_size=3, seed=1, resample=False)
    assert torch.equal(fixed(1)[0]["input_ids"], fixed(9)[0]["input_ids"])
    asked: list[int] = []
    function = FreshBatches(lambda step: asked.append(step) or tokens[:2], batch_size=4)
    assert torch.equal(function(5)[0]["input_ids"], tokens[:2])
    assert asked == [5]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_both_orders_of_taylor_against_gradients_by_hand(family: str) -> None:
    """g: sum of minibatch means; h: mean over examples of g^2; scores: sums over the members of a unit."""
    model, tokens = tiny(family), token_ids(6, 12)
    units = units_of(model)
    batches = FreshBatches(tokens, examples=6, batch_size=3, resample=False)(1)
    found = {
        mode: measure(model, units, batches, taylor=mode, generator=torch.Generator()).units  # type: ignore[arg-type]
        for mode in ("param_first", "param_second", "param_mix")
    }
    names = {piece.param for unit_set in units.values() for piece in unit_set.slices}
    parameters = {name: model.get_parameter(name) for name in names}

    def gradients(ids: torch.Tensor) -> dict[str, torch.Tensor]:
        total, n = next_token_loss(model, {"input_ids": ids})
        return dict(zip(parameters, torch.autograd.grad(total / n, list(parameters.values())), strict=True))

    first = [gradients(batch["input_ids"]) for batch in batches]
    single = [gradients(row[None]) for batch in batches for row in batch["input_ids"]]
    for key, unit_set in units.items():
        for mode, scores in found.items():
            wanted = torch.zeros(unit_set.n_units, dtype=torch.float64)
            for piece in unit_set.slices:
                w = parameters[piece.param].detach().double()
                g = torch.stack([f[piece.param] for f in first]).double().sum(0)
                h = torch.stack([f[piece.param] for f in single]).double().square().mean(0)
                s = {"param_first": w * g, "param_second": w * h * w, "param_mix": w * g - w * h * w / 2}[mode].abs()
                for unit in range(unit_set.n_units):
                    wanted[unit] += s.index_select(piece.axis, piece.index.positions([unit])).sum()
            assert torch.allclose(scores[key], wanted, rtol=2e-4), (key, mode)


def test_distances_say_that_layers_that_change_more_matter_more() -> None:
    model, tokens = tiny("llama"), token_ids(4)
    with torch.no_grad():
        for path in ("self_attn.o_proj", "mlp.down_proj"):
            model.model.layers[1].get_submodule(path).weight.zero_()
    batches = FreshBatches(tokens, examples=4)(1)
    for metric in ("cosine", "euclidean", "manhattan"):
        found = measure(
            model,
            units_of(model),
            batches,
            layer_importance=metric,
            unit_importance="l2",  # type: ignore[arg-type]
            generator=torch.Generator(),
        ).layers
        assert int(found.argmin()) == 1
        assert float(found[1]) == pytest.approx(-1.0 if metric == "cosine" else 0.0, abs=1e-6)
